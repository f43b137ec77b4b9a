import * as assert from 'uvu/assert';
import { blockId } from '../../../common/ids.ts';
import { BlockFlag, BlockState } from '../../../common/wire/messages.ts';
import { replicaDigest, tableDigest } from '../../../common/wire/table-digest.ts';
import { describe } from '../../kit/suite.ts';

const replica = (block: number, state: BlockState = BlockState.SEALED, flags = 0) => ({
  block: blockId(block),
  state,
  flags,
});

describe('table digest', (test) => {
  test('the order does not matter, and a part can be taken out', () => {
    const table = [replica(1), replica(2, BlockState.OPEN), replica(0xffff_ffff, BlockState.SEALED, 1)];
    assert.is(tableDigest(table), tableDigest([...table].reverse()));
    const rest = (tableDigest(table) - replicaDigest(table[1]!.block, BlockState.OPEN, 0)) >>> 0;
    assert.is(tableDigest([table[0]!, table[2]!]), rest);
    assert.is(tableDigest([]), 0);
  });

  test('both sides count the same: fixed values', () => {
    assert.is(tableDigest([replica(0x2_0000)]), 3_386_523_513);
    assert.is(
      tableDigest([replica(0x2_0000, BlockState.OPEN), replica(7, BlockState.FENCED, 3)]),
      16_597_929,
    );
  });

  test('one replica more, less, in another state or with another flag is seen', () => {
    const seen = new Set<number>();
    let count = 0;
    for (let block = 0x2_0000; block < 0x2_0000 + 2000; block++)
      for (const state of [BlockState.OPEN, BlockState.FENCED, BlockState.RECOVERED, BlockState.SEALED])
        for (const flags of [0, BlockFlag.SUSPECT, BlockFlag.QUARANTINED]) {
          seen.add(replicaDigest(blockId(block), state, flags));
          count++;
        }
    assert.ok(seen.size > count - 5, `${count - seen.size} of ${count} collide`);
    assert.not(seen.has(0));
  });

  test('neighbours that swap their states are seen', () => {
    const a = tableDigest([replica(10, BlockState.OPEN), replica(11)]);
    const b = tableDigest([replica(10), replica(11, BlockState.OPEN)]);
    assert.is.not(a, b);
  });
});
