import { assert } from '../errors.ts';
import type { HostPort } from '../ids.ts';
import { CONNECTIONS_PER_SERVER_MAX, HANDSHAKES_PER_SERVER_MAX } from '../limits.ts';
import type { Log } from '../log.ts';
import type { Clock } from '../seams/clock.ts';
import type { Listener, Net, Stream } from '../seams/net.ts';
import type { Random } from '../seams/random.ts';
import { ServerHandshake } from './handshake.ts';
import type { Keyring, Role } from './keys.ts';
import { opName } from './messages.ts';
import { type ConnectionHost, type Route, type RpcHandler, ServerConnection } from './server-connection.ts';

export type { RpcHandler, RpcPeer, RpcRequest, RpcResult } from './server-connection.ts';

export interface RpcServerOptions {
  readonly net: Net;
  readonly clock: Clock;
  readonly random: Random;
  readonly keyring: Keyring;
  /** Port 0 takes a free one; {@link RpcServer.address} tells which. */
  readonly address: HostPort;
  /** What this server calls itself to its peers. */
  readonly id: string;
  readonly log: Log;
  /** Called with the number of authenticated connections whenever it changes. */
  readonly onConnectionCount?: (count: number) => void;
}

/** A client that does not take its last answers is not waited for longer. */
const CLOSE_MS_MAX = 1_000;

/**
 * Answers framed calls. Contract:
 *
 * - A handler runs as soon as its frame has arrived; answers go out in the order they are ready.
 * - What a handler throws is the answer: a TfsError as it is, anything else INTERNAL, and logged.
 * - A call of a role that the op does not allow is FORBIDDEN, an op nobody handles PROTOCOL; a call that waited past its
 *   deadline is DEADLINE and never runs.
 * - A frame that does not parse closes its connection and touches nothing else.
 * - PING is answered here, also while stopping.
 */
export class RpcServer implements ConnectionHost {
  readonly clock: Clock;
  readonly log: Log;
  readonly #options: RpcServerOptions;
  readonly #routes: (Route | undefined)[] = new Array(256).fill(undefined);
  /** In order of arrival. */
  readonly #shaking = new Set<ServerConnection>();
  readonly #connections = new Set<ServerConnection>();
  #listener: Listener | undefined;
  #draining = false;
  readonly #onDrained: (() => void)[] = [];
  readonly #onEmpty: (() => void)[] = [];

  private constructor(options: RpcServerOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.log = options.log;
  }

  /** @throws TfsError CONFLICT when the port is taken */
  static async listen(options: RpcServerOptions): Promise<RpcServer> {
    const server = new RpcServer(options);
    server.#listener = await options.net.listen(options.address, (stream) => server.#accept(stream));
    return server;
  }

  get address(): HostPort {
    return this.#listener!.address;
  }

  get draining(): boolean {
    return this.#draining;
  }

  handle(op: number, roles: readonly Role[], handler: RpcHandler): void {
    assert(this.#routes[op] === undefined, `${opName(op)} has one handler`);
    this.#routes[op] = { roles, handler };
  }

  /**
   * Takes no new connection and no new call (answer: CLOSED); resolves when every call that had begun is answered.
   * Bounded by nothing: the caller gives it a time, then calls {@link close}.
   */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#listener?.close();
    for (const connection of this.#shaking) connection.destroy();
    if (this.#idle()) return;
    await new Promise<void>((resolve) => this.#onDrained.push(resolve));
  }

  /**
   * Ends what is left: a connection with nothing to do takes its last answers with it, one with calls being worked on is
   * dropped. Resolves when all are gone.
   */
  async close(): Promise<void> {
    this.#draining = true;
    await this.#listener?.close();
    for (const connection of this.#shaking) connection.destroy();
    for (const connection of this.#connections)
      if (connection.inFlight === 0) connection.end();
      else connection.destroy();
    if (this.#connections.size + this.#shaking.size === 0) return;
    const grace = this.clock.after(CLOSE_MS_MAX, () => {
      for (const connection of this.#connections) connection.destroy();
    });
    await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
    grace.cancel();
  }

  route(op: number): Route | undefined {
    return this.#routes[op];
  }

  onAuthenticated(connection: ServerConnection): void {
    this.#shaking.delete(connection);
    this.#connections.add(connection);
    this.#options.onConnectionCount?.(this.#connections.size);
  }

  onIdle(_connection: ServerConnection): void {
    this.#checkDrained();
  }

  onClosed(connection: ServerConnection): void {
    this.#shaking.delete(connection);
    if (this.#connections.delete(connection)) this.#options.onConnectionCount?.(this.#connections.size);
    this.#checkDrained();
    if (this.#connections.size + this.#shaking.size === 0)
      for (const resolve of this.#onEmpty.splice(0)) resolve();
  }

  #accept(stream: Stream): void {
    if (this.#draining) {
      stream.destroy();
      return;
    }
    // Newcomers win over those that take their time: a crowd of silent ones keeps nobody out.
    if (this.#shaking.size >= HANDSHAKES_PER_SERVER_MAX)
      for (const oldest of this.#shaking) {
        oldest.destroy();
        this.#shaking.delete(oldest);
        break;
      }
    const { keyring, id, random } = this.#options;
    const busy = this.#connections.size >= CONNECTIONS_PER_SERVER_MAX;
    const handshake = new ServerHandshake({ keyring, id, busy, nonce: random.bytes(32) });
    const connection = new ServerConnection(this, stream, handshake);
    this.#shaking.add(connection);
    connection.start();
  }

  #checkDrained(): void {
    if (!this.#draining || !this.#idle()) return;
    for (const resolve of this.#onDrained.splice(0)) resolve();
  }

  #idle(): boolean {
    for (const connection of this.#connections) if (connection.inFlight > 0) return false;
    return true;
  }
}
