import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import { epochOf } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import type { Reign } from '../../common/wire/control.ts';
import { MapVersion } from '../../nameserver/map-version.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { ReignKeeper } from '../../nameserver/reign.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { describe } from '../kit/suite.ts';

const reign = (epoch: number, nameserver = 0): Reign => ({ epoch: epochOf(epoch), nameserver });

async function open(medium: MemoryKvMedium, nameserver = 0): Promise<ReignKeeper> {
  return ReignKeeper.open(new NameStore(await medium.open()), { nameserver, log: silentLog });
}

describe('reign', (test) => {
  test('each start has an epoch of its own, durable before it is shown', async () => {
    const medium = new MemoryKvMedium();
    for (let life = 1; life <= 3; life++) {
      assert.equal((await open(medium)).current, reign(life));
      medium.crash();
    }
  });

  test('a start that cannot store its epoch fails', async () => {
    const medium = new MemoryKvMedium();
    medium.failWrites = new TfsError('IO', 'planted');
    assert.ok(
      await open(medium).then(
        () => false,
        () => true,
      ),
    );
  });

  test('a higher promise makes it rise, durably', async () => {
    const medium = new MemoryKvMedium();
    const keeper = await open(medium);
    assert.is(await keeper.observe(reign(0), false), false);
    assert.is(await keeper.observe(reign(57, 1), false), true);
    assert.equal(keeper.current, reign(58));
    medium.crash();
    assert.equal((await open(medium)).current, reign(59));
  });

  test('an equal promise is its own only if it asked for it', async () => {
    const keeper = await open(new MemoryKvMedium());
    assert.is(await keeper.observe(reign(1), true), false);
    assert.is(await keeper.observe(reign(1), false), true, 'of a life before the store was lost');
    assert.equal(keeper.current, reign(2));
    assert.is(await keeper.observe(reign(2, 1), true), true, 'of the other NameServer');
    assert.equal(keeper.current, reign(3));
    const other = await open(new MemoryKvMedium(), 1);
    assert.is(await other.observe(reign(1, 0), false), false, 'the same epoch ranks by NameServer');
  });

  test('many promises at once make it rise once above them all', async () => {
    const medium = new MemoryKvMedium();
    const keeper = await open(medium);
    await Promise.all([5, 9, 7, 9].map((epoch) => keeper.observe(reign(epoch, 1), false)));
    assert.equal(keeper.current, reign(10));
  });

  test('a failed write leaves the old reign, and the next try may succeed', async () => {
    const medium = new MemoryKvMedium();
    const keeper = await open(medium);
    medium.failWrites = new TfsError('IO', 'planted');
    assert.ok(
      await keeper.observe(reign(5), false).then(
        () => false,
        () => true,
      ),
    );
    assert.equal(keeper.current, reign(1));
  });

  test('the version of the cluster map only grows, over changes and epochs', () => {
    let epoch = 3;
    const version = new MapVersion(() => epoch);
    let last = version.value;
    assert.is(version.value, last);
    for (let step = 0; step < 20_000; step++) {
      if (step % 5000 === 4999) epoch++;
      else version.bump();
      assert.ok(version.value > last, `step ${step}`);
      last = version.value;
    }
  });
});
