import type { IncomingMessage } from 'node:http';
import { LINGER_BYTES_MAX, LINGER_MS_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';

/**
 * Lets a client whose upload was refused see why. A socket that is closed while bytes wait in it resets the connection,
 * and the reset may overtake the answer; so after the answer the sending side is closed first, and what the client
 * still sends is read and dropped until it stops, for a short while and not beyond {@link LINGER_BYTES_MAX}.
 *
 * Called before an answer with `Connection: close` to a request whose body was not read to its end.
 */
export function linger(request: IncomingMessage, clock: Clock): void {
  const { socket } = request;
  const destroyNow = socket.destroySoon.bind(socket);
  let dropped = 0;
  let answered = false;
  let enough = false;
  const stop = () => {
    if (enough) return;
    enough = true;
    request.pause();
    timer.cancel();
    if (answered) destroyNow();
  };
  const timer = clock.after(LINGER_MS_MAX, stop);
  request.on('data', (piece: Buffer) => {
    dropped += piece.length;
    if (dropped > LINGER_BYTES_MAX) stop();
  });
  request.on('end', stop).on('error', stop).on('close', stop);
  request.resume();
  // node:http calls this when the answer has been written.
  socket.destroySoon = () => {
    answered = true;
    if (enough) destroyNow();
    else socket.end();
  };
}
