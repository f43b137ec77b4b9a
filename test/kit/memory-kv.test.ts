import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { kvContract, put } from '../contract/kv.ts';
import { MemoryKvMedium } from './memory-kv.ts';
import { describe } from './suite.ts';

kvContract('memory', async () => new MemoryKvMedium());

describe('memory kv', (test) => {
  test('a crash loses the newest unsynced batches, in order', async () => {
    const medium = new MemoryKvMedium();
    const first = await medium.open();
    await first.batch([put('a', '1')]);
    await first.batch([put('b', '1')], { sync: true });
    await first.batch([put('c', '1')]);
    await first.batch([put('d', '1')]);
    medium.crash(1);
    const second = await medium.open();
    const found = await second.getMany(['a', 'b', 'c', 'd'].map((key) => Buffer.from(key)));
    assert.equal(
      found.map((value) => value !== undefined),
      [true, true, true, false],
    );
  });

  test('after a failed write every write fails until it is opened again; reads go on', async () => {
    const medium = new MemoryKvMedium();
    const first = await medium.open();
    await first.batch([put('a', '1')]);
    medium.failWrites = new TfsError('DISK_FULL', 'planted');
    for (let round = 0; round < 2; round++) {
      const failure = await first.batch([put('a', '2')]).catch((error: unknown) => error);
      assert.ok(isTfsError(failure, 'DISK_FULL'));
      medium.failWrites = undefined;
    }
    assert.equal(await first.get(Buffer.from('a')), Buffer.from('1'));
    await first.close();
    const second = await medium.open();
    await second.batch([put('a', '3')]);
  });
});
