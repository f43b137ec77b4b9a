import { TfsError } from '../../common/errors.ts';
import { formatHostPort, type HostPort } from '../../common/ids.ts';
import type { Listener, Net, Stream } from '../../common/seams/net.ts';

export interface MemoryNetOptions {
  /** Cuts what is written into the pieces it arrives in; whole when absent. */
  readonly cut?: (data: Buffer) => readonly Buffer[];
  /** Bytes on the way in one direction past which they count as queued at the sender. */
  readonly windowBytes?: number;
}

/**
 * A network in memory: one turn of the event loop from one end to the other, in order, without loss, until a test says
 * otherwise through {@link links}.
 */
export class MemoryNet implements Net {
  readonly links: MemoryLink[] = [];
  readonly #options: MemoryNetOptions;
  readonly #listeners = new Map<string, (stream: Stream) => void>();
  #port = 40_000;
  /** Dials are refused, or not answered at all. */
  refuse: 'no' | 'refused' | 'silent' = 'no';
  dials = 0;

  constructor(options: MemoryNetOptions = {}) {
    this.#options = options;
  }

  async connect(address: HostPort, timeoutMs: number): Promise<Stream> {
    this.dials++;
    const where = formatHostPort(address);
    await turn();
    const accept = this.#listeners.get(where);
    if (this.refuse === 'silent')
      throw new TfsError('CONNECTION_LOST', `${where}: nothing in ${timeoutMs} ms`);
    if (accept === undefined || this.refuse === 'refused')
      throw new TfsError('CONNECTION_LOST', `${where}: refused`);
    const link = new MemoryLink({ host: '127.0.0.1', port: this.#port++ }, address, this.#options);
    this.links.push(link);
    accept(link.server);
    return link.client;
  }

  async listen(address: HostPort, onStream: (stream: Stream) => void): Promise<Listener> {
    const bound = address.port === 0 ? { host: address.host, port: this.#port++ } : address;
    const where = formatHostPort(bound);
    if (this.#listeners.has(where)) throw new TfsError('CONFLICT', `port ${bound.port} is taken`);
    this.#listeners.set(where, onStream);
    return {
      address: bound,
      close: async () => void this.#listeners.delete(where),
    };
  }
}

/** Both ends of one connection, and what may happen to it. */
export class MemoryLink {
  readonly client: MemoryStream;
  readonly server: MemoryStream;
  /** Nothing arrives any more, neither data nor the end of the connection: a machine that lost its power. */
  frozen = false;

  constructor(clientAddress: HostPort, serverAddress: HostPort, options: MemoryNetOptions) {
    this.client = new MemoryStream(this, serverAddress, options);
    this.server = new MemoryStream(this, clientAddress, options);
    this.client.peer = this.server;
    this.server.peer = this.client;
  }

  /** The connection breaks for both. */
  cut(error: Error = new Error('connection reset')): void {
    this.client.closeWith(error);
    this.server.closeWith(error);
  }
}

export class MemoryStream implements Stream {
  readonly remote: HostPort;
  onData: (data: Buffer) => void = ignore;
  onClose: (error: Error | undefined) => void = ignore;
  onDrain: () => void = ignore;
  peer!: MemoryStream;
  paused = false;
  closed = false;
  /** How often a flush reached this end: frames written in one turn arrive together. */
  arrivals = 0;
  readonly #link: MemoryLink;
  readonly #options: MemoryNetOptions;
  #inbox: Buffer[] = [];
  #inboxBytes = 0;
  #ending = false;
  #pumping = false;
  #wantsDrain = false;

  constructor(link: MemoryLink, remote: HostPort, options: MemoryNetOptions) {
    this.#link = link;
    this.remote = remote;
    this.#options = options;
  }

  /** Bytes on the way to this end. */
  get waiting(): number {
    return this.#inboxBytes;
  }

  write(buffers: readonly Buffer[]): number {
    if (this.closed || this.#ending) return 0;
    for (const buffer of buffers) this.peer.#accept(buffer);
    const queued = Math.max(0, this.peer.#inboxBytes - (this.#options.windowBytes ?? 0));
    if (queued > 0) this.#wantsDrain = true;
    return queued;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.#schedule();
  }

  end(): void {
    if (this.closed || this.#ending) return;
    this.#ending = true;
    this.peer.#schedule();
  }

  destroy(error?: Error): void {
    if (this.closed) return;
    const peer = this.peer;
    this.closeWith(error);
    setImmediate(() => {
      if (!this.#link.frozen) peer.closeWith(error === undefined ? undefined : new Error('connection reset'));
    });
  }

  closeWith(error: Error | undefined): void {
    if (this.closed) return;
    this.closed = true;
    this.#inbox = [];
    this.#inboxBytes = 0;
    setImmediate(() => this.onClose(error));
  }

  #accept(data: Buffer): void {
    if (this.closed || data.length === 0) return;
    this.#inbox.push(data);
    this.#inboxBytes += data.length;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#pumping || this.closed) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.closed || this.paused || this.#link.frozen) return;
    if (this.#inbox.length > 0) {
      // As from a socket: one buffer of its own, whatever pieces it was written in.
      const data = Buffer.concat(this.#inbox);
      this.#inbox = [];
      this.#inboxBytes = 0;
      this.arrivals++;
      const pieces = this.#options.cut?.(data) ?? [data];
      for (const [i, piece] of pieces.entries()) {
        if (this.closed) return;
        if (this.paused) {
          const rest = Buffer.concat(pieces.slice(i));
          this.#inbox.unshift(rest);
          this.#inboxBytes += rest.length;
          return;
        }
        this.onData(piece);
      }
    }
    const sender = this.peer;
    if (sender.#wantsDrain && this.#inboxBytes <= (this.#options.windowBytes ?? 0) && !sender.closed) {
      sender.#wantsDrain = false;
      sender.onDrain();
    }
    if (sender.#ending && this.#inbox.length === 0) {
      this.closeWith(undefined);
      sender.closeWith(undefined);
    }
  }
}

/** One turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

function ignore(): void {}
