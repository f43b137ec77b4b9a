import * as assert from 'uvu/assert';
import { type Op, OpType } from '../../../common/format/ops.ts';
import type { Epoch, Slot } from '../../../common/ids.ts';
import { OLD_GENERATION_MS } from '../../../common/limits.ts';
import { silentLog } from '../../../common/log.ts';
import { takenBytes } from '../../../common/wire/space.ts';
import { SpaceSurvey } from '../../../dataserver/space/space-survey.ts';
import { mutation, VERSION } from '../../kit/block-world.ts';
import { ManualClock } from '../../kit/manual-clock.ts';
import { BLOCK, ReplicaWorld } from '../../kit/replica-world.ts';
import { describe } from '../../kit/suite.ts';

const WINDOW_MS = 3_600_000;
const SIZES = [5000, 8, 20_000, 300, 10_000];
const DELETED = [0, 2] as Slot[];

describe('the space of a block through its compaction', (test) => {
  test('live stays, deleted becomes garbage when its window is over, and is free when the old file is gone', async (t) => {
    const clock = new ManualClock();
    const world = await ReplicaWorld.open(t, SIZES, { replicas: 1, blockBytes: 1 << 20, clock });
    await world.seal();
    const { store, disk } = world.replicas[0]!;
    // Of the server, not of its store.
    await disk.mkdir('kv');
    const survey = new SpaceSurvey({ store, clock, log: silentLog, windowMs: WINDOW_MS });
    const span = (slot: number): number => world.records[slot]!.end - world.startOf(slot);
    const dead = DELETED.reduce((sum, slot) => sum + span(slot), 0);
    const live = SIZES.reduce((sum, _, slot) => sum + span(slot), 0) - dead;
    const seen = async () => {
      const { parts } = await survey.measure();
      const files = await disk.usage('blocks');
      const allocated = files.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0);
      assert.is(takenBytes(parts), allocated, 'every byte is of one part');
      assert.is(parts.live, live, 'no live byte comes or goes');
      const { inWindow, garbage, generations, temporary } = parts;
      return { inWindow, garbage, beside: generations + temporary };
    };
    for (const [i, slot] of DELETED.entries()) {
      const op = mutation(OpType.DELETE, slot, { seq: 2 + i });
      await store.appendOps(BLOCK, [{ ...op, atMs: clock.now() }]);
    }
    assert.equal(await seen(), { inWindow: dead, garbage: 0, beside: 0 });
    // Times of deletions are whole seconds, rounded up.
    clock.advance(WINDOW_MS + 1000);
    assert.equal(await seen(), { inWindow: 0, garbage: dead, beside: 0 });
    const purge = { ...mutation(OpType.DELETE, 0, { seq: 4 }), type: OpType.PURGE_INTENT, slots: DELETED };
    await store.appendOps(BLOCK, [purge as Op]);
    assert.equal(await seen(), { inWindow: 0, garbage: dead, beside: 0 });
    const order = { block: BLOCK, generation: 1, version: VERSION, seq: 4, bytesPerSecond: 1e9 };
    const next = await store.prepareCompaction(order, []);
    const { beside } = await seen();
    assert.ok(beside >= live, 'the next file is there beside the present one');
    await store.commitGeneration(BLOCK, { ...next, generation: 1, epoch: 3 as Epoch });
    const before = await seen();
    assert.is(before.garbage, 0);
    assert.ok(before.beside >= live + dead, 'the last one is kept for a moment');
    clock.advance(OLD_GENERATION_MS);
    await store.purgeTrash();
    assert.equal(await seen(), { inWindow: 0, garbage: 0, beside: 0 });
  });
});
