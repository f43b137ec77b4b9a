import { createHash } from 'node:crypto';
import { chmod, mkdir, rename, rm, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { ERROR_TABLE, type ErrorCode, TfsError, toTfsError } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import type { CachedRendition } from './disk-cache.ts';
import { FORMATS, type Format, type Rendition } from './rendition.ts';
import type { MadeElsewhere } from './renditions.ts';
import type { Settled } from './settled.ts';

export interface SiblingsOptions {
  /** Of the sockets, for the user of the gateway alone. */
  readonly directory: string;
  /** Which worker this is, 0.. */
  readonly index: number;
  /** How many there are. */
  readonly count: number;
  readonly log: Log;
  /** A sibling wants a rendition that is for this worker to make. */
  readonly make: (name: string, rendition: Rendition) => Promise<CachedRendition>;
  /** A sibling has been told that the state of a picture changes. */
  readonly changed: (name: string) => void;
}

/** What a worker waits for another one, which may have been stopped; then it makes the rendition itself. */
const MAKE_MS_MAX = 15_000;
const TELL_MS_MAX = 250;
const CONNECTIONS_MAX = 256;
const ASK_BYTES_MAX = 16 * 1024;
/** Longer ones cannot be bound (sun_path). */
const SOCKET_PATH_BYTES_MAX = 100;

/**
 * The workers of one gateway, among themselves: each rendition belongs to one of them, which makes it for all, so that it is
 * made once; and what one of them is told of a picture the others are told too. Over Unix sockets in a directory that
 * nobody else can enter.
 */
export class Siblings implements MadeElsewhere {
  readonly #options: SiblingsOptions;
  readonly #agents: readonly (Agent | undefined)[];
  readonly #server: Server;
  #inode: number | undefined;

  static async open(options: SiblingsOptions): Promise<Siblings> {
    const siblings = new Siblings(options);
    if (options.count > 1) {
      try {
        await siblings.#listen();
      } catch (error) {
        const { message } = toTfsError(error);
        options.log.warn({ reason: message }, 'this worker has no others: each makes renditions for itself');
      }
    }
    return siblings;
  }

  private constructor(options: SiblingsOptions) {
    this.#options = options;
    this.#agents = Array.from({ length: options.count }, (_, i) =>
      i === options.index
        ? undefined
        : new Agent({ connect: { socketPath: this.#path(i) }, connections: CONNECTIONS_MAX, pipelining: 1 }),
    );
    this.#server = createServer((req, res) => {
      this.#serve(req, res).catch((error: unknown) => sendError(res, error));
    });
  }

  async make(name: string, settled: Settled): Promise<CachedRendition | undefined> {
    const agent = this.#agents[this.#ownerOf(settled.id)];
    if (agent === undefined) return undefined;
    let answer: { status: number; headers: Record<string, unknown>; bytes: Buffer };
    try {
      const { statusCode, headers, body } = await request('http://sibling/make', {
        dispatcher: agent,
        method: 'POST',
        body: JSON.stringify({ name, rendition: settled.rendition }),
        headersTimeout: MAKE_MS_MAX,
        bodyTimeout: MAKE_MS_MAX,
      });
      answer = { status: statusCode, headers, bytes: Buffer.from(await body.arrayBuffer()) };
    } catch (err) {
      // It is being restarted: made twice is better than not at all.
      this.#options.log.debug({ err }, 'the worker whose rendition it is does not answer');
      return undefined;
    }
    if (answer.status !== 200) throw errorOf(answer.bytes);
    const format = String(answer.headers['x-format']) as Format;
    if (!FORMATS.includes(format)) throw new TfsError('INTERNAL', 'a sibling has made something else');
    return {
      bytes: answer.bytes,
      format,
      width: Number(answer.headers['x-width']),
      height: Number(answer.headers['x-height']),
    };
  }

  /** Resolves when they all know, or shortly after: one that has not heard of it finds out within a second by itself. */
  async tell(name: string): Promise<void> {
    await Promise.all(
      this.#agents.map(async (agent) => {
        if (agent === undefined) return;
        try {
          const { body } = await request('http://sibling/changed', {
            dispatcher: agent,
            method: 'POST',
            body: JSON.stringify({ name }),
            signal: AbortSignal.timeout(TELL_MS_MAX),
          });
          await body.dump();
        } catch (err) {
          this.#options.log.debug({ err }, 'a worker was not told of a change');
        }
      }),
    );
  }

  async close(): Promise<void> {
    if (this.#inode !== undefined) {
      const path = this.#path(this.#options.index);
      // The next process may have put its own there already.
      const there = await stat(path).catch(() => undefined);
      if (there?.ino === this.#inode) await rm(path, { force: true });
      await new Promise<void>((resolve) => {
        this.#server.close(() => resolve());
        this.#server.closeAllConnections();
      });
    }
    await Promise.all(this.#agents.map((agent) => agent?.destroy()));
  }

  /** By name and spelling, so that it is the same in every worker. */
  #ownerOf(id: string): number {
    return createHash('sha256').update(id).digest().readUInt32LE(0) % this.#options.count;
  }

  #path(index: number): string {
    return join(this.#options.directory, `gateway-${index}.sock`);
  }

  async #listen(): Promise<void> {
    const { directory, index } = this.#options;
    const path = this.#path(index);
    if (Buffer.byteLength(path) + 12 > SOCKET_PATH_BYTES_MAX)
      throw new TfsError(
        'CONFIG',
        `${path} is too long for a socket: have TFS_HOME be a directory with a path of less than ${SOCKET_PATH_BYTES_MAX - 32} bytes`,
      );
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    // A socket removes its own path when it is closed, and in a reload that would be the one of the next process.
    const own = `${path}.${process.pid}`;
    await rm(own, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(own, () => resolve());
    });
    this.#inode = (await stat(own)).ino;
    await rename(own, path);
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    let size = 0;
    for await (const piece of req) {
      size += (piece as Buffer).length;
      if (size > ASK_BYTES_MAX) throw new TfsError('TOO_LARGE', 'a sibling asks for too much');
      pieces.push(piece as Buffer);
    }
    const asked = JSON.parse(Buffer.concat(pieces).toString('utf8')) as {
      name: string;
      rendition: Rendition;
    };
    if (req.url === '/changed') {
      this.#options.changed(asked.name);
      res.writeHead(204).end();
      return;
    }
    const { bytes, format, width, height } = await this.#options.make(asked.name, asked.rendition);
    res.writeHead(200, {
      'Content-Length': bytes.length,
      'X-Format': format,
      'X-Width': width,
      'X-Height': height,
    });
    res.end(bytes);
  }
}

function sendError(res: ServerResponse, thrown: unknown): void {
  if (res.headersSent) {
    res.destroy();
    return;
  }
  const { code, message, retryAfterMs } = toTfsError(thrown);
  res.writeHead(500).end(JSON.stringify({ code, message, retryAfterMs }));
}

function errorOf(bytes: Buffer): TfsError {
  try {
    const { code, message, retryAfterMs } = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
    if (typeof code === 'string' && code in ERROR_TABLE)
      return new TfsError(code as ErrorCode, String(message), {
        ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
      });
  } catch {
    // Said below.
  }
  return new TfsError('INTERNAL', 'a sibling has failed');
}
