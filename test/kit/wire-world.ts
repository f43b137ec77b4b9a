import type { HostPort } from '../../common/ids.ts';
import type { Random } from '../../common/seams/random.ts';
import { Keyring, type Role } from '../../common/wire/keys.ts';
import { Peers } from '../../common/wire/peers.ts';
import { RpcConnection } from '../../common/wire/rpc-connection.ts';
import { RpcServer } from '../../common/wire/rpc-server.ts';
import { type CaptureLog, captureLog } from './capture-log.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryNet, type MemoryNetOptions, turns } from './memory-net.ts';
import type { TestContext } from './suite.ts';

export const SECRET = Buffer.alloc(32, 'a secret of tests');

/** Different each time, the same in every run. */
export function countingRandom(): Random {
  let count = 0;
  return {
    bytes: (length) => Buffer.alloc(length, `random ${count++} `),
    u32: () => count++ >>> 0,
    float: () => (count++ % 1000) / 1000,
  };
}

/** Servers and clients in one process, on a network in memory and a clock that the test moves. */
export class WireWorld {
  readonly net: MemoryNet;
  readonly clock = new ManualClock();
  readonly random = countingRandom();
  readonly keyring = Keyring.ofSecret(SECRET);
  readonly log: CaptureLog = captureLog();
  readonly #t: TestContext;

  constructor(t: TestContext, options: MemoryNetOptions = {}) {
    this.#t = t;
    this.net = new MemoryNet(options);
  }

  async serve(onConnectionCount?: (count: number) => void): Promise<RpcServer> {
    const { net, clock, random, keyring, log } = this;
    const server = await RpcServer.listen({
      net,
      clock,
      random,
      keyring,
      log,
      id: 'ds-1',
      address: { host: '127.0.0.1', port: 0 },
      ...(onConnectionCount === undefined ? {} : { onConnectionCount }),
    });
    this.#t.defer(() => this.close(server));
    return server;
  }

  async dial(
    address: HostPort,
    role: Role = 'gateway',
    keyring: Keyring = this.keyring,
  ): Promise<RpcConnection> {
    const { net, clock, random } = this;
    const connection = await RpcConnection.connect({
      net,
      clock,
      random,
      keyring,
      role,
      id: `${role}-test`,
      address,
      timeoutMs: 1000,
    });
    this.#t.defer(() => connection.close());
    return connection;
  }

  peers(role: Role = 'gateway'): Peers {
    const { net, clock, random, keyring } = this;
    const peers = Peers.open({ net, clock, random, keyring, role, id: `${role}-test` });
    this.#t.defer(() => peers.close());
    return peers;
  }

  /** Moves the clock in small steps, with the network running between them. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 20) {
      this.clock.advance(Math.min(20, left));
      await turns(2);
    }
  }

  async close(server: RpcServer): Promise<void> {
    const closing = server.close();
    let done = false;
    void closing.then(() => {
      done = true;
    });
    while (!done) await this.pass(100);
  }
}
