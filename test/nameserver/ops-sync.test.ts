import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { blockId, epochOf, incarnationOf, type ServerId } from '../../common/ids.ts';
import { OPS_BEHIND_MS, OPS_SYNCS_RUNNING_MAX } from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { Member, SyncOps } from '../../common/wire/control.ts';
import { BlockMap, Effect } from '../../nameserver/block-map.ts';
import { OpsSync } from '../../nameserver/ops-sync.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = blockId(0x2_0000);

class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly down = new Set<number>();
  readonly orders: string[] = [];
  failures = 0;
  failure = new TfsError('CONNECTION_LOST', 'planted');
  readonly renewed: number[] = [];
  renewedAs: Parameters<BlockMap['configured']>[1] | undefined;
  reply = 9;
  running = 0;
  mostRunning = 0;
  readonly sync = new OpsSync({
    map: this.map,
    clock: this.clock,
    log: silentLog,
    reign: () => reignOf(1),
    renew: async (block) => {
      this.renewed.push(block);
      if (this.renewedAs === undefined) throw new TfsError('UNAVAILABLE', 'a member is away');
      this.map.configured(block, this.renewedAs);
    },
    reachable: (id: ServerId) =>
      this.down.has(id) ? undefined : { id, incarnation: incarnationOf(1), address: addressOf(id) },
    commands: {
      fence: async () => Promise.reject(new Error('not here')),
      seal: async () => Promise.reject(new Error('not here')),
      configure: async () => Promise.reject(new Error('not here')),
      syncOps: async (to: Member, { from }: SyncOps) => {
        this.orders.push(`${to.id} from ${from.id}`);
        this.mostRunning = Math.max(this.mostRunning, ++this.running);
        await turns(1);
        this.running--;
        if (this.failures-- > 0) throw this.failure;
        return { seq: this.reply };
      },
    },
  });

  opsPrimary = 1;

  report(seqs: Record<number, number>, block: number = B): void {
    const { opsPrimary } = this;
    for (const [server, seq] of Object.entries(seqs))
      if (this.map.report(servers(Number(server))[0]!, entryOf({ seq, block, opsPrimary })) & Effect.BEHIND)
        this.sync.noted(blockId(block));
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left >= 0; left -= 500) {
      this.sync.pump();
      await turns(4);
      this.clock.advance(500);
    }
  }
}

describe('ops sync', (test) => {
  test('reports that cross cause nothing', async () => {
    const world = new World();
    world.report({ 1: 5, 2: 5, 3: 5 });
    world.report({ 1: 9 });
    await world.pass(OPS_BEHIND_MS - 1000);
    world.report({ 2: 9, 3: 9 });
    await world.pass(20_000);
    assert.equal(world.orders, []);
    assert.is(world.sync.waiting, 0);
  });

  test('who is held up by a configuration that was begun and never finished gets the next one', async () => {
    const superseded = new TfsError('STALE_EPOCH', 'planted', { details: { epoch: 1, n: 2 } });
    for (const failure of [superseded, new TfsError('CONFLICT', 'planted')]) {
      const world = new World();
      world.failure = failure;
      world.failures = 2;
      world.report({ 1: 9, 2: 5, 3: 9 });
      await world.pass(20_000);
      assert.equal(world.renewed, [B, B], 'asked for as long as it is needed');
      assert.is(world.sync.waiting, 0);
    }
    for (const code of ['CONNECTION_LOST', 'STALE_EPOCH'] as const) {
      const world = new World();
      world.failure = new TfsError(code, 'planted');
      world.failures = 2;
      world.report({ 1: 9, 2: 5, 3: 9 });
      await world.pass(20_000);
      assert.equal(world.renewed, [], 'a lost connection, or another leader, is no reason');
    }
  });

  test('a server that was away when it was its turn gets its turn when it is back, without a report', async () => {
    const world = new World();
    world.report({ 1: 9, 2: 5, 3: 9 });
    world.down.add(2);
    await world.pass(20_000);
    assert.equal([world.orders, world.sync.waiting], [[], 0]);
    world.down.clear();
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders, ['2 from 1']);
    await world.pass(20_000);
    assert.equal([world.orders.length, world.sync.waiting], [1, 0]);
  });

  test('where nobody has the newest operation any more, the next configuration begins without it', async () => {
    const world = new World();
    world.report({ 1: 9, 2: 5, 3: 5 });
    // The sequencer, whose log was damaged, has made it anew from theirs.
    world.report({ 1: 5 });
    assert.ok(world.map.facts(B)?.replicas.every(({ behind }) => behind));
    for (const id of [1, 2, 3]) world.down.add(id);
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal([world.renewed, world.sync.waiting], [[], 0], 'for nobody who is there');
    world.down.clear();
    world.report({ 1: 5 });
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.renewed, [B]);
    assert.is(world.sync.waiting, 1, 'tried again where that failed');
    const version = { epoch: epochOf(1), n: 2 };
    world.renewedAs = { version, members: servers(1, 2, 3), opsPrimary: servers(1)[0]!, seq: 6 };
    await world.pass(20_000);
    assert.equal(world.renewed, [B, B], 'and no more when it has helped');
    assert.equal([world.orders, world.sync.waiting], [[], 0]);
    for (const server of servers(1, 2, 3))
      assert.is(world.map.report(server, entryOf({ seq: 6, n: 2 })) & Effect.BEHIND, 0);
  });

  test('who stays behind fetches from the sequencer, once', async () => {
    const world = new World();
    world.report({ 1: 9, 2: 5, 3: 9 });
    await world.pass(20_000);
    assert.equal(world.orders, ['2 from 1']);
    assert.ok(world.map.facts(B)?.replicas.every(({ behind }) => !behind));
  });

  test('the sequencer need not be the first member', async () => {
    const world = new World();
    world.opsPrimary = 3;
    world.report({ 1: 9, 2: 5, 3: 9 });
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders, ['2 from 3']);
  });

  test('a sequencer that is behind fetches from who is not', async () => {
    const world = new World();
    world.report({ 1: 5, 2: 9, 3: 5 });
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders.sort(), ['1 from 2', '3 from 2']);
  });

  test('a failure, or too little fetched, is tried again; a server that is away is not asked', async () => {
    const world = new World();
    world.failures = 1;
    world.report({ 1: 9, 2: 5, 3: 5 });
    world.down.add(3);
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders, ['2 from 1']);
    world.reply = 7;
    await world.pass(OPS_BEHIND_MS + 500);
    assert.is(world.orders.length, 2);
    world.reply = 9;
    await world.pass(OPS_BEHIND_MS + 500);
    await world.pass(20_000);
    assert.is(world.orders.length, 3);
    world.down.delete(3);
    world.report({ 3: 5 });
    await world.pass(OPS_BEHIND_MS + 500);
    assert.is(world.orders.at(-1), '3 from 1');
  });

  test('nobody is told to fetch from a replica of an older configuration', async () => {
    const world = new World();
    const report = (server: number, seq: number, n: number) =>
      world.map.report(servers(server)[0]!, entryOf({ seq, n, members: n === 1 ? [1, 2, 3] : [1, 2] }));
    for (const server of [1, 2, 3]) report(server, 9, 1);
    for (const server of [1, 2]) report(server, 10, 2);
    // The sequencer's log lost what it had, and the other one is silent.
    assert.ok(report(1, 9, 2) & Effect.GONE_BACK);
    world.sync.noted(B);
    world.down.add(2);
    await world.pass(20_000);
    assert.equal(world.orders, []);
    world.down.delete(2);
    world.reply = 10;
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders, ['1 from 2']);
    assert.equal(world.map.staleOf(servers(1)[0]!), [], 'it has it again');
  });

  test('without a source that is up it waits', async () => {
    const world = new World();
    world.report({ 1: 9, 2: 5 });
    world.down.add(1);
    await world.pass(20_000);
    assert.equal(world.orders, []);
    assert.is(world.sync.waiting, 1);
    world.down.delete(1);
    await world.pass(OPS_BEHIND_MS + 500);
    assert.equal(world.orders, ['2 from 1']);
  });

  test('many at once run a few at a time', async () => {
    const world = new World();
    for (let i = 0; i < 100; i++) world.report({ 1: 9, 2: 5, 3: 9 }, 0x2_0000 + i);
    await world.pass(20_000);
    assert.is(world.orders.length, 100);
    assert.ok(world.mostRunning <= OPS_SYNCS_RUNNING_MAX && world.mostRunning > 1);
  });
});
