import { isTfsError } from '../../common/errors.ts';
import type { BlockId, HostPort } from '../../common/ids.ts';
import { Keyring, type Role } from '../../common/wire/keys.ts';
import { decodeLocateReply, encodeLocate, type LocateState, Op } from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';
import type { Whole } from '../../nameserver/block-page.ts';
import { NameServer, type NameServerOptions } from '../../nameserver/nameserver.ts';
import { captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { MemoryLockStore } from '../kit/memory-lock-store.ts';
import { MemoryNet, turns } from '../kit/memory-net.ts';
import { PretendedProcess } from '../kit/pretended-process.ts';
import type { TestContext } from '../kit/suite.ts';
import { countingRandom, SECRET } from '../kit/wire-world.ts';
import { FakeDataServer } from './fake-dataserver.ts';
import { UUID } from './messages.ts';

/** Where NameServer 0 and 1 listen. */
const ADDRESSES: readonly HostPort[] = [
  { host: '127.0.0.1', port: 7510 },
  { host: '127.0.0.1', port: 7512 },
];

/** What the store of a NameServer keeps of the newest unsynced writes; `wiped` nothing at all. */
export type Keep = 'all' | 'synced' | 'wiped';

/** One or two NameServers and pretended DataServers, on a network in memory and a clock that the test moves. */
export class World {
  readonly net = new MemoryNet();
  readonly clock = new ManualClock();
  readonly media = [new MemoryKvMedium(), new MemoryKvMedium()];
  readonly lock = new MemoryLockStore(this.clock);
  readonly log = captureLog();
  readonly data: FakeDataServer[];
  /** DataServers whose turns of life pass with time. */
  readonly alive = new Set<FakeDataServer>();
  readonly nameservers: (NameServer | undefined)[] = [];
  readonly processes: PretendedProcess[] = [];
  #beatAtMs = 0;
  readonly #count: number;
  readonly #t: TestContext;

  constructor(t: TestContext, { nameservers = 1, dataservers = 3 } = {}) {
    this.#t = t;
    this.#count = nameservers;
    const { net, clock } = this;
    const addresses = ADDRESSES.slice(0, nameservers);
    this.data = Array.from(
      { length: dataservers },
      (_, i) => new FakeDataServer(i + 1, { net, clock, nameservers: () => addresses }),
    );
    t.defer(() => this.settle(Promise.all(this.data.map((server) => server.close()))));
  }

  /** Everything up, and a leader that knows everyone. */
  static async start(
    t: TestContext,
    sizes: { nameservers?: number; dataservers?: number } = {},
    overrides: Partial<NameServerOptions> = {},
  ): Promise<World> {
    const world = new World(t, sizes);
    for (let id = 0; id < world.#count; id++) await world.startNameServer({ ...overrides, id });
    for (const server of world.data) {
      await server.start();
      world.alive.add(server);
    }
    await world.pass(3000);
    return world;
  }

  /** The first, or only one. */
  get ns(): NameServer {
    return this.nameservers[0]!;
  }

  /** Those that think that they lead. */
  get leaders(): NameServer[] {
    return this.nameservers.filter(
      (server, i): server is NameServer => server !== undefined && this.processes[i]!.running && server.leads,
    );
  }

  /** @throws when there is not exactly one */
  get leader(): NameServer {
    const { leaders } = this;
    if (leaders.length !== 1) throw new Error(`${leaders.length} NameServers lead`);
    return leaders[0]!;
  }

  async startNameServer(overrides: Partial<NameServerOptions> = {}): Promise<void> {
    const id = overrides.id ?? 0;
    const process = new PretendedProcess(this.net, this.clock);
    const server = await NameServer.open({
      id,
      clusterUuid: UUID,
      clusterDigit: 1,
      replicas: 3,
      minWrite: 2,
      configured: this.data.map(({ id: member }) => ({
        id: member,
        address: { host: '127.0.0.1', port: 1 },
        adminPort: 1,
        mount: `/mnt/m${member}`,
        domain: `d${member}`,
      })),
      ...(this.#count > 1 ? { rival: { address: ADDRESSES[1 - id]!, lock: this.lock } } : {}),
      address: ADDRESSES[id]!,
      keyring: Keyring.ofSecret(SECRET),
      kv: await this.media[id]!.open(),
      net: process.net,
      clock: process.clock,
      random: countingRandom(),
      log: this.log,
      pid: 1,
      version: '0',
      ...overrides,
    });
    this.processes[id] = process;
    this.nameservers[id] = server;
    this.#t.defer(() => (process.running ? this.settle(server.close()) : undefined));
  }

  /** As by SIGTERM, then a new process. */
  async restartNameServer(keep: Keep, id = 0): Promise<void> {
    await this.settle(this.nameservers[id]!.close());
    this.#lose(keep, id);
    await this.startNameServer({ id });
  }

  /** As by SIGKILL. */
  killNameServer(id: number): void {
    this.processes[id]!.kill();
    this.nameservers[id] = undefined;
  }

  async restartKilled(keep: Keep, id: number): Promise<void> {
    this.#lose(keep, id);
    await this.startNameServer({ id });
  }

  #lose(keep: Keep, id: number): void {
    const medium = this.media[id]!;
    medium.crash(keep === 'all' ? Number.MAX_SAFE_INTEGER : 0);
    if (keep === 'wiped') medium.wipe();
  }

  /** Time passes in steps; each living DataServer does its turn once a second. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 50) {
      if (this.clock.monotonic() >= this.#beatAtMs) {
        this.#beatAtMs = this.clock.monotonic() + 1000;
        for (const server of this.alive) void server.beat();
        await turns(40);
      }
      this.clock.advance(50);
      await turns(12);
    }
  }

  /** Time passes until something is so. @returns how much */
  async until(what: () => boolean, msMax: number): Promise<number> {
    let passed = 0;
    for (; passed < msMax && !what(); passed += 50) await this.pass(50);
    if (!what()) throw new Error(`not within ${msMax} ms`);
    return passed;
  }

  /** Runs network and clock until the work is done. */
  async settle<T>(work: Promise<T>): Promise<T> {
    let done = false;
    void work.then(
      () => {
        done = true;
      },
      () => {
        done = true;
      },
    );
    for (let i = 0; !done; i++) {
      await turns(2);
      if (!done && i > 20) this.clock.advance(20);
    }
    return work;
  }

  async locate(...blocks: BlockId[]): Promise<LocateState[]> {
    return this.locateAt(0, ...blocks);
  }

  async locateAt(id: number, ...blocks: BlockId[]): Promise<LocateState[]> {
    const { header } = await this.ask('gateway', Op.LOCATE, encodeLocate(blocks), id);
    return decodeLocateReply(header).locations.map(({ state }) => state);
  }

  async ask(role: Role, op: number, header: Buffer = Buffer.from('{}'), id = 0): Promise<{ header: Buffer }> {
    return this.settle(this.peers(role).call(ADDRESSES[id]!, op, header));
  }

  /** Connections that last as long as the test. */
  peers(role: Role): Peers {
    const { net, clock } = this;
    const keyring = Keyring.ofSecret(SECRET);
    const peers = Peers.open({ net, clock, random: countingRandom(), keyring, role, id: 'asking' });
    this.#t.defer(() => this.settle(peers.close()));
    return peers;
  }

  whole(block: BlockId): Whole | undefined {
    return this.ns.map.facts(block)?.whole;
  }

  async code(work: Promise<unknown>): Promise<string> {
    return this.settle(
      work.then(
        () => 'none',
        (error: unknown) => (isTfsError(error) ? `${error.code}: ${error.message}` : String(error)),
      ),
    );
  }
}
