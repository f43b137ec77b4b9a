import type { HostPort } from '../../common/ids.ts';
import type { Stream } from '../../common/seams/net.ts';
import type { SimNetwork } from './network.ts';
import type { SimProcess } from './process.ts';

/** Bytes that fit between the two ends before they count as queued at the sender. */
const WINDOW_BYTES = 256 * 1024;

interface Message {
  readonly pieces: Buffer[];
  bytes: number;
  /** `last`: the end of what the sender has to say. `reset`: the connection is gone. */
  readonly kind: 'data' | 'last' | 'reset';
}

/** Both ends of one connection, and what is on its way between them. */
export class Connection {
  readonly network: SimNetwork;
  readonly client: SimStream;
  readonly server: SimStream;

  constructor(parts: {
    readonly network: SimNetwork;
    readonly client: SimProcess;
    readonly server: SimProcess;
    /** Of the client, as the server sees it. */
    readonly remote: HostPort;
    readonly address: HostPort;
  }) {
    this.network = parts.network;
    this.client = new SimStream(this, parts.client, parts.address);
    this.server = new SimStream(this, parts.server, parts.remote);
    this.client.peer = this.server;
    this.server.peer = this.client;
  }

  get isOver(): boolean {
    return this.client.isClosed && this.server.isClosed;
  }

  /** What waited goes on. */
  unblocked(from: string, to: string): void {
    for (const end of [this.client, this.server])
      if (end.process.host === from && end.peer.process.host === to) end.flow();
  }

  /** Breaks for both ends, as by a firewall that forgot it. */
  cut(): void {
    this.client.lose();
    this.server.lose();
  }

  /** @param silently without a word to the other end: the whole machine is gone */
  processGone(process: SimProcess, silently: boolean): void {
    for (const end of [this.client, this.server]) if (end.process === process) end.abandon(silently);
  }

  ended(): void {
    if (this.isOver) this.network.connections.delete(this);
  }
}

/** One end. */
export class SimStream implements Stream {
  readonly remote: HostPort;
  readonly process: SimProcess;
  peer!: SimStream;
  onData: (data: Buffer) => void = ignore;
  onClose: (error: Error | undefined) => void = ignore;
  onDrain: () => void = ignore;
  isClosed = false;
  readonly #connection: Connection;
  /** Sent by this end, in order. */
  readonly #out: Message[] = [];
  #outBytes = 0;
  /** At which event of the simulation the newest message was begun: what is written by then goes with it. */
  #begunAt = -1;
  /** A delivery is under way. */
  #flowing = false;
  /** Nothing may arrive before this. */
  #notBefore = 0;
  #isEnding = false;
  #isPaused = false;
  #wantsDrain = false;

  constructor(connection: Connection, process: SimProcess, remote: HostPort) {
    this.#connection = connection;
    this.process = process;
    this.remote = remote;
  }

  write(buffers: readonly Buffer[]): number {
    if (this.isClosed || this.#isEnding || !this.process.isAlive) return 0;
    const { scheduler } = this.#connection.network;
    let message = this.#out.at(-1);
    if (message === undefined || message.kind !== 'data' || this.#begunAt !== scheduler.events) {
      message = { pieces: [], bytes: 0, kind: 'data' };
      this.#begunAt = scheduler.events;
      this.#out.push(message);
    }
    // The kernel has its own copy by the end of this turn.
    const copy = Buffer.concat(buffers);
    message.pieces.push(copy);
    message.bytes += copy.length;
    this.#outBytes += copy.length;
    this.flow();
    const queued = Math.max(0, this.#outBytes - WINDOW_BYTES);
    if (queued > 0) this.#wantsDrain = true;
    return queued;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.peer.flow();
  }

  end(): void {
    if (this.isClosed || this.#isEnding) return;
    this.#isEnding = true;
    this.#out.push({ pieces: [], bytes: 0, kind: 'last' });
    this.flow();
  }

  destroy(error?: Error): void {
    if (this.isClosed) return;
    this.#say('reset');
    this.#close(error);
  }

  /** The process is gone: its kernel says so to the other end, unless that is gone as well. */
  abandon(silently: boolean): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (silently) this.#out.length = 0;
    else this.#say('reset');
    this.#connection.ended();
  }

  /** The connection breaks without this end having done anything. */
  lose(): void {
    if (!this.isClosed) this.#close(new Error('connection reset'));
  }

  /** Sends what waits, if it may pass. */
  flow(): void {
    if (this.#flowing || this.#out.length === 0) return;
    const { network } = this.#connection;
    const [from, to] = [this.process.host, this.peer.process.host];
    if (network.isBlocked(from, to)) return;
    if (this.peer.#isPaused && this.#out[0]!.kind === 'data') return;
    this.#flowing = true;
    const { scheduler } = network;
    if (!this.peer.process.isAlive) {
      // A machine that runs knows nothing of this connection; one that does not says nothing.
      if (network.isUp(to)) this.process.at(2 * network.latency(from, to), 'rst', () => this.lose());
      return;
    }
    const at = Math.max(this.#notBefore, scheduler.now + network.latency(from, to));
    this.#notBefore = at;
    // The message is taken when it arrives: what is written meanwhile travels behind it.
    this.peer.process.at(at - scheduler.now, 'net', () => this.#arrive());
  }

  #arrive(): void {
    this.#flowing = false;
    const { network } = this.#connection;
    const { peer } = this;
    if (peer.isClosed) {
      this.#out.length = 0;
      return;
    }
    if (network.isBlocked(this.process.host, peer.process.host)) return;
    const first = this.#out[0];
    if (first === undefined) return;
    if (peer.#isPaused && first.kind === 'data') return;
    this.#out.shift();
    this.#outBytes -= first.bytes;
    if (first.kind !== 'data') {
      peer.#close(first.kind === 'reset' ? new Error('connection reset') : undefined);
      if (!this.isClosed) this.#close(undefined);
      return;
    }
    this.#deliver(first);
    if (this.#wantsDrain && this.#outBytes <= WINDOW_BYTES && !this.isClosed) {
      this.#wantsDrain = false;
      this.process.at(0, 'drain', () => this.isClosed || this.onDrain());
    }
    this.flow();
  }

  #deliver(message: Message): void {
    const { network } = this.#connection;
    const { cut } = network.weather;
    const data = message.pieces.length === 1 ? message.pieces[0]! : Buffer.concat(message.pieces);
    network.scheduler.noteBytes(data);
    if (cut > 0 && network.random.float() < cut) {
      // Before it, in the middle of it, or behind it.
      const share = [0, network.random.float(), 1][network.random.below(3)]!;
      const arrives = Math.floor(data.length * share);
      network.scheduler.note(`cut after ${arrives} of ${data.length} bytes`);
      if (arrives > 0) this.peer.onData(data.subarray(0, arrives));
      this.#connection.cut();
      return;
    }
    this.peer.onData(data);
  }

  #say(kind: 'reset'): void {
    // What was written before is lost with the connection.
    this.#out.length = 0;
    this.#outBytes = 0;
    this.#out.push({ pieces: [], bytes: 0, kind });
    this.flow();
  }

  #close(error: Error | undefined): void {
    this.isClosed = true;
    this.#connection.ended();
    this.process.at(0, 'closed', () => this.onClose(error));
  }
}

function ignore(): void {}
