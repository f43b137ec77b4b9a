import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server } from 'node:http';
import { freePorts } from './ports.ts';
import type { TestContext } from './suite.ts';

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Monotonic. */
  readonly atMs: number;
}

/** What a cache answers; `hang`: nothing, until it is ended. */
export type Answer = number | 'hang' | { readonly status: number; readonly location: string };

/** A cache in front, as far as purges see it: on a port of its own, there or not there as a test likes. */
export class CacheOfTest {
  readonly port: number;
  readonly seen: SeenRequest[] = [];
  answer: Answer = 200;
  /** Requests that are under way, and the most there ever were. */
  open = 0;
  openMax = 0;
  #server: Server | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  /** There already. */
  static async start(t: TestContext): Promise<CacheOfTest> {
    const cache = new CacheOfTest(await freePorts(1));
    t.defer(() => cache.stop());
    await cache.start();
    return cache;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Names of the PURGEs it has answered as done, in their order. */
  readonly purged: string[] = [];

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      void this.#take(request).then(() => {
        const { answer } = this;
        if (answer === 'hang') return;
        this.open--;
        const status = typeof answer === 'number' ? answer : answer.status;
        if (status < 300) this.#note(this.seen.at(-1)!);
        response.writeHead(status, typeof answer === 'number' ? {} : { location: answer.location });
        response.end('x'.repeat(100));
      });
    });
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  async #take(request: IncomingMessage): Promise<void> {
    this.openMax = Math.max(this.openMax, ++this.open);
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const { method = '', url: path = '', headers } = request;
    this.seen.push({ method, path, headers, body: Buffer.concat(pieces), atMs: performance.now() });
  }

  #note({ method, path, body }: SeenRequest): void {
    if (method === 'PURGE') this.purged.push(path.split('/').at(-1)!);
    else this.purged.push(...(JSON.parse(body.toString()) as { names: string[] }).names);
  }
}
