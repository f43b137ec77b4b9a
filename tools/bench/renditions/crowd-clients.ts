import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Connected at a time: more than a listening socket keeps waiting would be tried again a second later. */
const CONNECTS = 200;
const END_OF_HEAD = Buffer.from('\r\n\r\n');

export interface CrowdResult {
  /** From the moment all ask to the last byte of each answer, sorted. */
  readonly ms: readonly number[];
  /** Answers other than 200. */
  readonly errors: number;
  /** Connections that ended before their answer. */
  readonly lost: number;
}

/** Many clients that ask for the same thing in the same moment, each on a connection of its own that is open already. */
export class Crowd {
  readonly #sockets: readonly Socket[];

  static async gather(port: number, count: number): Promise<Crowd> {
    const sockets: Socket[] = [];
    while (sockets.length < count) {
      const more = Array.from({ length: Math.min(CONNECTS, count - sockets.length) }, () =>
        connect({ port, host: '127.0.0.1', noDelay: true }),
      );
      await Promise.all(more.map((socket) => once(socket, 'connect')));
      sockets.push(...more);
    }
    return new Crowd(sockets);
  }

  private constructor(sockets: readonly Socket[]) {
    this.#sockets = sockets;
  }

  async get(path: string): Promise<CrowdResult> {
    const request = `GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`;
    const startedAt = performance.now();
    const answers = this.#sockets.map(answerOn);
    for (const socket of this.#sockets) socket.write(request);
    const all = await Promise.all(answers);
    const ms = all.filter(({ status }) => status !== undefined).map(({ at }) => at - startedAt);
    return {
      ms: ms.sort((a, b) => a - b),
      errors: all.filter(({ status }) => status !== undefined && status !== 200).length,
      lost: all.filter(({ status }) => status === undefined).length,
    };
  }

  leave(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

interface Answer {
  readonly at: number;
  /** Undefined when the connection ended before it was whole. */
  readonly status: number | undefined;
}

/** The next answer on a connection, which says its length. */
function answerOn(socket: Socket): Promise<Answer> {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    let left: number | undefined;
    let status = 0;
    const end = (how: number | undefined) => {
      socket.off('data', onData).off('close', onClose).off('error', onClose);
      resolve({ at: performance.now(), status: how });
    };
    const onClose = () => end(undefined);
    const onData = (piece: Buffer) => {
      if (left === undefined) {
        head = Buffer.concat([head, piece]);
        const at = head.indexOf(END_OF_HEAD);
        if (at < 0) return;
        const text = head.toString('latin1', 0, at);
        status = Number(text.slice(9, 12));
        left = Number(/^content-length: (\d+)/im.exec(text)?.[1]) - (head.length - at - END_OF_HEAD.length);
      } else left -= piece.length;
      if (left <= 0) end(status);
    };
    socket.on('data', onData).on('close', onClose).on('error', onClose);
  });
}
