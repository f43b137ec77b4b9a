import * as assert from 'uvu/assert';
import type { Disk, DiskFile } from '../../common/seams/disk.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { SimMedium } from './disk.ts';
import type { PowerCutStyle } from './disk-fate.ts';
import { A, B, C, DiskRig, durable } from './disk-rig.ts';

const SEEDS = 300;

/** What was left under `path` after the power cut, over many seeds. */
async function outcomes(
  prepare: (disk: Disk) => Promise<unknown>,
  path = 'a',
  style?: PowerCutStyle,
): Promise<string[]> {
  const found = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const medium = new SimMedium({ name: 'disk', seed });
    await prepare(medium.direct());
    medium.powerCut(undefined, style);
    const left = medium.durable(path);
    found.add(left === undefined ? 'none' : left.toString('latin1'));
    assert.equal(
      await medium
        .direct()
        .readFile(path)
        .catch(() => undefined),
      left && Buffer.from(left),
    );
  }
  return [...found].sort();
}

describe('simulated disk: power cuts', (test) => {
  test('a name is kept or lost until its directory is synced', async () => {
    const made = async (disk: Disk): Promise<void> => {
      const file = await disk.open('a', 'create');
      await file.write([Buffer.from('x')], 0);
      await file.datasync();
    };
    assert.equal(await outcomes(made), ['none', 'x']);
    const removed = (disk: Disk): Promise<unknown> => durable(disk, 'a', 'x').then(() => disk.unlink('a'));
    assert.equal(await outcomes(removed), ['none', 'x']);
    assert.equal(await outcomes(removed, 'a', 'lost'), ['x']);
    assert.equal(await outcomes(removed, 'a', 'kept'), ['none']);
    assert.equal(await outcomes((disk) => removed(disk).then(() => disk.syncDirectory(''))), ['none']);
  });

  test('a name that was moved away for good does not come back with a later sync of where it was', async () => {
    for (const medium of [new SimMedium({ name: 'disk', seed: 1 }), new RecordingDisk()]) {
      const disk = medium instanceof SimMedium ? medium.direct() : medium;
      for (const directory of ['d', 'e']) await disk.mkdir(directory);
      await (await disk.open('d/a', 'create')).writeDurable([Buffer.from('x')], 0);
      await disk.rename('d/a', 'e/b');
      await disk.syncDirectory('e');
      await disk.syncDirectory('d');
      const paths =
        medium instanceof SimMedium ? medium.durablePaths() : medium.crashPoint().image(() => false).paths;
      assert.equal(paths, ['e/b']);
    }
  });

  test('any subset of the sectors is kept that were not synced, and all of those that were', async () => {
    const over = async (disk: Disk): Promise<DiskFile> => {
      const file = await durable(disk, 'a', A + A);
      await file.write([Buffer.from(B + B)], 0);
      return file;
    };
    assert.equal(await outcomes(over), [A + A, A + B, B + A, B + B].sort());
    assert.equal(await outcomes((disk) => over(disk).then((file) => file.datasync())), [B + B]);
    const half = async (disk: Disk): Promise<void> => {
      const file = await over(disk);
      await file.writeDurable([Buffer.from(C)], 512);
    };
    assert.equal(await outcomes(half), [A + C, B + C].sort());
  });

  test('growing keeps the old size, or zeros, or the bytes; cutting keeps all or nothing', async () => {
    const grown = (disk: Disk): Promise<unknown> =>
      durable(disk, 'a', 'a').then((file) => file.write([Buffer.from('b')], 1));
    assert.equal(await outcomes(grown), ['a', 'a\0', 'ab']);
    const shortened = (disk: Disk): Promise<unknown> =>
      durable(disk, 'a', A + B + C).then((file) => file.truncate(3));
    assert.equal(await outcomes(shortened), ['aaa', A + B + C].sort());
  });

  test('a prefix keeps what came first', async () => {
    const steps = async (disk: Disk): Promise<void> => {
      const file = await durable(disk, 'a', A + A + A);
      for (const sector of [2, 0, 1]) await file.write([Buffer.from(B)], sector * 512);
    };
    assert.equal(await outcomes(steps, 'a', 'prefix'), [A + A + A, A + A + B, B + A + B, B + B + B].sort());
  });

  test('a sector that was written twice may hold the first, too', async () => {
    const twice = async (disk: Disk): Promise<void> => {
      const file = await durable(disk, 'a', A);
      for (const bytes of [B, C]) await file.write([Buffer.from(bytes)], 0);
    };
    assert.equal(await outcomes(twice), [A, B, C].sort());
  });

  test('a rename is kept as a whole or not at all', async () => {
    const renamed = async (disk: Disk): Promise<void> => {
      await (await durable(disk, 'a', 'old')).close();
      const file = await disk.open('b', 'create');
      await file.writeDurable([Buffer.from('new')], 0);
      await disk.syncDirectory('');
      await disk.rename('b', 'a');
    };
    assert.equal(await outcomes(renamed), ['new', 'old']);
    assert.equal(await outcomes(renamed, 'b'), ['new', 'none']);
  });

  test('a sync makes durable what was written when it began', async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 100; seed++) {
      const rig = new DiskRig(seed);
      await rig.run(async (disk) => {
        const file = await durable(disk, 'a', A + A);
        await file.write([Buffer.from(B)], 0);
        const syncing = file.datasync();
        await file.write([Buffer.from(C)], 0);
        await file.write([Buffer.from(C)], 512);
        await syncing;
        seen.add(String(rig.medium.durable('a')));
      });
    }
    // What came later may have been early enough only when the sync began after it.
    assert.equal([...seen], [B + A]);
  });

  test('syncs that end in another order than they began take nothing back', async () => {
    for (let seed = 1; seed <= 50; seed++) {
      const rig = new DiskRig(seed);
      await rig.run(async (disk) => {
        const file = await durable(disk, 'a', A);
        const syncs: Promise<void>[] = [];
        for (const at of [512, 1024, 1536]) {
          await file.write([Buffer.from(B)], at);
          syncs.push(file.datasync());
        }
        await Promise.all(syncs);
      });
      assert.is(String(rig.medium.durable('a')), A + B + B + B);
    }
  });

  test('the sync of a directory is about names from before it began', async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 50; seed++) {
      const rig = new DiskRig(seed);
      await rig.run(async (disk) => {
        await disk.open('a', 'create');
        const [syncing, making] = [disk.syncDirectory(''), disk.open('b', 'create')];
        await syncing;
        seen.add(rig.medium.durablePaths().join());
        await making;
      });
    }
    assert.equal([...seen], ['a']);
  });

  test('where a file lost its end in a power cut, nothing of that comes back when it grows', async () => {
    const sizes = new Set<number>();
    for (let seed = 1; seed <= 100; seed++) {
      const medium = new SimMedium({ name: 'disk', seed });
      const file = await durable(medium.direct(), 'a', A + A);
      await file.write([Buffer.from(B)], 512);
      await file.truncate(3);
      medium.powerCut(undefined, 'coins');
      const size = await file.size();
      sizes.add(size);
      await file.truncate(2000);
      const bytes = await medium.direct().readFile('a');
      assert.ok(bytes.subarray(size).equals(Buffer.alloc(2000 - size)), `seed ${seed}`);
    }
    assert.equal([...sizes].sort(), [1024, 3]);
  });

  test('whatever was synced survives whatever else was under way', async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const rig = new DiskRig(seed);
      const random = new SeededRandom(seed);
      const process = rig.process();
      const written = Buffer.alloc(16_384);
      let promised = 0;
      const work = rig.run(async (disk) => {
        const file = await durable(disk, 'a', '');
        for (let at = 0; at < written.length; ) {
          const bytes = random.bytes(1 + random.below(900)).subarray(0, written.length - at);
          bytes.copy(written, at);
          if (random.float() < 0.5) await file.writeDurable([bytes], at);
          else {
            await file.write([bytes], at);
            await file.datasync();
          }
          at += bytes.length;
          promised = at;
        }
      }, process);
      rig.scheduler.at(random.below(100), undefined, 'power cut', () => {
        process.kill();
        rig.medium.powerCut(random);
      });
      await work;
      const left = rig.medium.durable('a');
      if (promised > 0)
        assert.ok(left!.subarray(0, promised).equals(written.subarray(0, promised)), `seed ${seed}`);
      rig.medium.powerCut(random);
      const again = rig.medium.durable('a');
      assert.ok(left === undefined ? again === undefined : left.equals(again!), `seed ${seed}`);
    }
  });
});

describe('simulated disk: killed processes', (test) => {
  test('what a killed process waits for never comes, and the next life sees what the kernel has', async () => {
    const inCache = new Set<string>();
    for (let seed = 1; seed <= 100; seed++) {
      const rig = new DiskRig(seed);
      const first = rig.process();
      let goesOn = false;
      const work = rig.run(async (disk) => {
        const file = await durable(disk, 'a', A);
        await file.write([Buffer.from(B)], 0);
        const writing = file.write([Buffer.from(C + C)], 512);
        first.kill();
        file.truncate(0);
        file.write([Buffer.from(A)], 0);
        disk.unlink('a');
        await writing;
        goesOn = true;
      }, first);
      assert.is(await work, undefined);
      assert.is(goesOn, false);
      inCache.add(String(await rig.run((disk) => disk.readFile('a'))));
    }
    assert.equal([...inCache].sort(), [B, B + C, B + C + C].sort());
  });

  test('a sync under way is done, done in part, or not', async () => {
    const left = new Set<string>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const rig = new DiskRig(seed);
      const process = rig.process();
      await rig.run(async (disk) => {
        const file = await durable(disk, 'a', A + A);
        await file.write([Buffer.from(B + B)], 0);
        const syncing = file.datasync();
        process.kill();
        await syncing;
      }, process);
      rig.medium.powerCut(undefined, 'lost');
      left.add(String(rig.medium.durable('a')));
    }
    assert.equal([...left].sort(), [A + A, A + B, B + A, B + B].sort());
  });

  test('two processes on one mount see the same files', async () => {
    const rig = new DiskRig();
    const disks = [rig.process(), rig.process()].map((process) => rig.medium.mount(process));
    await rig.run(async () => {
      const file = await disks[0]!.open('a', 'exclusive');
      const other = await disks[1]!.open('a', 'write');
      await other.write([Buffer.from('of the other')], 0);
      const back = Buffer.alloc(12);
      await file.read(back, 0);
      assert.is(String(back), 'of the other');
      await disks[1]!.rename('a', 'b');
      assert.equal(await disks[0]!.list(''), ['b']);
    });
  });

  test('a paused process hears of it when it goes on', async () => {
    const rig = new DiskRig();
    const process = rig.process();
    let readAt = 0;
    rig.scheduler.at(0.05, undefined, 'pause', () => process.pause());
    rig.scheduler.at(500, undefined, 'resume', () => process.resume());
    await rig.run(async (disk) => {
      await disk.list('');
      readAt = rig.scheduler.now;
    }, process);
    assert.ok(readAt >= 500);
  });
});
