import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { type BlockId, blockId, epochOf, incarnationOf, type ServerId } from '../../common/ids.ts';
import {
  REPAIR_LOST_RETRY_MS,
  REPAIR_RETRY_MS_MAX,
  REPAIR_TASKS_MAX,
  REPAIR_UNREAD_MS,
  REPAIRS_PER_SERVER_MAX,
  REPAIRS_RUNNING_MAX,
  REPLICA_ABSENT_MS,
  SUPERBLOCK_BYTES,
} from '../../common/limits.ts';
import { silentLog } from '../../common/log.ts';
import type { BlockHeadReply, Member, Repair, RepairReply } from '../../common/wire/control.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { AbsentScan } from '../../nameserver/absent-scan.ts';
import { BlockMap } from '../../nameserver/block-map.ts';
import { Repairer } from '../../nameserver/repair.ts';
import { planRepairs } from '../../nameserver/repair-plan.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { turns } from '../kit/memory-net.ts';
import { describe } from '../kit/suite.ts';
import { entryOf, servers } from './entries.ts';
import { addressOf, reignOf } from './messages.ts';

const B = blockId(0x2_0000);
const { SEALED, RECOVERED, OPEN } = BlockState;
const { SUSPECT, QUARANTINED } = BlockFlag;

interface Reported {
  readonly state?: BlockState;
  readonly flags?: number;
  readonly seq?: number;
  readonly n?: number;
  readonly length?: number;
}

class World {
  readonly map = new BlockMap();
  readonly clock = new ManualClock();
  readonly down = new Set<number>();
  readonly readOnly = new Set<number>();
  readonly scan = new AbsentScan(this.map, () => servers(1, 2, 3, 4).filter((id) => !this.down.has(id)));
  readonly orders: string[] = [];
  readonly sealedAnew: BlockId[] = [];
  readonly sent: Repair[] = [];
  readonly heads = new Map<number, Partial<BlockHeadReply> | Error>();
  leads = true;
  reply: RepairReply = { whole: true, fetched: 2, lost: 0 };
  failures = 0;
  refusal: TfsError | undefined;
  running = 0;
  mostRunning = 0;
  hold: Promise<void> | undefined;
  /** What a repaired replica reports afterwards. */
  onRepaired: (block: BlockId, server: ServerId) => void = () => undefined;
  readonly sight = {
    isCurrent: (server: ServerId) => !this.down.has(server),
    canWrite: (server: ServerId) => !this.readOnly.has(server),
  };
  readonly repairer = new Repairer({
    ...this.sight,
    map: this.map,
    absent: this.scan.found,
    clock: this.clock,
    log: silentLog,
    seal: (block) => this.sealedAnew.push(block),
    reign: () => (this.leads ? reignOf(1) : undefined),
    reachable: (id: ServerId) =>
      this.down.has(id) ? undefined : { id, incarnation: incarnationOf(1), address: addressOf(id) },
    commands: {
      blockHead: async ({ id }: Member) => {
        const head = this.heads.get(id);
        if (head instanceof Error) throw head;
        const seal = { length: 5000, slots: 3, digest: 'ab'.repeat(32), epoch: epochOf(1) };
        return { generation: 0, state: SEALED, seal, ...head };
      },
      repair: async (to: Member, order: Repair) => {
        this.orders.push(
          `${order.block - B} on ${to.id} from ${order.sources.map(({ id }) => id).join(' ')}`,
        );
        this.sent.push(order);
        this.mostRunning = Math.max(this.mostRunning, ++this.running);
        await (this.hold ?? turns(1));
        this.running--;
        if (this.refusal !== undefined) throw this.refusal;
        if (this.failures-- > 0) throw new TfsError('CONNECTION_LOST', 'planted');
        if (this.reply.whole) this.onRepaired(order.block, to.id);
        return this.reply;
      },
    },
  });

  report(replicas: Record<number, Reported>, block: number = B): void {
    for (const [server, { state = SEALED, ...rest }] of Object.entries(replicas))
      this.map.report(servers(Number(server))[0]!, entryOf({ block, state, length: 5000, ...rest }));
  }

  plans() {
    return planRepairs(this.map.facts(B)!, this.sight).map(
      ({ target, isAbsent, sources, isEveryone }) =>
        `${target}${isAbsent ? ' absent' : ''} from ${sources.join(' ')}${isEveryone ? '' : ' and others'}`,
    );
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left >= 0; left -= 500) {
      this.scan.step();
      this.repairer.pump();
      await turns(6);
      this.clock.advance(500);
    }
  }
}

describe('the plan of repairs', (test) => {
  test('nothing to do for a block that is whole, or that is not sealed anywhere', () => {
    const world = new World();
    world.report({ 1: {}, 2: {}, 3: {} });
    assert.equal(world.plans(), []);
    const open = new World();
    open.report({ 1: { state: OPEN, flags: SUSPECT }, 2: { state: OPEN }, 3: { state: OPEN } });
    assert.equal(open.plans(), []);
  });

  test('what a block without a record lacks is not brought back, while it is retired', async () => {
    const world = new World();
    const length = SUPERBLOCK_BYTES;
    world.report({ 1: { length }, 2: { length, flags: SUSPECT } });
    assert.equal(world.plans(), ['2 from 1 and others']);
    world.report({ 2: { length } });
    await world.pass(60_000);
    assert.equal([world.plans(), world.scan.found.size, world.orders], [[], 0, []]);
  });

  test('a suspect replica, one that cannot be read, and one that is not there', () => {
    const world = new World();
    world.report({ 1: {}, 2: { flags: SUSPECT } });
    assert.equal(world.plans(), ['2 from 1 and others', '3 absent from 1 2']);
    const quarantined = new World();
    quarantined.report({ 1: {}, 2: {}, 3: { state: RECOVERED, flags: SUSPECT | QUARANTINED } });
    assert.equal(quarantined.plans(), ['3 from 1 2']);
    // It is no source for anyone.
    quarantined.report({ 1: { flags: SUSPECT } });
    assert.equal(quarantined.plans(), ['1 from 2 and others', '3 from 2 1']);
  });

  test('one that waits for its seal is left to that', () => {
    const world = new World();
    world.report({ 1: {}, 2: {}, 3: { state: RECOVERED, flags: SUSPECT } });
    assert.equal(world.plans(), []);
    const plans = (isUnread: boolean) =>
      planRepairs(world.map.facts(B)!, { ...world.sight, isUnread: () => isUnread });
    assert.equal([plans(false).length, plans(true).map(({ target }) => target)], [0, servers(3)]);
  });

  test('sources: whole ones first, up to date before stale and behind; suspect ones help each other', () => {
    const world = new World();
    world.report({ 1: { flags: SUSPECT, seq: 3 }, 2: { seq: 1 }, 3: { seq: 3 } });
    assert.equal(world.plans(), ['1 from 3 2']);
    world.report({ 2: { flags: SUSPECT, seq: 1 }, 3: { flags: SUSPECT, seq: 3 } });
    assert.equal(world.plans(), ['1 from 3 2', '2 from 1 3', '3 from 1 2']);
  });

  test('a replica alone makes good what it can', () => {
    const world = new World();
    world.report({ 1: { flags: SUSPECT }, 2: {}, 3: {} });
    world.down.add(2);
    world.down.add(3);
    assert.equal(world.plans(), ['1 from 1 and others']);
  });

  test('who is away, or whose disk takes no writes, is not repaired, and what they hold may be missed', () => {
    const world = new World();
    world.report({ 1: { flags: SUSPECT }, 2: {}, 3: { flags: SUSPECT } });
    world.down.add(3);
    assert.equal(world.plans(), ['1 from 2 and others']);
    world.readOnly.add(1);
    assert.equal(world.plans(), []);
  });
});

describe('the repairer', (test) => {
  test('repairs a suspect replica at once, and leaves it alone when it reports itself whole', async () => {
    const world = new World();
    world.report({ 1: {}, 2: {}, 3: { flags: SUSPECT } });
    world.onRepaired = (block, server) => world.report({ [server]: {} }, block);
    await world.pass(20_000);
    assert.equal(world.orders, ['0 on 3 from 1 2']);
    const [order] = world.sent;
    assert.equal([order!.seal.length, order!.version, order!.generation], [5000, { epoch: 1, n: 1 }, 0]);
    assert.equal(world.repairer.stats, { repaired: 1, fetched: 2, failures: 0, alarms: 0 });
    assert.is(world.repairer.waiting, 0);
    assert.is(world.map.suspect.size, 0);
  });

  test('what a disk fails to read, and nobody else has, is given up only after a long time', async () => {
    const world = new World();
    world.report({ 1: {}, 2: { flags: SUSPECT }, 3: {} });
    world.refusal = new TfsError('IO', 'planted');
    await world.pass(REPAIR_UNREAD_MS - 60_000);
    assert.ok(world.sent.length > 10 && world.sent.every(({ mayLoseUnread }) => !mayLoseUnread));
    await world.pass(120_000);
    assert.is(world.sent.at(-1)!.mayLoseUnread, true);
    // Read once, it counts from the beginning.
    world.refusal = undefined;
    await world.pass(60_000);
    world.refusal = new TfsError('IO', 'planted');
    await world.pass(60_000);
    assert.is(world.sent.at(-1)!.mayLoseUnread, false);
  });

  test('one that could not be sealed because its disk fails to read it: until its server says that it can be read', async () => {
    const world = new World();
    world.report({ 1: {}, 2: {}, 3: { state: RECOVERED, flags: SUSPECT } });
    await world.pass(20_000);
    assert.equal(world.orders, []);
    world.repairer.unread(B, servers(3)[0]!);
    world.failures = 1;
    world.onRepaired = (_, server) => world.report({ [server]: {} });
    await world.pass(10_000);
    assert.equal(world.orders, ['0 on 3 from 1 2', '0 on 3 from 1 2'], 'tried again, and made whole then');
    assert.is(world.repairer.waiting, 0);

    const readable = new World();
    readable.report({ 1: {}, 2: {}, 3: { state: RECOVERED, flags: SUSPECT } });
    readable.refusal = new TfsError('CONFLICT', 'it waits for its seal');
    readable.repairer.unread(B, servers(3)[0]!);
    await readable.pass(20_000);
    assert.equal([readable.orders, readable.sealedAnew], [['0 on 3 from 1 2'], [B]]);
    assert.is(readable.repairer.waiting, 0);
  });

  test('a replica that is missing: after a while, in case its report is on the way', async () => {
    const world = new World();
    world.report({ 1: {}, 2: {} });
    await world.pass(REPLICA_ABSENT_MS - 1000);
    assert.equal(world.orders, []);
    await world.pass(2000);
    assert.equal(world.orders, ['0 on 3 from 1 2']);
    world.report({ 3: {} });
    await world.pass(60_000);
    assert.is(world.orders.length, 1);
    assert.is(world.scan.found.size, 0);
  });

  test('only a leader repairs', async () => {
    const world = new World();
    world.report({ 1: {}, 2: {}, 3: { flags: SUSPECT } });
    world.leads = false;
    await world.pass(5000);
    assert.equal(world.orders, []);
    world.leads = true;
    await world.pass(0);
    assert.is(world.orders.length, 1);
  });

  test('a failure is tried again, less and less often', async () => {
    const world = new World();
    world.failures = Number.POSITIVE_INFINITY;
    world.report({ 1: {}, 2: {}, 3: { flags: SUSPECT } });
    await world.pass(10_000);
    assert.ok(world.orders.length >= 4 && world.orders.length <= 6, String(world.orders.length));
    await world.pass(200_000);
    const before = world.orders.length;
    await world.pass(REPAIR_RETRY_MS_MAX * 5);
    assert.ok(world.orders.length - before <= 6);
    world.failures = 0;
    world.onRepaired = (block, server) => world.report({ [server]: {} }, block);
    await world.pass(REPAIR_RETRY_MS_MAX);
    assert.is(world.repairer.stats.repaired, 1);
  });

  test('a bounded number at a time, in all and on one server', async () => {
    const world = new World();
    let release = (): void => undefined;
    world.hold = new Promise((resolve) => {
      release = resolve;
    });
    for (let i = 0; i < 40; i++)
      world.report({ 1: i % 2 ? { flags: SUSPECT } : {}, 2: {}, 3: i % 2 ? {} : { flags: SUSPECT } }, B + i);
    await world.pass(2000);
    assert.is(world.running, 2 * REPAIRS_PER_SERVER_MAX);
    assert.ok(world.mostRunning <= REPAIRS_RUNNING_MAX);
    world.onRepaired = (block, server) => world.report({ [server]: {} }, block);
    release();
    await world.pass(3000);
    assert.is(world.repairer.stats.repaired, 40);
    assert.is(world.repairer.waiting, 0);
  });

  test('lost records are told once, counted, and asked for again much later', async () => {
    const world = new World();
    world.reply = { whole: false, fetched: 1, lost: 2 };
    world.report({ 1: { flags: SUSPECT }, 2: { flags: SUSPECT }, 3: { flags: SUSPECT } });
    await world.pass(60_000);
    assert.is(world.orders.length, 3);
    assert.is(world.repairer.lostRecords, 2, 'of the block, not of each replica');
    assert.is(world.repairer.stats.alarms, 3);
    await world.pass(REPAIR_LOST_RETRY_MS);
    assert.is(world.orders.length, 6);
    assert.is(world.repairer.stats.alarms, 3, 'no news');
    world.reply = { whole: true, fetched: 2, lost: 0 };
    world.onRepaired = (block, server) => world.report({ [server]: {} }, block);
    await world.pass(REPAIR_LOST_RETRY_MS);
    assert.is(world.repairer.lostRecords, 0);
  });

  test('records that were sealed as lost are lost, and not asked for at every look', async () => {
    const world = new World();
    world.reply = { whole: true, fetched: 0, lost: 1 };
    world.report({ 1: { flags: SUSPECT }, 2: {}, 3: {} });
    world.down.add(3);
    await world.pass(60_000);
    assert.is(world.orders.length, 1);
    assert.is(world.repairer.lostRecords, 1);
    assert.is(world.repairer.stats.repaired, 0);
  });

  test('records that only an absent server may have are not lost: it is tried again', async () => {
    const world = new World();
    world.reply = { whole: false, fetched: 1, lost: 2 };
    world.report({ 1: { flags: SUSPECT }, 2: { flags: SUSPECT }, 3: {} });
    world.down.add(3);
    await world.pass(5000);
    assert.is(world.repairer.lostRecords, 0);
    assert.is(world.repairer.stats.alarms, 0);
    assert.ok(world.repairer.stats.failures > 2);
  });

  test('a source that does not answer, or holds another generation, is left out; contradicting seals are left to the sealer', async () => {
    const world = new World();
    world.heads.set(1, new TfsError('DONT_KNOW', 'planted'));
    world.report({ 1: {}, 2: {}, 3: { flags: SUSPECT } });
    await world.pass(0);
    assert.equal(world.orders, ['0 on 3 from 2']);
    const other = new World();
    other.heads.set(1, { seal: { length: 5000, slots: 3, digest: 'cd'.repeat(32), epoch: epochOf(1) } });
    other.report({ 1: {}, 2: {}, 3: { flags: SUSPECT } });
    await other.pass(5000);
    assert.equal(other.orders, []);
    assert.ok(other.repairer.stats.failures > 0);
    assert.equal([...new Set(other.sealedAnew)], [B]);
    assert.equal(world.sealedAnew, []);
  });

  test('a disk that comes back empty gets its blocks back, as many at a time as are allowed', async () => {
    const world = new World();
    for (let i = 0; i < 3000; i++) world.report({ 1: {}, 2: {} }, B + i);
    world.onRepaired = (block, server) => world.report({ [server]: {} }, block);
    await world.pass(REPLICA_ABSENT_MS + 1000);
    assert.ok(world.repairer.waiting <= REPAIR_TASKS_MAX);
    await world.pass(200_000);
    assert.is(world.repairer.stats.repaired, 3000);
    assert.is(world.scan.found.size, 0);
  });
}, 60_000);
