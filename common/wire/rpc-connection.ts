import { assert, TfsError } from '../errors.ts';
import { formatHostPort, type HostPort } from '../ids.ts';
import {
  CALLS_IN_FLIGHT_PER_CONNECTION_MAX,
  CONNECTION_OUT_BYTES_MAX,
  PROBE_MS_MAX,
  RPC_MS_DEFAULT,
} from '../limits.ts';
import type { Clock, Timer } from '../seams/clock.ts';
import type { Net, Stream } from '../seams/net.ts';
import type { Random } from '../seams/random.ts';
import { decodeError } from './error-frame.ts';
import { encodeFrame, FrameKind, FrameParser, type FrameSink } from './frame.ts';
import { ClientHandshake } from './handshake.ts';
import type { Keyring, Role } from './keys.ts';
import { Op, opName } from './messages.ts';

export interface RpcConnectOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly keyring: Keyring;
  /** As whom to speak; the keyring must hold its key. */
  readonly role: Role;
  readonly id: string;
  readonly address: HostPort;
  /** For the connection and the handshake together. */
  readonly timeoutMs: number;
}

/** Slices of what arrived, or of one assembled buffer; they may be kept. */
export interface RpcReply {
  readonly header: Buffer;
  readonly payload: Buffer;
}

interface Pending {
  readonly callId: number;
  readonly op: number;
  readonly deadlineAt: number;
  readonly resolve: (reply: RpcReply) => void;
  readonly reject: (error: TfsError) => void;
}

const NO_HEADER = Buffer.alloc(0);
const NO_PAYLOAD: readonly Buffer[] = [];
/** A deadline is noticed at most this late, so that calls with similar ones share a timer. */
const DEADLINE_SLACK_MS = 10;
/** A call id is a place in the table of pending calls and, above it, how often the place was used. */
const PLACE_BITS = 12;
const PLACE_MASK = (1 << PLACE_BITS) - 1;
assert(CALLS_IN_FLIGHT_PER_CONNECTION_MAX <= 1 << PLACE_BITS, 'a call id has room for every place');

/**
 * The calling end of one connection. Many calls are in flight at once, answered in any order. Contract:
 *
 * - A call is rejected with what the server threw, DEADLINE when no answer came in time (it may still take effect),
 *   CONNECTION_LOST when the connection broke first (the same), OVERLOADED or TOO_LARGE when it was never sent, CLOSED
 *   after {@link close}.
 * - When a deadline passes and nothing at all has arrived meanwhile, the peer is probed; a peer that does not answer a
 *   PING either is gone, whatever the operating system says, and the connection is closed.
 */
export class RpcConnection implements FrameSink {
  readonly address: HostPort;
  /** What the server calls itself. */
  readonly serverId: string;
  readonly #stream: Stream;
  readonly #clock: Clock;
  readonly #parser = new FrameParser(this, 'replies');
  readonly #places: (Pending | undefined)[] = [];
  readonly #free: number[] = [];
  #uses = 0;
  #inFlight = 0;
  #queuedBytes = 0;
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #heard = false;
  #probing = false;
  #end: TfsError | undefined;
  #listeners: (() => void)[] = [];

  private constructor(stream: Stream, clock: Clock, address: HostPort, serverId: string) {
    this.#stream = stream;
    this.#clock = clock;
    this.address = address;
    this.serverId = serverId;
  }

  /**
   * @throws TfsError CONNECTION_LOST when there is no answer in time, UNAUTHORIZED when the keys differ, PROTOCOL when the
   * peer is something else or of another release, OVERLOADED when it has too many connections
   */
  static async connect(options: RpcConnectOptions): Promise<RpcConnection> {
    const { net, clock, address, timeoutMs } = options;
    const startedAt = clock.monotonic();
    const stream = await net.connect(address, timeoutMs);
    const left = Math.max(1, timeoutMs - (clock.monotonic() - startedAt));
    return shakeHands(stream, options, left, (serverId, rest) => {
      const connection = new RpcConnection(stream, clock, address, serverId);
      connection.#start(rest);
      return connection;
    });
  }

  get closed(): boolean {
    return this.#end !== undefined;
  }

  /** Calls without an answer yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * @param payload written by reference: it must not change before the answer
   * @param deadlineMs how long the caller waits; the server is told
   */
  call(
    op: number,
    header: Buffer,
    payload: readonly Buffer[] = NO_PAYLOAD,
    deadlineMs: number = RPC_MS_DEFAULT,
  ): Promise<RpcReply> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) return reject(this.#end);
      if (
        this.#inFlight >= CALLS_IN_FLIGHT_PER_CONNECTION_MAX ||
        this.#queuedBytes > CONNECTION_OUT_BYTES_MAX
      )
        return reject(
          new TfsError('OVERLOADED', `too much is waiting for ${formatHostPort(this.address)} already`),
        );
      const waitMs = Math.max(1, Math.ceil(deadlineMs));
      const place = this.#free.pop() ?? this.#places.length;
      const callId = (((this.#uses++ << PLACE_BITS) >>> 0) | place) >>> 0;
      const pieces = encodeFrame(
        { kind: FrameKind.REQUEST, op, callId, deadlineMs: waitMs },
        header,
        payload,
      );
      if (pieces === undefined) {
        this.#free.push(place);
        return reject(new TfsError('TOO_LARGE', `${opName(op)} does not fit a frame`));
      }
      const deadlineAt = this.#clock.monotonic() + waitMs;
      this.#places[place] = { callId, op, deadlineAt, resolve, reject };
      this.#inFlight++;
      if (deadlineAt < this.#timerAt - DEADLINE_SLACK_MS) this.#arm(deadlineAt);
      this.#queuedBytes = this.#stream.write(pieces);
    });
  }

  /** Runs `listener` once, when the connection is over; at once if it is already. */
  onClose(listener: () => void): void {
    if (this.#end === undefined) this.#listeners.push(listener);
    else listener();
  }

  close(): void {
    this.#finish(new TfsError('CLOSED', `the connection to ${formatHostPort(this.address)} was closed here`));
    this.#stream.destroy();
  }

  onFrame(
    kind: FrameKind,
    _op: number,
    callId: number,
    _deadlineMs: number,
    header: Buffer,
    payload: Buffer,
  ): void {
    const place = callId & PLACE_MASK;
    const pending = this.#places[place];
    // The answer to a call that was given up: nobody waits for it.
    if (pending === undefined || pending.callId !== callId) return;
    if (kind === FrameKind.REPLY) {
      this.#take(place);
      pending.resolve({ header, payload });
      return;
    }
    const error = decodeError(header);
    if (error === undefined) {
      this.#lose('an error frame does not parse');
      return;
    }
    this.#take(place);
    pending.reject(error);
  }

  #start(rest: Buffer): void {
    const stream = this.#stream;
    stream.onData = (data) => this.#receive(data);
    stream.onDrain = () => {
      this.#queuedBytes = 0;
    };
    stream.onClose = (error) => {
      const why = error === undefined ? 'closed by the peer' : error.message;
      this.#finish(
        new TfsError('CONNECTION_LOST', `${formatHostPort(this.address)}: ${why}`, { cause: error }),
      );
    };
    if (rest.length > 0) this.#receive(rest);
  }

  #receive(data: Buffer): void {
    if (this.#end !== undefined) return;
    this.#heard = true;
    const malformed = this.#parser.push(data);
    if (malformed !== undefined) this.#lose(malformed);
  }

  #lose(why: string): void {
    this.#finish(new TfsError('CONNECTION_LOST', `${formatHostPort(this.address)}: ${why}`));
    this.#stream.destroy();
  }

  #take(place: number): void {
    this.#places[place] = undefined;
    this.#free.push(place);
    this.#inFlight--;
  }

  #arm(at: number): void {
    this.#timer?.cancel();
    this.#timerAt = at;
    const delayMs = Math.max(0, at - this.#clock.monotonic()) + DEADLINE_SLACK_MS / 2;
    this.#timer = this.#clock.after(delayMs, () => this.#sweep());
  }

  /** Gives up the calls whose time has come; one timer serves all. */
  #sweep(): void {
    const now = this.#clock.monotonic();
    let next = Number.POSITIVE_INFINITY;
    let expired = false;
    this.#timer = undefined;
    this.#timerAt = next;
    for (let place = 0; place < this.#places.length; place++) {
      const pending = this.#places[place];
      if (pending === undefined) continue;
      if (pending.deadlineAt > now) {
        next = Math.min(next, pending.deadlineAt);
        continue;
      }
      expired = true;
      this.#take(place);
      const where = formatHostPort(this.address);
      pending.reject(new TfsError('DEADLINE', `${where} did not answer ${opName(pending.op)} in time`));
    }
    if (next < this.#timerAt) this.#arm(next);
    if (expired && !this.#heard) this.#probe();
    this.#heard = false;
  }

  #probe(): void {
    if (this.#probing || this.#end !== undefined) return;
    this.#probing = true;
    this.call(Op.PING, NO_HEADER, NO_PAYLOAD, PROBE_MS_MAX).then(
      () => {
        this.#probing = false;
      },
      () => {
        this.#probing = false;
        if (this.#end === undefined) this.#lose('no sign of life');
      },
    );
  }

  #finish(error: TfsError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#timer?.cancel();
    for (const pending of this.#places) pending?.reject(error);
    this.#places.length = 0;
    this.#inFlight = 0;
    for (const listener of this.#listeners.splice(0)) listener();
  }
}

function shakeHands(
  stream: Stream,
  options: RpcConnectOptions,
  timeoutMs: number,
  onDone: (serverId: string, rest: Buffer) => RpcConnection,
): Promise<RpcConnection> {
  const { clock, random, keyring, role, id, address } = options;
  const where = formatHostPort(address);
  return new Promise((resolve, reject) => {
    const key = keyring.roleKey(role);
    assert(key, `the key of role ${role} is held`);
    const handshake = new ClientHandshake({ key, role, id, where, nonce: random.bytes(32) });
    const fail = (error: TfsError) => {
      timer.cancel();
      stream.onData = ignore;
      stream.onClose = ignore;
      stream.destroy();
      reject(error);
    };
    const timer = clock.after(timeoutMs, () =>
      fail(new TfsError('CONNECTION_LOST', `${where}: no handshake within ${timeoutMs} ms`)),
    );
    stream.onClose = (error) =>
      fail(
        new TfsError(
          'CONNECTION_LOST',
          `${where}: closed during the handshake${error ? `: ${error.message}` : ''}`,
          {
            cause: error,
          },
        ),
      );
    stream.onData = (data) => {
      const step = handshake.push(data);
      if (step.failed !== undefined) return fail(step.failed);
      if (step.send !== undefined) stream.write([step.send]);
      if (step.done === undefined) return;
      timer.cancel();
      resolve(onDone(handshake.serverId, step.done.rest));
    };
    stream.write([handshake.hello]);
  });
}

function ignore(): void {}
