import * as assert from 'uvu/assert';
import { blockId, serverId } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import type { BlockMap } from '../../nameserver/block-map.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { describe } from '../kit/suite.ts';
import { lostBlocks, type Survivors } from './lost-blocks.ts';

const BLOCK = blockId(131_101);
const FILE = `blocks/${BLOCK}.0.blk`;

/** A block that was never sealed, and what each of its members says that it has. */
function mapOf(...states: readonly number[]): Pick<BlockMap, 'unsettled' | 'facts'> {
  const replicas = states.map((state, i) => ({ server: serverId(i + 1), state, readable: state !== 0 }));
  const facts = { block: BLOCK, whole: Whole.UNSEALED, replicas };
  return { unsettled: new Set([BLOCK]), facts: () => facts as unknown as ReturnType<BlockMap['facts']> };
}

const serversWith = (...damaged: readonly (readonly string[])[]): Survivors => ({
  servers: damaged.map((paths, i) => ({
    id: serverId(i + 1),
    medium: { durablePaths: () => [FILE], damaged: new Set(paths) },
  })),
});

describe('blocks that wait for a person', (test) => {
  test('one that was never sealed, of which all that is left is on a disk that does not read it', () => {
    assert.equal(lostBlocks(mapOf(BlockState.RECOVERED, 0), serversWith([FILE], [])), [BLOCK]);
  });

  test('none where the disk is well, or another file of it is damaged', () => {
    assert.equal(lostBlocks(mapOf(BlockState.RECOVERED, 0), serversWith([], [FILE])), []);
    assert.equal(lostBlocks(mapOf(BlockState.RECOVERED, 0), serversWith(['blocks/7.0.blk'], [])), []);
  });

  test('none where another server has a replica, or is not there to say', () => {
    assert.equal(lostBlocks(mapOf(BlockState.RECOVERED, BlockState.RECOVERED), serversWith([FILE], [])), []);
    assert.equal(lostBlocks(mapOf(BlockState.RECOVERED, 0), serversWith([FILE])), []);
    assert.equal(
      lostBlocks(mapOf(BlockState.RECOVERED), serversWith([FILE])),
      [],
      'the only copy there ever was',
    );
  });
});
