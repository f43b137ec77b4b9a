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
  test('each one is new, durable before it is shown, over restarts', async () => {
    const medium = new MemoryKvMedium();
    for (let life = 0; life < 3; life++) {
      const keeper = await open(medium);
      assert.equal(await keeper.draw(), reign(4 * life + 1));
      assert.equal(await keeper.draw(), reign(4 * life + 3));
      assert.equal(keeper.highest, reign(4 * life + 3));
      medium.crash();
    }
  });

  test('it is above every promise that was heard, and what the lock store remembers', async () => {
    const keeper = await open(new MemoryKvMedium(), 1);
    keeper.hear(reign(57, 0));
    keeper.hear(reign(9, 1));
    assert.equal(keeper.highest, reign(57, 0));
    assert.equal(await keeper.draw(), reign(58, 1));
    keeper.hint(70);
    keeper.hint(60);
    assert.equal(await keeper.draw(), reign(72, 1));
    assert.equal(keeper.highest, reign(72, 1));
  });

  test('the two NameServers never draw the same epoch, not even when neither hears of the other', async () => {
    const drawn: number[] = [];
    for (const nameserver of [0, 1]) {
      const keeper = await open(new MemoryKvMedium(), nameserver);
      keeper.hear(reign(8, 1));
      for (let i = 0; i < 4; i++) drawn.push((await keeper.draw()).epoch);
    }
    assert.equal(drawn, [9, 11, 13, 15, 10, 12, 14, 16]);
  });

  test('an absurd hint is not followed', async () => {
    const keeper = await open(new MemoryKvMedium());
    keeper.hint(2 ** 48 - 1);
    assert.equal(await keeper.draw(), reign(1));
  });

  test('one that could not be stored is not shown, and the next try may succeed', async () => {
    const medium = new MemoryKvMedium();
    const keeper = await open(medium);
    medium.failWrites = new TfsError('IO', 'planted');
    assert.ok(
      await keeper.draw().then(
        () => false,
        () => true,
      ),
    );
    assert.equal(keeper.highest, reign(0));
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
