import * as assert from 'uvu/assert';
import { BlockState } from '../../common/wire/messages.ts';
import { entryOf } from '../nameserver/entries.ts';
import { straysIn } from './stray-files.ts';
import { describe } from './suite.ts';

const HELD = entryOf({ block: 7, generation: 1, state: BlockState.SEALED, length: 9000, seq: 4, epoch: 3 });
const GOOD = ['7.1.blk', '7.1.idx', '7.2.ops', 'ops.reserve'];
const strays = (...names: string[]) => straysIn({ blocks: [...GOOD, ...names] }, [HELD]);

describe('files that belong to nothing', (test) => {
  test('none where there are only those that are read', () => {
    assert.equal(strays(), []);
    const listing = { '': ['mount.tfs', 'drop.log'], blocks: GOOD, spare: ['1.spare'], surplus: ['7.blk.1'] };
    assert.equal(straysIn(listing, [HELD]), []);
  });

  test('generations other than the one that is read, in both directions', () => {
    assert.equal(strays('7.0.blk', '7.0.idx', '7.2.blk'), [
      'blocks/7.0.blk',
      'blocks/7.0.idx',
      'blocks/7.2.blk',
    ]);
  });

  test('an ops log that another has taken the place of', () => {
    assert.equal(strays('7.1.ops'), ['blocks/7.1.ops']);
  });

  test('temporary files, those of blocks that are not held, and names that nobody gives', () => {
    const names = ['7.2.blk.tmp', '8.0.blk', '8.0.ops', 'core'];
    assert.equal(
      strays(...names),
      names.map((name) => `blocks/${name}`),
    );
    assert.equal(straysIn({ '': ['drop.log.tmp'], spare: ['3.tmp'] }, []), ['drop.log.tmp', 'spare/3.tmp']);
  });
});
