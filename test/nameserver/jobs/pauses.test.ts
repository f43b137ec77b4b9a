import * as assert from 'uvu/assert';
import { silentLog } from '../../../common/log.ts';
import { Pauses } from '../../../nameserver/jobs/pauses.ts';
import { NameStore, PAUSED_KEY } from '../../../nameserver/name-store.ts';
import { MemoryKvMedium } from '../../kit/memory-kv.ts';
import { describe } from '../../kit/suite.ts';

describe('paused jobs', (test) => {
  test('stay paused over a restart, and a power cut, until they are resumed', async () => {
    const medium = new MemoryKvMedium();
    const pauses = await Pauses.open(new NameStore(await medium.open()), silentLog);
    assert.equal(pauses.all, []);
    await pauses.set('replicate', true);
    assert.ok(pauses.isPaused('replicate'));
    medium.crash(0);
    const again = await Pauses.open(new NameStore(await medium.open()), silentLog);
    assert.equal(again.all, ['replicate']);
    await Promise.all([again.set('replicate', false), again.set('replicate', true)]);
    assert.ok(again.isPaused('replicate'), 'the last word counts');
    await again.set('replicate', false);
    medium.crash(0);
    assert.equal((await Pauses.open(new NameStore(await medium.open()), silentLog)).all, []);
  });

  test('a kind that only a later version knows is no reason to forget the others', async () => {
    const store = new NameStore(await new MemoryKvMedium().open());
    await store.write(PAUSED_KEY, ['polish', 'replicate'], 'which jobs are paused');
    assert.equal((await Pauses.open(store, silentLog)).all, ['replicate']);
  });
});
