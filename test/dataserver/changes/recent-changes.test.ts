import * as assert from 'uvu/assert';
import { type MutationType, type Op, OpType } from '../../../common/format/ops.ts';
import { ALIAS_BIT, type BlockId, type Slot } from '../../../common/ids.ts';
import { CHANGES_KEPT_MS } from '../../../common/limits.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import { RecentChanges } from '../../../dataserver/changes/recent-changes.ts';
import {
  aliasOp,
  CONFIGURATION,
  mutation,
  openStore,
  put,
  RushingClock,
  superblockOf,
  Writer,
} from '../../kit/block-world.ts';
import { RecordingDisk } from '../../kit/recording-disk.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const ID = 65_537 as BlockId;
const HOUR_MS = 3600_000;
const ALIAS = (ALIAS_BIT | 9) >>> 0;

/** A store over one disk, opened as often as a test likes, and what it tells. */
class Disk {
  readonly clock = new RushingClock();
  readonly #disk = new RecordingDisk();
  store!: BlockStore;
  recent!: RecentChanges;
  #seq = 1;

  static async with(t: TestContext, opsLogBytes?: number): Promise<Disk> {
    const world = new Disk();
    await world.open(opsLogBytes);
    t.defer(() => world.store.close());
    const writer = new Writer(superblockOf(ID));
    await world.store.create(writer.superblock, CONFIGURATION);
    const payloads = Array.from({ length: 12 }, (_, i) => Buffer.alloc(20, i));
    world.cookies = (await put(world.store, writer, payloads)).map(({ cookie }) => cookie);
    return world;
  }

  cookies: number[] = [];

  async open(opsLogBytes?: number): Promise<void> {
    this.recent = new RecentChanges(() => this.clock.now());
    this.store = await openStore(this.#disk, {
      clock: this.clock,
      limits: { opsReserveBytes: 0, ...(opsLogBytes === undefined ? {} : { opsLogBytes }) },
      events: { ops: (block, ops, state, how) => this.recent[how](block, ops, state) },
    });
  }

  async restart(opsLogBytes?: number): Promise<void> {
    await this.store.close();
    await this.open(opsLogBytes);
  }

  async give(op: (seq: number) => Op): Promise<void> {
    await this.store.appendOps(ID, [{ ...op(++this.#seq), atMs: this.clock.now() }]);
  }

  mutate(type: MutationType, fileId: number): Promise<void> {
    return this.give((seq) => mutation(type, fileId, { seq }));
  }

  /** kind and file id of each */
  told(): string[] {
    const told: string[] = [];
    for (let n = this.recent.first; n < this.recent.next; n++) {
      const { kind, fileId } = this.recent.at(n);
      told.push(`${kind} ${fileId === ALIAS ? 'alias' : fileId}`);
    }
    return told;
  }
}

describe('names that changed their state lately', (test) => {
  test('every kind is told, in order, and told again after a restart', async (t) => {
    const disk = await Disk.with(t);
    await disk.mutate(OpType.DELETE, 3);
    await disk.mutate(OpType.HIDE, 4);
    await disk.mutate(OpType.UNDELETE, 3);
    await disk.mutate(OpType.REVEAL, 4);
    await disk.give((seq) => aliasOp(ALIAS, 77, 5, { seq }));
    await disk.mutate(OpType.DELETE, ALIAS);
    const all = ['delete 3', 'hide 4', 'undelete 3', 'reveal 4', 'delete alias'];
    assert.equal(disk.told(), all);
    const before = disk.recent.at(disk.recent.first);
    await disk.restart();
    assert.equal(disk.told(), all);
    assert.equal(disk.recent.at(disk.recent.first), before, 'with the same time: it is the same change');
    assert.is(disk.recent.at(disk.recent.next - 1).cookie, 77);
  });

  test('what is older than a day is told no more, neither before a restart nor after', async (t) => {
    const disk = await Disk.with(t);
    await disk.mutate(OpType.DELETE, 1);
    disk.clock.advance(20 * HOUR_MS);
    await disk.mutate(OpType.DELETE, 2);
    assert.equal(disk.told(), ['delete 1', 'delete 2']);
    disk.clock.advance(CHANGES_KEPT_MS - 20 * HOUR_MS + 1);
    assert.equal(disk.told(), ['delete 2']);
    await disk.restart();
    assert.equal(disk.told(), ['delete 2']);
  });

  test('an operation with a clock of another time is told, because it comes now', async (t) => {
    const disk = await Disk.with(t);
    await disk.store.appendOps(ID, [{ ...mutation(OpType.DELETE, 1, { seq: 2 }), atMs: 1000 }]);
    assert.equal(disk.told(), ['delete 1']);
  });

  test('a log that was folded tells its deletions by their times, and what it has hidden as of its own', async (t) => {
    const disk = await Disk.with(t);
    await disk.mutate(OpType.DELETE, 1);
    disk.clock.advance(26 * HOUR_MS);
    await disk.mutate(OpType.DELETE, 2);
    await disk.mutate(OpType.HIDE, 3);
    await disk.give((seq) => aliasOp(ALIAS, 77, 5, { seq }));
    await disk.mutate(OpType.HIDE, ALIAS);
    // From here on each operation is folded in.
    await disk.restart(1);
    await disk.mutate(OpType.DELETE, 6);
    await disk.restart(1);
    assert.equal(disk.told().sort(), ['delete 2', 'delete 6', 'hide 3', 'hide alias']);
    disk.clock.advance(CHANGES_KEPT_MS + 1);
    await disk.restart();
    assert.equal(disk.told(), [], 'nothing in it can be recent');
  });

  test('a log that came from elsewhere, folded, is told like one of the disk', async (t) => {
    const disk = await Disk.with(t);
    await disk.mutate(OpType.HIDE, 3);
    await disk.restart(1);
    await disk.mutate(OpType.DELETE, 6);
    await disk.restart();
    const ops = await disk.store.opsAfter(ID, 0);
    assert.is(ops[0]!.type, OpType.SNAPSHOT);
    const other = new RecentChanges(() => disk.clock.now());
    other.found(ID, ops, await disk.store.opsState(ID));
    const kinds = new Set(Array.from({ length: other.next }, (_, n) => other.at(n).kind));
    assert.equal([...kinds].sort(), ['delete', 'hide']);
  });

  test('memory is bounded: the oldest go, and whoever had not asked is told how many he missed', async (t) => {
    const disk = await Disk.with(t);
    const state = await disk.store.opsState(ID);
    const small = new RecentChanges(() => disk.clock.now(), 2048);
    const atMs = disk.clock.now();
    for (let i = 0; i < 3000; i++) {
      small.done(ID, [{ ...mutation(OpType.DELETE, i % 12, { seq: i + 2 }), atMs: atMs + i }], state);
      if (i === 1999) assert.is(small.missedSince(0), 0);
    }
    assert.is(small.next - small.first, 2048);
    assert.is(small.missedSince(0), 3000 - 2048);
    assert.is(small.missedSince(1000), 0, 'it had heard of those');
    for (let n = small.first; n < small.next; n++) assert.is(small.at(n).atMs, atMs + n);
  });

  test('the cookie of a record is read once, also of one whose bytes are purged and still there', async (t) => {
    const disk = await Disk.with(t);
    await disk.mutate(OpType.DELETE, 3);
    await disk.mutate(OpType.DELETE, 4);
    await disk.give((seq) => {
      const { version, opId, atMs } = mutation(OpType.DELETE, 4, { seq });
      return { type: OpType.PURGE_INTENT, slots: [4 as Slot], version, seq, opId, atMs };
    });
    const { recent, store } = disk;
    assert.equal(recent.unknownOf(ID), [0, 1]);
    const cookies = await store.records.cookiesOf(ID, [3, 4, 99] as never);
    assert.equal([...cookies.values()], [disk.cookies[3], disk.cookies[4]]);
    recent.learn(0, cookies.get(3 as never)!);
    assert.is(recent.at(0).cookie, disk.cookies[3]);
    assert.equal(recent.unknownOf(ID), [1]);
  });
});
