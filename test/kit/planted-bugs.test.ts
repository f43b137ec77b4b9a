import { existsSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import {
  beginConfiguration,
  emptyOpsState,
  foldOp,
  type Op,
  type OpContent,
  OpType,
} from '../../common/format/ops.ts';
import {
  type BlockId,
  blockId,
  type Cookie,
  epochOf,
  type FileId,
  incarnationOf,
  type Slot,
  serverId,
} from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import type { Register } from '../../common/wire/control.ts';
import { BlockState, LocateState, NameFlag } from '../../common/wire/messages.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { type DedupDeps, Deduplicator } from '../../dataserver/dedup.ts';
import { dueSlots } from '../../dataserver/due-slots.ts';
import type { NameServers } from '../../dataserver/nameservers.ts';
import { PromiseKeeper } from '../../dataserver/promise.ts';
import { Reader } from '../../dataserver/reader.ts';
import { ReadClock } from '../../dataserver/scrub/read-times.ts';
import type { NewRecord } from '../../dataserver/session.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { checkRegistration, type MemberRecord } from '../../nameserver/registration.ts';
import { Series } from '../../nameserver/series.ts';
import { World } from '../nameserver/world.ts';
import { until } from './filled-cluster.ts';
import { LocalCluster } from './local-cluster.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryKvMedium } from './memory-kv.ts';
import { MemoryQueues } from './memory-queues.ts';
import {
  dataServerFaults,
  FURTHER_SWITCHES,
  nameServerFaults,
  PLANTED_BUG_NAMES,
  PLANTED_BUGS,
  type PlantedBug,
} from './planted-bugs.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';
import { describe } from './suite.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const sourceOf = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const switchesOf = (file: string): string[] =>
  [...sourceOf(file).matchAll(/^ {2}\| '([a-z-]+)'/gm)].map(([, name]) => name!);
const product = ['nameserver', 'dataserver'].flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => sourceOf(path.join(folder, file))),
);
const bugs: readonly PlantedBug[] = Object.values(PLANTED_BUGS);

describe('the registry of planted bugs', (test) => {
  test('has every switch there is, and each is asked for somewhere', () => {
    const used = [...bugs.flatMap(({ dataserver = [] }) => dataserver), ...FURTHER_SWITCHES];
    assert.equal([...new Set(used)].sort(), switchesOf('dataserver/block/faults.ts').sort());
    const ofNameServers = bugs.flatMap(({ nameserver = [] }) => nameserver);
    assert.equal([...new Set(ofNameServers)].sort(), switchesOf('nameserver/faults.ts').sort());
    for (const name of [...used, ...ofNameServers])
      assert.ok(
        product.some((source) => source.includes(`has('${name}')`)),
        `${name} is asked for nowhere`,
      );
  });

  test('says of each what it breaks, what turns it on, and tests that are there', () => {
    assert.is(PLANTED_BUG_NAMES.length, 26);
    for (const { breaks, needs, dataserver = [], nameserver = [], caughtBy = [] } of bugs) {
      assert.ok(dataserver.length + nameserver.length > 0, breaks);
      assert.ok(needs.length > 10);
      for (const file of caughtBy) assert.ok(existsSync(path.join(ROOT, file)), file);
    }
  });

  test('turns on only what belongs to a bug', () => {
    assert.ok(dataServerFaults('configuration-of-one').has('ack-below-min-write'));
    assert.not(dataServerFaults('configuration-of-one').has('skip-datasync'));
    assert.ok(nameServerFaults('configuration-of-one').has('configure-below-min-write'));
    assert.not(nameServerFaults('stale-404').has('seal-at-minimum'));
  });
});

const BLOCK = blockId(0x2_0000);
const reign = (epoch: number) => ({ epoch: epochOf(epoch), nameserver: 0 });
const at = (epoch: number) => ({ epoch: epochOf(epoch), n: 1 });
const random = new SeededRandom(1);

/** Each way with the bug and without. */
const BOTH = [true, false] as const;

describe('a switch breaks what it says', (test) => {
  test('promise-not-persisted', async () => {
    for (const isOn of BOTH) {
      const disk = new RecordingDisk();
      const keeper = await PromiseKeeper.open(
        disk,
        isOn ? dataServerFaults('promise-not-persisted') : undefined,
      );
      await keeper.accept(reign(5));
      assert.is(keeper.reign.epoch, 5);
      assert.is((await PromiseKeeper.open(disk)).reign.epoch, isOn ? 0 : 5);
    }
  });

  test('stale-404', () => {
    const store = { info: () => ({ state: BlockState.SEALED, flags: 0 }) } as unknown as BlockStore;
    const nameservers = { isConfirmed: () => false } as unknown as NameServers;
    const reads = new ReadClock(new ManualClock());
    for (const isOn of BOTH) {
      const faults = isOn ? dataServerFaults('stale-404') : undefined;
      const said = new Reader({ store, nameservers, reads, faults }).honest(
        new TfsError('NOT_FOUND', 'planted'),
        BLOCK,
        true,
      );
      assert.is(isTfsError(said) && said.code, isOn ? 'NOT_FOUND' : 'DONT_KNOW');
    }
  });

  test('reference-counter', () => {
    const state = emptyOpsState();
    let seq = 0;
    const mutate = (type: typeof OpType.DELETE | typeof OpType.UNDELETE, slot: number): void => {
      const op = { type, fileId: slot as FileId, version: at(1), seq: ++seq, atMs: 1_000 };
      foldOp(state, { ...op, opId: random.bytes(16) });
    };
    mutate(OpType.DELETE, 3);
    mutate(OpType.UNDELETE, 3);
    mutate(OpType.DELETE, 4);
    assert.equal(dueSlots(state, 60_000, 1_000, undefined), [4]);
    assert.equal(dueSlots(state, 60_000, 1_000, dataServerFaults('reference-counter')), [3, 4]);
  });

  test('tombstone-over-undelete', () => {
    const members = [1, 2].map(serverId);
    const cfg: OpContent = { type: OpType.CFG, members, opsPrimary: members[0]! };
    const grow = (log: readonly Op[], epoch: number, content: OpContent): Op[] => [
      ...log,
      { ...content, version: at(epoch), seq: log.length + 1, atMs: 0, opId: random.bytes(16) } as Op,
    ];
    const behind = grow(grow([], 1, cfg), 1, { type: OpType.DELETE, fileId: 3 as FileId });
    const ahead = grow(grow(behind, 2, { ...cfg, members: members.slice(0, 1) }), 2, {
      type: OpType.UNDELETE,
      fileId: 3 as FileId,
    });
    const logs = [
      { server: members[0]!, ops: ahead },
      { server: members[1]!, ops: behind },
    ];
    for (const tombstonesWin of BOTH) {
      const next = { version: at(3), members, opsPrimary: members[0]!, atMs: 5, tombstonesWin };
      const state = emptyOpsState();
      foldOp(state, beginConfiguration(logs, next));
      assert.is(((state.slotFlags[3] ?? 0) & NameFlag.DELETED) !== 0, tombstonesWin);
    }
  });

  test('dedup-against-unacked and op-id-of-partial-record', async () => {
    const payload = Buffer.from('a picture');
    const record: NewRecord = {
      opId: random.bytes(16),
      sha1: random.bytes(20),
      size: payload.length,
      dataCrc: 7,
      suffixHash: 0,
      mediaType: 0,
      chunkCrcs: new Uint32Array(),
      payload,
    };
    const place = { block: BLOCK, fileId: 3 as FileId };
    const find = async (opId: Buffer, faults: DedupDeps['faults']) => {
      const header = { ...record, opId, cookie: 1 as Cookie, mtimeMs: 0 };
      const found = { header, nameFlags: 0, proven: false, payload, slot: 3 as Slot };
      const deduplicator = new Deduplicator({
        server: serverId(1),
        store: {
          info: () => ({ opsPrimary: 1, members: [1, 2], slots: 4 }),
          read: () => Promise.resolve(found),
          opsState: () => Promise.resolve(emptyOpsState()),
        } as unknown as BlockStore,
        index: {
          lookup: () => Promise.resolve({ byContent: place, byOp: place }),
          addOp: () => undefined,
        } as unknown as DedupDeps['index'],
        ops: {
          isReady: () => true,
          alias: (_: BlockId, { aliasId }: { aliasId: FileId }) => Promise.resolve(aliasId),
        } as unknown as DedupDeps['ops'],
        random,
        faults,
      });
      return deduplicator.find(record, false);
    };
    const other = random.bytes(16);
    assert.is(await find(other, undefined), undefined);
    assert.is((await find(other, dataServerFaults('dedup-against-unacked')))?.deduplicated, true);
    assert.is(await find(record.opId, undefined), undefined);
    assert.is((await find(record.opId, dataServerFaults('op-id-of-partial-record')))?.replayed, true);
  });

  test('restored-snapshot-admitted', () => {
    const server = { address: { host: 'a', port: 1 }, pid: 1, mount: '/m', promise: reign(4) };
    const record = { ...server, incarnation: incarnationOf(9) } as unknown as MemberRecord;
    const older = {
      ...server,
      clusterUuid: 'c',
      server: 1,
      incarnation: incarnationOf(7),
    } as unknown as Register;
    const before = { record, heardAgoMs: Number.POSITIVE_INFINITY };
    const facts = { clusterUuid: 'c', before };
    assert.throws(
      () => checkRegistration(older, facts),
      (error: unknown) => isTfsError(error, 'REFUSED'),
    );
    checkRegistration(older, { ...facts, faults: nameServerFaults('restored-snapshot-admitted') });
  });

  test('series-reused', async () => {
    for (const isOn of BOTH) {
      const series = await Series.open({
        store: new NameStore(await new MemoryKvMedium().open()),
        nameserver: 0,
        clock: new ManualClock(),
        log: silentLog,
        whoIsMissing: () => undefined,
        ...(isOn ? { faults: nameServerFaults('series-reused') } : {}),
      });
      series.heard(1 << 1, 0);
      assert.is((await series.next()) >>> 17, isOn ? 1 : 2);
    }
  });

  test('404-in-safe-mode', async (t) => {
    for (const isOn of BOTH) {
      const world = new World(t);
      await world.startNameServer(isOn ? { faults: nameServerFaults('404-in-safe-mode') } : {});
      assert.ok(world.ns.leads);
      const { locations } = await world.ns.locate([BLOCK]);
      assert.is(locations[0]!.state, isOn ? LocateState.ABSENT : LocateState.DONT_KNOW);
      await world.settle(world.ns.close());
    }
  });
});

describe('a switch breaks what it says in a whole cluster', (test) => {
  test('alias-takes-next-slot', async (t) => {
    const { client } = await LocalCluster.start(t, { bug: 'alias-takes-next-slot' });
    const body = random.bytes(3_000);
    const first = await client.put(body);
    const second = await client.put(body);
    assert.is(second.deduplicated, true);
    assert.ok((await (await client.get(first.name)).bytes()).equals(body));
    assert.is(await codeOf(client.get(second.name)), 'NOT_FOUND');
  });

  test('configuration-of-one', async (t) => {
    const cluster = await LocalCluster.start(t, { bug: 'configuration-of-one' });
    const { name, key } = await cluster.client.put(random.bytes(3_000));
    const last = cluster.nameserver.map.facts(key.block)!.opsPrimary!;
    for (const id of [1, 2, 3]) if (id !== last) await cluster.stopServer(id);
    await cluster.client.remove(name);
    const members = cluster.nameserver.map.facts(key.block)!.replicas.filter(({ member }) => member);
    assert.equal(
      members.map(({ server }) => server),
      [last],
    );
  });

  test('append-after-restart: a session outlives a connection', async (t) => {
    const cluster = await LocalCluster.start(t, { bug: 'append-after-restart' });
    await cluster.client.put(random.bytes(3_000));
    const primary = [...cluster.servers.values()].find(({ pool }) => pool.openCount > 0)!;
    const before = primary.pool.openCount;
    for (const { address } of cluster.servers.values()) primary.pool.peerLost(address);
    assert.is(primary.pool.openCount, before);
  });

  test('drop-on-a-jobs-word', async (t) => {
    const queues = new MemoryQueues(new ManualClock());
    const cluster = await LocalCluster.start(t, { bug: 'drop-on-a-jobs-word', queues });
    const { block } = (await cluster.client.put(random.bytes(3_000))).key;
    const opsPrimary = cluster.nameserver.map.facts(block)!.opsPrimary!;
    cluster.servers.get(opsPrimary)!.pool.endAll('stop');
    await until('it is sealed', () => cluster.servers.get(1)!.store.info(block)?.state === BlockState.SEALED);
    const payload = { kind: 'replicate', block, round: 1 };
    await cluster.servers.get(1)!.jobs!.handle({ id: 'late', payload, progress: () => undefined });
    assert.is(cluster.servers.get(1)!.store.info(block), undefined);
  });
}, 40_000);

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );
