import * as assert from 'uvu/assert';
import type { Kv } from '../../common/seams/kv.ts';
import { kvContract, put } from '../contract/kv.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { DiskRig } from './disk-rig.ts';
import { SimKvMedium } from './kv.ts';
import type { SimProcess } from './process.ts';

kvContract('simulated', async () => {
  const rig = new DiskRig();
  const medium = new SimKvMedium({ seed: 1 });
  return { open: () => medium.open(rig.flowing()) };
});

async function keys(kv: Kv): Promise<string> {
  let found = '';
  for await (const [key] of kv.entries({})) found += key;
  return found;
}

/** What a life left behind that was killed in the midst of its work, and what a power cut left of that. */
async function killed(
  seed: number,
  work: (kv: Kv, life: SimProcess) => Promise<unknown>,
): Promise<{ readonly seen: string; readonly kept: string }> {
  const rig = new DiskRig(seed);
  const medium = new SimKvMedium({ seed, disk: rig.medium });
  const first = rig.process();
  const ended = await rig.run(async () => work(await medium.open(first), first), first);
  assert.is(ended, undefined);
  assert.is(first.isAlive, false);
  const second = rig.process();
  const seen = await rig.run(async () => keys(await medium.open(second)), second);
  second.kill();
  medium.powerCut();
  const third = rig.process();
  const kept = await rig.run(async () => keys(await medium.open(third)), third);
  return { seen: seen!, kept: kept! };
}

describe('simulated kv', (test) => {
  test('a killed process hears nothing more; its batches are there from the first up to some', async () => {
    const seen = new Set<string>();
    const kept = new Set<string>();
    let lost = 0;
    const work = async (kv: Kv, life: SimProcess): Promise<boolean> => {
      await kv.batch([put('a', '')], { sync: true });
      const writing = ['b', 'c', 'd'].map((key) => kv.batch([put(key, '')]));
      life.scheduler.at(life.random.float() / 4, undefined, 'kill', () => life.kill());
      await Promise.all(writing);
      await kv.batch([put('e', '')], { sync: true });
      return true;
    };
    for (let seed = 1; seed <= 100; seed++) {
      const left = await killed(seed, work);
      seen.add(left.seen);
      kept.add(left.kept);
      assert.ok(left.seen.startsWith(left.kept));
      if (left.kept < left.seen) lost++;
    }
    assert.ok(lost > 10 && lost < 90, `${lost}`);
    assert.equal([...seen].sort(), ['a', 'ab', 'abc', 'abcd', 'abcde']);
    assert.equal([...kept].sort(), ['a', 'ab', 'abc', 'abcd', 'abcde']);
  });

  test('a hanging disk holds its store; a slow one slows it', async () => {
    const rig = new DiskRig();
    const medium = new SimKvMedium({ seed: 1, disk: rig.medium });
    const process = rig.process();
    const kv = (await rig.run(() => medium.open(process), process))!;
    rig.medium.faults.hang(['sync']);
    rig.scheduler.at(1000, undefined, 'release', () => rig.medium.faults.release());
    const took = async (work: () => Promise<unknown>): Promise<number> => {
      const from = rig.scheduler.now;
      await rig.run(work, process);
      return rig.scheduler.now - from;
    };
    assert.ok((await took(() => kv.get(Buffer.from('a')))) < 10);
    assert.ok((await took(() => kv.batch([put('a', '1')], { sync: true }))) > 900);
    rig.medium.faults.slowness = 1000;
    assert.ok((await took(() => kv.batch([put('a', '1')], { sync: true }))) >= 500);
  });

  test('a snapshot holds what was durable, and two media change places', async () => {
    const rig = new DiskRig();
    const [medium, other] = [new SimKvMedium({ seed: 1 }), new SimKvMedium({ seed: 2 })];
    const life = async (of: SimKvMedium, work: (kv: Kv) => Promise<unknown>): Promise<unknown> => {
      const process = rig.process();
      const result = await rig.run(async () => work(await of.open(process)), process);
      process.kill();
      return result;
    };
    await life(medium, async (kv) => {
      await kv.batch([put('a', '')], { sync: true });
      await kv.batch([put('b', '')]);
    });
    const snapshot = medium.snapshot();
    await life(medium, (kv) => kv.batch([put('c', '')], { sync: true }));
    assert.is(await life(medium, keys), 'abc');
    medium.restore(snapshot);
    assert.is(await life(medium, keys), 'a');
    medium.swap(other);
    assert.is(await life(medium, keys), '');
    assert.is(await life(other, keys), 'a');
    // The disk that is mounted at the other is still its own.
    medium.wipe();
    assert.is(await life(other, keys), '');
    other.powerCut(new SeededRandom(1));
  });
});
