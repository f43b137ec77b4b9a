import * as assert from 'uvu/assert';
import { OpType } from '../../../common/format/ops.ts';
import { SUPERBLOCK_BYTES } from '../../../common/limits.ts';
import { noParts, SPACE_PART_NAMES, SPACE_PARTS, takenBytes, zSpaceUse } from '../../../common/wire/space.ts';
import { blockSpaceOf, type DeadSpace, NO_DEAD_SPACE } from '../../../dataserver/block/space.ts';
import type { BlockStore } from '../../../dataserver/block/store.ts';
import { fileOf, SPACE_DIRECTORIES, SpaceSum } from '../../../dataserver/space/parts.ts';
import { aliasOp, mutation } from '../../kit/block-world.ts';
import { BLOCK, ReplicaWorld } from '../../kit/replica-world.ts';
import { describe } from '../../kit/suite.ts';

const ALIAS = 0x8000_0001;
/** When the operations of the kit were asked for. */
const DELETED_AT_MS = 1_700_000_000_000;
const WINDOW_MS = 3_600_000;

async function deadIn(store: BlockStore, nowMs = DELETED_AT_MS + 1): Promise<DeadSpace> {
  const { untilMs: _, ...dead } = await store.deadSpace(BLOCK, { nowMs, windowMs: WINDOW_MS });
  return dead;
}

describe('what the files of a mount are', (test) => {
  test('by place and name; what nobody makes is of nobody', () => {
    const parts = (directory: (typeof SPACE_DIRECTORIES)[number], ...names: string[]) =>
      names.map((name) => fileOf(directory, name).part ?? 'block');
    assert.equal(parts('blocks', '7.0.blk', '7.0.ops', '7.1.idx', 'ops.reserve', '7.0.blk.tmp', 'core'), [
      ...['block', 'opsLogs', 'indexes', 'reserve', 'temporary', 'unknown'],
    ]);
    assert.equal(parts('spare', '3.spare', '3.tmp', '3.txt'), ['spares', 'temporary', 'unknown']);
    assert.equal(parts('', 'mount.tfs', 'probe.bin', 'promise.tfs.tmp', 'notes.txt', ''), [
      ...['service', 'service', 'temporary', 'unknown', 'directories'],
    ]);
    assert.equal(parts('kv', 'CURRENT', '000003.ldb'), ['kv', 'kv']);
    assert.equal(parts('trash', '7.0.blk.1700000000000'), ['trash']);
    assert.equal(parts('surplus', '7.0.5000.surplus', '7.0.ops'), ['surplus', 'surplus']);
    assert.is(SPACE_DIRECTORIES.length, 6);
  });

  test('the sum is what is allocated, whatever the sizes are; orphans count with the age of the oldest', () => {
    const sum = new SpaceSum(10_000);
    sum.add('opsLogs', { name: 'a', size: 100, allocatedBytes: 4096, mtimeMs: 0 });
    sum.add('kv', { name: 'b', size: 9000, allocatedBytes: 4096, mtimeMs: 0 });
    sum.add('directories', { name: '', size: 60, allocatedBytes: 0, mtimeMs: 0 });
    sum.add('unknown', { name: 'c', size: 5, allocatedBytes: 4096, mtimeMs: 9000 });
    sum.add('surplus', { name: 'd', size: 7, allocatedBytes: 4096, mtimeMs: 4000 });
    sum.addParts(
      { live: 1000, superblocks: 4096 },
      { name: 'e', size: 5096, allocatedBytes: 8192, mtimeMs: 0 },
    );
    assert.is(takenBytes(sum.parts), 4 * 4096 + 8192);
    assert.equal(sum.orphans, { files: 2, bytes: 12, oldestMs: 6000 });
  });

  test('every part has words, and crosses the wire', () => {
    assert.is(SPACE_PART_NAMES.length, Object.keys(SPACE_PARTS).length);
    const parts = { ...noParts(), live: 12, rounding: -7 };
    const use = {
      measuredAtMs: 1,
      totalBytes: 2,
      freeBytes: 1,
      parts,
      orphans: { files: 0, bytes: 0, oldestMs: 0 },
    };
    assert.equal(zSpaceUse.parse(JSON.parse(JSON.stringify(use))), use);
  });
});

describe('what the bytes of a block are', (test) => {
  test('they add up to its file, while it grows and behind its last record', () => {
    for (const [size, length] of [
      [65_536, 5000],
      [5000, 5000],
      [5000, 6000],
      [4096, 4096],
      [100, 4096],
    ] as const) {
      const { live, superblocks, preallocated, inWindow, garbage, lost } = blockSpaceOf(
        size,
        length,
        NO_DEAD_SPACE,
      );
      assert.is(live + superblocks + preallocated + inWindow + garbage + lost, size);
    }
    assert.equal(blockSpaceOf(65_536, 5096, { ...NO_DEAD_SPACE, inWindow: 300 }), {
      ...NO_DEAD_SPACE,
      inWindow: 300,
      superblocks: SUPERBLOCK_BYTES,
      live: 700,
      preallocated: 65_536 - 5096,
    });
  });

  for (const sealed of [false, true])
    test(`a ${sealed ? 'sealed' : 'growing'} block: a record lives as long as one of its names does`, async (t) => {
      const world = await ReplicaWorld.open(t, [100, 2000, 300, 4000], { replicas: 1 });
      const { store } = world.replicas[0]!;
      const span = (slot: number): number => world.records[slot]!.end - world.startOf(slot);
      if (sealed) await world.seal();
      assert.not(store.info(BLOCK)!.hasFlags);
      assert.equal(await deadIn(store), NO_DEAD_SPACE);
      await store.appendOps(BLOCK, [
        mutation(OpType.DELETE, 1, { seq: 2 }),
        aliasOp(ALIAS, 5, 2, { seq: 3 }),
        mutation(OpType.DELETE, 2, { seq: 4 }),
        mutation(OpType.HIDE, 3, { seq: 5 }),
      ]);
      assert.ok(store.info(BLOCK)!.hasFlags);
      assert.equal(await deadIn(store), { ...NO_DEAD_SPACE, inWindow: span(1) });
      await store.appendOps(BLOCK, [mutation(OpType.DELETE, ALIAS, { seq: 6 })]);
      assert.equal(await deadIn(store), { ...NO_DEAD_SPACE, inWindow: span(1) + span(2) });
      await store.appendOps(BLOCK, [mutation(OpType.UNDELETE, 1, { seq: 7 })]);
      assert.equal(await deadIn(store), { ...NO_DEAD_SPACE, inWindow: span(2) });
      const end = DELETED_AT_MS + WINDOW_MS;
      const { untilMs } = await store.deadSpace(BLOCK, { nowMs: end - 1, windowMs: WINDOW_MS });
      assert.is(untilMs, end);
      assert.equal(await deadIn(store, end - 1), { ...NO_DEAD_SPACE, inWindow: span(2) });
      assert.equal(await deadIn(store, end), { ...NO_DEAD_SPACE, garbage: span(2) });
      await world.restart(0);
      assert.ok(world.replicas[0]!.store.info(BLOCK)!.hasFlags, 'known without the index');
      if (sealed)
        assert.equal(await deadIn(world.replicas[0]!.store), {
          ...NO_DEAD_SPACE,
          inWindow: span(2),
        });
    });
});
