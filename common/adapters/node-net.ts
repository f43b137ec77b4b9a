import { connect, createServer, type Socket } from 'node:net';
import { TfsError } from '../errors.ts';
import { formatHostPort, type HostPort } from '../ids.ts';
import type { Listener, Net, Stream } from '../seams/net.ts';

/** Finds a machine that is gone on an idle connection; one with calls is found by its deadlines. */
const KEEP_ALIVE_MS = 15_000;
const BACKLOG = 1024;
/** TCP. Everything written in one turn of the event loop goes out in one `writev`. */
export const nodeNet: Net = {
  connect(address, timeoutMs) {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address.host, port: address.port, noDelay: true });
      const lost = (why: string, cause?: Error) => {
        clearTimeout(timer);
        socket.destroy();
        const where = formatHostPort(address);
        reject(new TfsError('CONNECTION_LOST', `${where}: ${why}`, { cause }));
      };
      const timer = setTimeout(() => lost(`no connection within ${timeoutMs} ms`), timeoutMs);
      const onError = (error: Error) => lost(error.message, error);
      socket.once('error', onError);
      socket.once('connect', () => {
        clearTimeout(timer);
        const stream = new SocketStream(socket);
        socket.off('error', onError);
        resolve(stream);
      });
    });
  },

  listen(address, onStream) {
    return new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true }, (socket) => onStream(new SocketStream(socket)));
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(address, error)));
      server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, () => {
        // An error after this point (out of descriptors on accept) costs one connection, not the server.
        server.on('error', ignore);
        const bound = server.address();
        const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
        resolve(listenerOf(server, { host: address.host, port }));
      });
    });
  },
};

function listenerOf(server: ReturnType<typeof createServer>, address: HostPort): Listener {
  return {
    address,
    // The callback of close() would wait for the open streams; the port itself is free at once.
    close: async () => void server.close(),
  };
}

class SocketStream implements Stream {
  readonly remote: HostPort;
  onData: (data: Buffer) => void = ignore;
  onClose: (error: Error | undefined) => void = ignore;
  onDrain: () => void = ignore;
  readonly #socket: Socket;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #flushing = false;
  #ending = false;
  #error: Error | undefined;
  readonly #flush = (): void => this.#writeOut();

  constructor(socket: Socket) {
    this.#socket = socket;
    this.remote = { host: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('data', (data) => this.onData(data));
    socket.on('drain', () => this.onDrain());
    // The peer has nothing more to say; nobody here sends to one that does not listen for answers.
    socket.on('end', () => socket.destroy());
    socket.on('error', (error) => {
      this.#error ??= error;
    });
    socket.on('close', () => {
      this.#pieces = [];
      this.#pieceBytes = 0;
      this.onClose(this.#error);
    });
  }

  write(buffers: readonly Buffer[]): number {
    if (this.#ending || this.#socket.destroyed) return 0;
    for (let i = 0; i < buffers.length; i++) {
      const piece = buffers[i]!;
      this.#pieces.push(piece);
      this.#pieceBytes += piece.length;
    }
    if (!this.#flushing) {
      this.#flushing = true;
      setImmediate(this.#flush);
    }
    return this.#pieceBytes + this.#socket.writableLength;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#ending) return;
    if (this.#flushing) this.#writeOut();
    this.#ending = true;
    this.#socket.end();
  }

  destroy(error?: Error): void {
    this.#error ??= error;
    this.#socket.destroy();
  }

  #writeOut(): void {
    if (!this.#flushing) return;
    this.#flushing = false;
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#pieceBytes = 0;
    const socket = this.#socket;
    if (socket.destroyed) return;
    // Corked, the pieces go out in one writev; copying small ones together first gained nothing measurable.
    socket.cork();
    for (let i = 0; i < pieces.length; i++) socket.write(pieces[i]!);
    socket.uncork();
  }
}

function listenError(address: HostPort, error: NodeJS.ErrnoException): TfsError {
  const where = formatHostPort(address);
  if (error.code === 'EADDRINUSE')
    return new TfsError('CONFLICT', `port ${address.port} on ${address.host} is taken by another process`, {
      cause: error,
    });
  return new TfsError('CONFIG', `cannot listen on ${where}: ${error.message}`, { cause: error });
}

function ignore(): void {}
