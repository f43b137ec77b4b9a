import { TfsError, toTfsError } from '../errors.ts';
import { formatHostPort, type HostPort, type Millis } from '../ids.ts';
import { CALLS_IN_FLIGHT_PER_CONNECTION_MAX, CONNECTION_OUT_BYTES_MAX, HANDSHAKE_MS_MAX } from '../limits.ts';
import type { Log } from '../log.ts';
import type { Clock, Timer } from '../seams/clock.ts';
import type { Stream } from '../seams/net.ts';
import { encodeError } from './error-frame.ts';
import { encodeFrame, FrameKind, FrameParser, type FrameSink } from './frame.ts';
import type { ServerHandshake, Step } from './handshake.ts';
import type { Role } from './keys.ts';
import { Op, opName } from './messages.ts';

export interface RpcPeer {
  readonly role: Role;
  /** What the peer calls itself; only its role is proved. */
  readonly id: string;
  readonly remote: HostPort;
}

/**
 * One call. `header` and `payload` are slices of what arrived (or of one assembled buffer): they may be kept, at the
 * price of the buffer they came in; nothing is written over them.
 */
export interface RpcRequest {
  readonly op: number;
  readonly header: Buffer;
  readonly payload: Buffer;
  readonly peer: RpcPeer;
  /** Of the monotonic clock: the caller has given up by then. */
  readonly deadlineAt: Millis;
}

/** The payload is written by reference: it must not change afterwards. */
export interface RpcResult {
  readonly header: Buffer;
  readonly payload?: readonly Buffer[];
}

export type RpcHandler = (request: RpcRequest) => RpcResult | Promise<RpcResult>;

export interface Route {
  readonly roles: readonly Role[];
  readonly handler: RpcHandler;
}

/** What a connection needs of its server. */
export interface ConnectionHost {
  readonly clock: Clock;
  readonly log: Log;
  readonly draining: boolean;
  route(op: number): Route | undefined;
  onAuthenticated(connection: ServerConnection): void;
  /** No call of this connection is being worked on any more. */
  onIdle(connection: ServerConnection): void;
  onClosed(connection: ServerConnection): void;
}

const NO_HEADER = Buffer.alloc(0);
const NO_PAYLOAD: readonly Buffer[] = [];
const PONG: RpcResult = { header: NO_HEADER };
const CALLS_RESUME = CALLS_IN_FLIGHT_PER_CONNECTION_MAX / 2;

/** One client's connection to a server: handshake, then requests in, answers out in the order they are ready. */
export class ServerConnection implements FrameSink {
  readonly #host: ConnectionHost;
  readonly #stream: Stream;
  readonly #handshake: ServerHandshake;
  readonly #parser = new FrameParser(this, 'requests');
  #timer: Timer | undefined;
  #peer: RpcPeer | undefined;
  #arrivedAt = 0 as Millis;
  #now = 0 as Millis;
  #inFlight = 0;
  #outFull = false;
  #closed = false;

  constructor(host: ConnectionHost, stream: Stream, handshake: ServerHandshake) {
    this.#host = host;
    this.#stream = stream;
    this.#handshake = handshake;
  }

  start(): void {
    const stream = this.#stream;
    stream.onData = (data) => this.#shake(data);
    stream.onDrain = () => this.#drained();
    stream.onClose = (error) => this.#onClose(error);
    this.#timer = this.#host.clock.after(HANDSHAKE_MS_MAX, () => {
      this.#refuse(new TfsError('DEADLINE', `no handshake within ${HANDSHAKE_MS_MAX} ms`));
    });
  }

  /** Calls being worked on. */
  get inFlight(): number {
    return this.#inFlight;
  }

  get authenticated(): boolean {
    return this.#peer !== undefined;
  }

  /** Sends what is queued, then closes. */
  end(): void {
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  onFrame(
    _kind: FrameKind,
    op: number,
    callId: number,
    deadlineMs: number,
    header: Buffer,
    payload: Buffer,
  ): void {
    if (this.#closed) return;
    if (op === Op.PING) {
      this.#reply(op, callId, PONG);
      return;
    }
    const peer = this.#peer!;
    const deadlineAt = (this.#arrivedAt + deadlineMs) as Millis;
    const route = this.#host.route(op);
    const refusal = this.#refusal(op, route, peer, deadlineAt);
    if (refusal !== undefined) this.#fail(op, callId, refusal);
    else this.#run(callId, route!.handler, { op, header, payload, peer, deadlineAt });
  }

  #refusal(op: number, route: Route | undefined, peer: RpcPeer, deadlineAt: Millis): TfsError | undefined {
    if (route === undefined) return new TfsError('PROTOCOL', `no ${opName(op)} here`);
    if (!route.roles.includes(peer.role))
      return new TfsError('FORBIDDEN', `${opName(op)} is not for role ${peer.role}`);
    if (deadlineAt <= this.#now) return new TfsError('DEADLINE', `${opName(op)} was not begun in time`);
    if (this.#host.draining) return new TfsError('CLOSED', 'this server is stopping');
    return undefined;
  }

  #run(callId: number, handler: RpcHandler, request: RpcRequest): void {
    const op = request.op;
    let result: RpcResult | Promise<RpcResult>;
    try {
      result = handler(request);
    } catch (error) {
      this.#fail(op, callId, error);
      return;
    }
    if (!(result instanceof Promise)) {
      this.#reply(op, callId, result);
      return;
    }
    if (++this.#inFlight >= CALLS_IN_FLIGHT_PER_CONNECTION_MAX) this.#hold();
    result.then(
      (value) => {
        this.#settle();
        this.#reply(op, callId, value);
      },
      (error: unknown) => {
        this.#settle();
        this.#fail(op, callId, error);
      },
    );
  }

  #shake(data: Buffer): void {
    if (this.#closed) return;
    const step: Step = this.#handshake.push(data);
    if (step.send !== undefined) this.#stream.write([step.send]);
    if (step.failed !== undefined) this.#refuse(step.failed);
    if (step.done === undefined) return;
    this.#timer?.cancel();
    this.#peer = { role: step.done.role, id: step.done.id, remote: this.#stream.remote };
    this.#stream.onData = (more) => this.#frames(more);
    this.#host.onAuthenticated(this);
    if (step.done.rest.length > 0) this.#frames(step.done.rest);
  }

  #refuse(error: TfsError): void {
    this.#timer?.cancel();
    const facts = { remote: formatHostPort(this.#stream.remote), code: error.code, reason: error.message };
    this.#host.log.warn(facts, 'connection refused');
    this.#stream.onData = ignore;
    this.#stream.end();
    this.#timer = this.#host.clock.after(HANDSHAKE_MS_MAX, () => this.#stream.destroy());
  }

  #frames(data: Buffer): void {
    // What is held back keeps the time it arrived at: its deadline runs while it waits.
    if (!this.#parser.halted) this.#arrivedAt = this.#now = this.#host.clock.monotonic();
    this.#checked(this.#parser.push(data));
  }

  #checked(malformed: string | undefined): void {
    if (malformed === undefined || this.#closed) return;
    const peer = this.#peer!;
    const facts = {
      remote: formatHostPort(peer.remote),
      peer: peer.id,
      reason: malformed,
    };
    this.#host.log.warn(facts, 'connection closed for a malformed frame');
    this.#stream.onData = ignore;
    this.#stream.destroy();
  }

  #settle(): void {
    const left = --this.#inFlight;
    if (this.#closed) return;
    if (left <= CALLS_RESUME && this.#parser.halted && !this.#outFull) this.#release();
    if (left === 0) this.#host.onIdle(this);
  }

  #reply(op: number, callId: number, result: RpcResult): void {
    if (this.#closed) return;
    const facts = { kind: FrameKind.REPLY, op, callId, deadlineMs: 0 };
    const pieces = encodeFrame(facts, result.header, result.payload ?? NO_PAYLOAD);
    if (pieces !== undefined) this.#write(pieces);
    else this.#fail(op, callId, new TfsError('INTERNAL', `the answer to ${opName(op)} exceeds a frame`));
  }

  #fail(op: number, callId: number, error: unknown): void {
    if (this.#closed) return;
    const known = toTfsError(error, 'INTERNAL', opName(op));
    if (known !== error) this.#host.log.error({ op: opName(op), err: error }, 'a handler failed');
    const facts = { kind: FrameKind.ERROR, op, callId, deadlineMs: 0 };
    this.#write(encodeFrame(facts, encodeError(known), NO_PAYLOAD)!);
  }

  #write(pieces: Buffer[]): void {
    if (this.#stream.write(pieces) > CONNECTION_OUT_BYTES_MAX) {
      this.#outFull = true;
      this.#hold();
    }
  }

  /** Reads nothing more from this client until it has taken its answers, or enough of its calls are done. */
  #hold(): void {
    if (this.#parser.halted) return;
    this.#parser.halt();
    this.#stream.pause();
  }

  #drained(): void {
    this.#outFull = false;
    if (this.#parser.halted && this.#inFlight <= CALLS_RESUME) this.#release();
  }

  #release(): void {
    this.#now = this.#host.clock.monotonic();
    this.#checked(this.#parser.resume());
    if (!this.#parser.halted && !this.#closed) this.#stream.resume();
  }

  #onClose(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    if (error !== undefined && this.#peer !== undefined)
      this.#host.log.debug({ peer: this.#peer.id, reason: error.message }, 'connection lost');
    this.#host.onClosed(this);
  }
}

function ignore(): void {}
