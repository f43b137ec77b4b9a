import type { z } from 'zod';
import { within } from '../deadline.ts';
import { TfsError, toTfsError } from '../errors.ts';
import { formatHostPort, type HostPort, type Millis } from '../ids.ts';
import { DIAL_BACKOFF_MS_MAX, DIAL_BACKOFF_MS_MIN, DIAL_MS_MAX, RPC_MS_DEFAULT } from '../limits.ts';
import type { Clock } from '../seams/clock.ts';
import type { Net } from '../seams/net.ts';
import type { Random } from '../seams/random.ts';
import { decodeControl, encodeControl } from './control.ts';
import type { Keyring, Role } from './keys.ts';
import { opName } from './messages.ts';
import { RpcConnection, type RpcReply } from './rpc-connection.ts';

export interface PeersOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly keyring: Keyring;
  readonly role: Role;
  /** What this process calls itself to its peers. */
  readonly id: string;
  /** A connection that was up is over; calls on it fail by themselves. */
  readonly onLost?: (address: HostPort) => void;
}

interface Peer {
  connection: RpcConnection | undefined;
  dial: Promise<RpcConnection> | undefined;
  /** The last dial failed: no other before `retryAt`. */
  failure: TfsError | undefined;
  retryAt: Millis;
  backoffMs: number;
}

/**
 * One connection to each address this process talks to, made when it is first needed and again after it was lost. After
 * a failed dial, calls fail at once with the same error for a short while, so that nobody queues behind a dead server.
 */
export class Peers {
  readonly #options: PeersOptions;
  readonly #peers = new Map<string, Peer>();
  #closed = false;

  private constructor(options: PeersOptions) {
    this.#options = options;
  }

  static open(options: PeersOptions): Peers {
    return new Peers(options);
  }

  /** The connection itself while it is up: the usual case costs no turn of the event loop. */
  get(address: HostPort): RpcConnection | Promise<RpcConnection> {
    const key = formatHostPort(address);
    let peer = this.#peers.get(key);
    if (peer === undefined) {
      peer = {
        connection: undefined,
        dial: undefined,
        failure: undefined,
        retryAt: 0 as Millis,
        backoffMs: 0,
      };
      this.#peers.set(key, peer);
    }
    const connection = peer.connection;
    if (connection !== undefined && !connection.closed) return connection;
    if (this.#closed) return Promise.reject(new TfsError('CLOSED', 'this process is stopping'));
    if (peer.dial !== undefined) return peer.dial;
    if (peer.failure !== undefined && this.#options.clock.monotonic() < peer.retryAt)
      return Promise.reject(peer.failure);
    peer.dial = this.#dial(address, peer);
    return peer.dial;
  }

  /** As {@link RpcConnection.call}; the deadline is one for the dial and the call. */
  call(
    address: HostPort,
    op: number,
    header: Buffer,
    payload?: readonly Buffer[],
    deadlineMs: number = RPC_MS_DEFAULT,
  ): Promise<RpcReply> {
    const connection = this.get(address);
    if (connection instanceof RpcConnection) return connection.call(op, header, payload, deadlineMs);
    const { clock } = this.#options;
    const deadlineAt = clock.monotonic() + deadlineMs;
    // The dial goes on for others: a host that swallows what is sent to it keeps one waiting for seconds.
    return within(clock, deadlineMs, `connecting to ${formatHostPort(address)}`, connection).then((dialled) =>
      dialled.call(op, header, payload, deadlineAt - clock.monotonic()),
    );
  }

  /**
   * A call whose header is JSON in both directions.
   *
   * @throws TfsError PROTOCOL when the answer does not fit the schema
   */
  async callControl<T>(
    address: HostPort,
    op: number,
    message: object,
    schema: z.ZodType<T>,
    payload?: readonly Buffer[],
    deadlineMs?: number,
  ): Promise<{ message: T; payload: Buffer }> {
    const reply = await this.call(address, op, encodeControl(message), payload, deadlineMs);
    const what = `answer to ${opName(op)} from ${formatHostPort(address)}`;
    return { message: decodeControl(schema, reply.header, what), payload: reply.payload };
  }

  /** Rejects what is in flight, with CLOSED. */
  async close(): Promise<void> {
    this.#closed = true;
    const dials: Promise<unknown>[] = [];
    for (const peer of this.#peers.values()) {
      peer.connection?.close();
      if (peer.dial !== undefined) dials.push(peer.dial);
    }
    await Promise.allSettled(dials);
  }

  async #dial(address: HostPort, peer: Peer): Promise<RpcConnection> {
    try {
      const connection = await RpcConnection.connect({ ...this.#options, address, timeoutMs: DIAL_MS_MAX });
      if (this.#closed) {
        connection.close();
        throw new TfsError('CLOSED', 'this process is stopping');
      }
      peer.connection = connection;
      peer.failure = undefined;
      peer.backoffMs = 0;
      connection.onClose(() => {
        if (!this.#closed) this.#options.onLost?.(address);
      });
      return connection;
    } catch (error) {
      peer.failure = toTfsError(error, 'CONNECTION_LOST', formatHostPort(address));
      peer.backoffMs = Math.min(DIAL_BACKOFF_MS_MAX, Math.max(DIAL_BACKOFF_MS_MIN, peer.backoffMs * 2));
      peer.retryAt = (this.#options.clock.monotonic() + peer.backoffMs) as Millis;
      throw peer.failure;
    } finally {
      peer.dial = undefined;
    }
  }
}
