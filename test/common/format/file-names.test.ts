import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { blockFileName, parseBlockFileName } from '../../../common/format/file-names.ts';
import type { BlockId } from '../../../common/ids.ts';
import { describe } from '../../kit/suite.ts';

describe('file names', (test) => {
  test('say which block, which generation and what', () => {
    assert.is(blockFileName(65_537 as BlockId, 2, 'blk'), '65537.2.blk');
    const u32 = fc.nat(0xffff_ffff);
    fc.assert(
      fc.property(u32, u32, fc.constantFrom('blk', 'ops', 'idx'), (block, number, kind) => {
        const name = blockFileName(block as BlockId, number, kind as 'blk');
        assert.equal(parseBlockFileName(name), { block, number, kind });
      }),
    );
  });

  test('any other name is somebody else’s file', () => {
    const others = [
      '',
      '1.blk',
      '01.0.blk',
      '1.00.blk',
      '1.0.blk.tmp',
      '1.0.tmp',
      'a.0.blk',
      '4294967296.0.blk',
    ];
    for (const name of [...others, '1.4294967296.blk', '../1.0.blk', '1.0.BLK', '-1.0.blk'])
      assert.is(parseBlockFileName(name), undefined, name);
  });
});
