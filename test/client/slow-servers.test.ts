import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { TfsClient, type TfsClientOptions } from '../../client/client.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import {
  CHECK_MS_MAX,
  HEDGE_MS_MAX,
  NAMESERVER_HEDGE_MS,
  PUT_ATTEMPTS_MAX,
  READ_ATTEMPT_MS_MAX,
} from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import { Op } from '../../common/wire/messages.ts';
import { FAKE_UUID, FakeCluster, type FakeServer } from '../kit/fake-cluster.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe, type TestContext } from '../kit/suite.ts';

/** A cluster and its clients on a clock of the test's own. */
class World {
  readonly clock = new ManualClock();
  readonly cluster: FakeCluster;
  readonly #t: TestContext;
  #clients = 0;

  constructor(t: TestContext, options: { nameservers?: number } = {}) {
    this.#t = t;
    this.cluster = new FakeCluster({ ...options, clock: this.clock });
  }

  async client(more: Partial<TfsClientOptions> = {}): Promise<TfsClient> {
    const client = await TfsClient.open({
      peers: this.cluster,
      nameservers: this.cluster.nameserverAddresses,
      rendezvousKey: this.cluster.keyring.rendezvousKey,
      clusterDigit: 1,
      clusterUuid: FAKE_UUID,
      clock: this.clock,
      random: new SeededRandom(++this.#clients),
      log: silentLog,
      ...more,
    });
    this.#t.defer(() => client.close());
    await this.clock.spend(client.ready(2000));
    return client;
  }

  /** Everything asked of it waits from here on. @returns what lets it go on */
  stop(node: { stopped: Promise<void> | undefined }): () => void {
    let release: () => void = () => undefined;
    node.stopped = new Promise((resolve) => {
      release = resolve;
    });
    const goOn = () => {
      node.stopped = undefined;
      release();
    };
    this.#t.defer(goOn);
    return goOn;
  }

  slow(server: FakeServer, op: number, ms: number): void {
    server.before = (asked) => (asked === op ? this.clock.sleep(ms) : undefined);
  }

  async put(client: TfsClient, count: number): Promise<string[]> {
    const names: string[] = [];
    for (let i = 0; i < count; i++) {
      const storing = client.put(randomBytes(200));
      await this.clock.spend(storing);
      names.push((await storing).name);
    }
    return names;
  }

  /** One after the other. @returns how long each took */
  async get(client: TfsClient, names: readonly string[]): Promise<number[]> {
    const took: number[] = [];
    for (const name of names) took.push(await this.clock.spend(client.get(name)));
    return took;
  }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ok',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

describe('client: servers that are slow or hang', (test) => {
  test('reads of a stopped server do not wait for its deadline, and soon do not ask it', async (t) => {
    const world = new World(t);
    let hedges = 0;
    const client = await world.client({ events: { hedge: () => void hedges++ } });
    const names = await world.put(client, 40);
    await world.get(client, [...names, ...names]);
    const { cluster } = world;
    world.stop(cluster.server(2));
    const before = cluster.server(2).count(Op.READ);
    const took = await world.get(client, [...names, ...names, ...names]);
    assert.ok(Math.max(...took) < CHECK_MS_MAX, `the slowest took ${Math.max(...took)} ms`);
    assert.ok(cluster.server(2).count(Op.READ) - before < 20, `${cluster.server(2).count(Op.READ) - before}`);
    assert.ok(hedges >= 1);
  });

  test('all reads that wait for a stopped server at once go on elsewhere, whatever the budget', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const names = await world.put(client, 150);
    await world.get(client, names);
    world.stop(world.cluster.server(2));
    const took = await world.clock.spend(Promise.all(names.map((name) => client.get(name))));
    assert.ok(took < READ_ATTEMPT_MS_MAX / 3, `${took} ms`);
  });

  test('once a stopped server is known, what only unconfirmed replicas have does not wait for it', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const names = await world.put(client, 20);
    await world.get(client, names);
    const { cluster } = world;
    for (const id of [1, 3]) cluster.server(id).mode = 'provisional';
    world.stop(cluster.server(2));
    const [first, ...others] = await world.get(client, names);
    assert.ok(first! <= CHECK_MS_MAX + 50, `${first} ms`);
    for (const ms of others) assert.ok(ms < HEDGE_MS_MAX, `${ms} ms`);
  });

  test('a slow cluster is not asked much more than a fast one', async (t) => {
    const world = new World(t);
    let hedges = 0;
    const client = await world.client({ events: { hedge: () => void hedges++ } });
    const names = await world.put(client, 100);
    await world.get(client, names);
    for (const server of world.cluster.servers) world.slow(server, Op.READ, 100);
    for (let i = 0; i < 5; i++) await world.clock.spend(Promise.all(names.map((name) => client.get(name))));
    assert.ok(hedges <= 50, `${hedges} of 500 reads were put twice`);
  });

  test('a disk on which everything takes half a second longer is out of the reads, and back when it is mended', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const names = await world.put(client, 30);
    await world.get(client, names);
    const sick = world.cluster.server(1);
    world.slow(sick, Op.READ, 500);
    // Some reads find out.
    await world.get(client, names);
    await world.clock.spend(world.clock.sleep(600));
    const count = sick.count(Op.READ);
    const startedAt = world.clock.monotonic();
    const took = await world.get(client, [...names, ...names, ...names]);
    const trials = 2 + (world.clock.monotonic() - startedAt) / 1000;
    assert.ok(sick.count(Op.READ) - count <= trials, 'one in a second finds out whether it is better');
    assert.ok(Math.max(...took) < 400, `the slowest took ${Math.max(...took)} ms`);
    sick.before = undefined;
    for (let i = 0; i < 10; i++) {
      await world.get(client, names);
      await world.clock.spend(world.clock.sleep(1000));
    }
    const mended = sick.count(Op.READ);
    await world.get(client, names);
    assert.ok(sick.count(Op.READ) - mended >= 5, 'it is read from again');
  });

  test('a disk that the cluster map shows as slow is asked last, for reads and for writes', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const names = await world.put(client, 30);
    const sick = world.cluster.server(3);
    sick.io = { healthy: true, readOnly: false, probeMs: 700, slow: true };
    await world.clock.spend(client.readClusterMap());
    const [reads, puts] = [sick.count(Op.READ), sick.count(Op.PUT)];
    await world.get(client, names);
    await world.put(client, 30);
    assert.is(sick.count(Op.READ), reads);
    assert.is(sick.count(Op.PUT), puts);
    for (const id of [1, 2]) world.cluster.server(id).down = true;
    await world.get(client, names.slice(0, 1));
    await world.put(client, 1);
  });

  test('a full disk gets no uploads as long as another one takes them', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const full = world.cluster.server(3);
    full.io = { healthy: true, readOnly: false, probeMs: 1, full: true };
    await world.clock.spend(client.readClusterMap());
    await world.put(client, 20);
    assert.is(full.count(Op.PUT), 0);
  });
});

describe('client: a primary that is stopped', (test) => {
  test('an upload goes elsewhere soon, and the next ones do not ask it until it shows signs of life', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const { cluster, clock } = world;
    const sick = cluster.server(1);
    const goOn = world.stop(sick);
    let slowest = 0;
    for (let i = 0; i < 30; i++) slowest = Math.max(slowest, await clock.spend(client.put(randomBytes(100))));
    assert.ok(slowest >= 900 && slowest <= 1100, `${slowest} ms`);
    assert.is(sick.count(Op.PUT), 1, 'no other upload was given to it');
    await clock.spend(clock.sleep(5000));
    await clock.spend(client.put(randomBytes(100)));
    assert.is(sick.count(Op.PUT), 1, 'also not after a while');
    goOn();
    for (let i = 0; i < 40; i++) {
      await world.put(client, 1);
      await clock.spend(clock.sleep(100));
    }
    assert.ok(sick.count(Op.PUT) > 4, 'it gets uploads again');
  });

  test('a primary that takes its time but answers PINGs is waited for', async (t) => {
    const world = new World(t);
    const client = await world.client();
    for (const server of world.cluster.servers) world.slow(server, Op.PUT, 3200);
    await world.put(client, 1);
    const asked = world.cluster.servers.map((server) => server.count(Op.PUT));
    assert.equal(asked.sort(), [0, 0, 1]);
  });

  test('fast refusals do not use up the budget while a cluster recovers', async (t) => {
    const world = new World(t);
    const client = await world.client();
    for (const server of world.cluster.servers) server.refusePut = new TfsError('RETRY_ELSEWHERE', 'not now');
    const storing = client.put(randomBytes(100));
    await world.clock.spend(world.clock.sleep(2000));
    for (const server of world.cluster.servers) server.refusePut = undefined;
    await world.clock.spend(storing);
    const asked = world.cluster.servers.reduce((sum, server) => sum + server.count(Op.PUT), 0);
    assert.ok(asked <= PUT_ATTEMPTS_MAX, `${asked}`);
  });

  test('where nobody shows signs of life, an upload waits: all of them may only have too much to do', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const goOn = world.cluster.servers.map((server) => world.stop(server));
    const storing = client.put(randomBytes(100));
    await world.clock.spend(world.clock.sleep(3500));
    for (const release of goOn) release();
    await world.clock.spend(storing);
    const asked = world.cluster.servers.map((server) => server.count(Op.PUT));
    assert.equal(asked.sort(), [0, 0, 1]);
  });

  test('a large upload may be on its way for longer', async (t) => {
    const world = new World(t);
    const client = await world.client();
    const goOn = world.cluster.servers.map((server) => world.stop(server));
    const storing = client.put(Buffer.alloc(16 << 20, 1));
    await world.clock.spend(world.clock.sleep(1800));
    for (const release of goOn) release();
    await world.clock.spend(storing);
    const asked = world.cluster.servers.map((server) => server.count(Op.PUT));
    assert.equal(asked.sort(), [0, 0, 1]);
  });
});

describe('client: NameServers that hang', (test) => {
  test('a leader that was stopped costs a moment once, not every question its deadline', async (t) => {
    const world = new World(t, { nameservers: 2 });
    const { cluster } = world;
    const client = await world.client();
    const storing = await world.client();
    // Which block an upload goes to is drawn: one name of each of the three, however many uploads that takes.
    const ofBlock = new Map<number, string>();
    for (let i = 0; ofBlock.size < 3 && i < 200; i++) {
      const [name] = (await world.put(storing, 1)) as [string];
      ofBlock.set(client.parse(name).block, name);
    }
    const ofBlocks = [...ofBlock.values()];
    assert.is(ofBlocks.length, 3);
    const leader = cluster.nameservers[0]!;
    world.stop(leader);
    const locates = () => leader.calls.filter((op) => op === Op.LOCATE).length;
    const [first, ...others] = await world.get(client, ofBlocks);
    assert.ok(first! <= 2 * NAMESERVER_HEDGE_MS, `${first} ms`);
    for (const ms of others) assert.ok(ms < NAMESERVER_HEDGE_MS, `${ms} ms`);
    assert.is(locates(), 1);
  });
});

describe('client: the policy for what is not confirmed', (test) => {
  test('"available" gives a provisional picture, "fresh" says "not now"', async (t) => {
    const world = new World(t);
    const available = await world.client();
    const fresh = await world.client({ reads: 'fresh' });
    const [name] = (await world.put(available, 1)) as [string];
    for (const server of world.cluster.servers) server.mode = 'provisional';
    await world.get(available, [name]);
    for (const ask of [() => fresh.get(name), () => fresh.check(name), () => fresh.stat(name)]) {
      const code = codeOf(ask());
      await world.clock.spend(code);
      assert.is(await code, 'DONT_KNOW');
    }
    world.cluster.server(2).mode = 'current';
    await world.get(fresh, [name]);
  });
});
