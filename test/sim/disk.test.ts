import * as assert from 'uvu/assert';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { TfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import type { Disk, DiskFile } from '../../common/seams/disk.ts';
import { nextIncarnation, takeDisk } from '../../dataserver/mount.ts';
import { diskContract } from '../contract/disk.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';
import { SimMedium } from './disk.ts';
import { DiskRig } from './disk-rig.ts';

const flowing = (rig: DiskRig): Disk => rig.medium.mount(rig.flowing());

diskContract('simulated', async () => flowing(new DiskRig()));
diskContract('simulated, at no time', async () => new SimMedium({ name: 'disk', seed: 1 }).direct());

const NAMES = ['a', 'b', 'c', 'd/a', 'd/b'];
const DIRECTORIES = ['', 'd'];

/** Random calls, the same for the same seed, of which each disk says how it went. */
class RandomCalls {
  readonly #random: SeededRandom;
  readonly #disk: Disk;
  readonly #files = new Map<string, DiskFile>();
  /** Calls that a disk may take in its own way: whether an O_DSYNC write takes with it what else was written. */
  readonly #withDurableWrites: boolean;

  constructor(disk: Disk, seed: number, withDurableWrites = true) {
    this.#disk = disk;
    this.#random = new SeededRandom(seed);
    this.#withDurableWrites = withDurableWrites;
  }

  async next(): Promise<string> {
    try {
      return await this.#call();
    } catch (error) {
      if (error instanceof TfsError) return error.code;
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) await file.close();
  }

  async #call(): Promise<string> {
    const random = this.#random;
    const disk = this.#disk;
    const name = random.pick(NAMES);
    const other = random.pick(NAMES);
    const kind = random.below(20);
    const position = random.below(4000);
    const bytes = random.bytes(random.below(3000));
    const length = random.below(2500);
    const file = this.#files.get(name);
    if (kind === 0) return this.#open(name, random.pick(['create', 'exclusive', 'write'] as const));
    if (kind === 1) return `${await disk.rename(name, other)}`;
    if (kind === 2) return `${await disk.link(name, other)}`;
    if (kind === 3) return `${await disk.unlink(name)}`;
    if (kind === 4) return (await disk.list(random.pick(DIRECTORIES))).join();
    if (kind === 5) return `${await disk.syncDirectory(random.pick(DIRECTORIES))}`;
    if (kind === 6) return JSON.stringify((await disk.stat(name))?.size);
    if (kind === 7) return (await disk.readFile(name)).toString('hex');
    if (kind === 8)
      return String((await disk.identity(name)) === (await disk.identity(other)) && name !== other);
    if (file === undefined) return this.#open(name, 'create');
    if (kind === 9) return `${await file.truncate(length)}`;
    if (kind === 10) return `${await file.size()}`;
    if (kind < 13) return `${await file.datasync()}`;
    if (kind < 15) {
      const target = Buffer.alloc(length, 7);
      return `${await file.read(target, position)} ${target.toString('hex')}`;
    }
    const cut = random.below(bytes.length + 1);
    const parts = [bytes.subarray(0, cut), bytes.subarray(cut)];
    if (kind === 15 && this.#withDurableWrites) return `${await file.writeDurable(parts, position)}`;
    return `${await file.write(parts, position)}`;
  }

  async #open(name: string, mode: 'create' | 'exclusive' | 'write'): Promise<string> {
    const file = await this.#disk.open(name, mode);
    await this.#files.get(name)?.close();
    this.#files.set(name, file);
    return 'opened';
  }
}

describe('simulated disk', (test) => {
  test('random calls end as they do on a real disk', async (t) => {
    for (let seed = 1; seed <= 12; seed++) {
      const real = await NodeDisk.open(tempDir(t));
      const simulated = flowing(new DiskRig(seed));
      for (const disk of [real, simulated]) await disk.mkdir('d');
      const [a, b] = [new RandomCalls(real, seed), new RandomCalls(simulated, seed)];
      for (let i = 0; i < 250; i++) assert.is(await b.next(), await a.next(), `seed ${seed}, call ${i}`);
      await a.close();
      await b.close();
    }
  });

  test('what is durable is what the recording disk says, after each call', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const recording = new RecordingDisk();
      const medium = new SimMedium({ name: 'disk', seed });
      const simulated = medium.direct();
      for (const disk of [recording, simulated]) await disk.mkdir('d');
      const [a, b] = [new RandomCalls(recording, seed, false), new RandomCalls(simulated, seed, false)];
      for (let i = 0; i < 150; i++) {
        assert.is(await b.next(), await a.next(), `seed ${seed}, call ${i}`);
        const least = recording.crashPoint().image(() => false);
        assert.equal(medium.durablePaths(), least.paths, `seed ${seed}, call ${i}`);
        for (const path of least.paths) {
          const same = medium.durable(path)!.equals(await least.readFile(path));
          assert.ok(same, `${path}: seed ${seed}, call ${i}`);
        }
      }
    }
  });

  test('the same seed gives the same times and the same images, another one others', async () => {
    const once = async (seed: number): Promise<string> => {
      const rig = new DiskRig(seed);
      const images: string[] = [];
      for (let life = 0; life < 5; life++) {
        const process = rig.process();
        const ended = rig.run(async (disk) => {
          await disk.mkdir('d');
          const calls = new RandomCalls(disk, 100 + life);
          for (let i = 0; i < 60; i++) await calls.next();
          return true;
        }, process);
        rig.scheduler.at(20 + life, undefined, 'power cut', () => {
          process.kill();
          rig.medium.powerCut();
        });
        assert.is(await ended, undefined);
        for (const path of rig.medium.durablePaths())
          images.push(`${path} ${rig.medium.durable(path)!.toString('hex')}`);
      }
      return `${rig.scheduler.hash} ${rig.scheduler.now} ${images.join('\n')}`;
    };
    assert.is(await once(1), await once(1));
    assert.is.not(await once(1), await once(2));
  });

  test('what becomes durable is told, under its durable names', async () => {
    const medium = new SimMedium({ name: 'disk', seed: 1 });
    const disk = medium.direct();
    const told: string[] = [];
    medium.onDurable = (path) => void told.push(path);
    const heard = (): string => told.splice(0).join();
    const file = await disk.open('a.tmp', 'create');
    await file.write([Buffer.from('x')], 0);
    await file.datasync();
    assert.is(heard(), '');
    await disk.rename('a.tmp', 'a');
    await disk.syncDirectory('');
    assert.is(heard(), 'a.tmp,a.tmp,a');
    await file.writeDurable([Buffer.from('yy')], 0);
    assert.is(heard(), 'a');
    await disk.link('a', 'b');
    await disk.unlink('a');
    await disk.syncDirectory('');
    await file.write([Buffer.from('zzz')], 0);
    assert.is(heard(), 'b,a');
    medium.powerCut(new SeededRandom(1), 'kept');
    assert.is(heard(), 'b');
    assert.equal(medium.durablePaths(), ['b']);
    assert.is(String(medium.durable('b')), 'zzz');
  });

  test('a formatted disk is taken by its owner only, and counts its incarnations', async () => {
    const rig = new DiskRig();
    const owner = { path: 'disk', clusterUuid: 'ab'.repeat(16), server: serverId(3) };
    const refusal = (of: typeof owner): Promise<string | undefined> =>
      rig.run((disk) =>
        takeDisk(disk, of).then(
          () => 'taken',
          (error: TfsError) => `${error.code} ${error.message}`,
        ),
      );
    assert.match((await refusal(owner))!, /^REFUSED .*not a formatted mount/);
    await rig.medium.format(owner);
    assert.is(await refusal(owner), 'taken');
    assert.match((await refusal({ ...owner, server: serverId(4) }))!, /^REFUSED .*DataServer 3/);
    assert.match((await refusal({ ...owner, clusterUuid: 'cd'.repeat(16) }))!, /^REFUSED .*belongs to/);
    for (const expected of [1, 2]) {
      assert.is(await rig.run(nextIncarnation), expected);
      rig.medium.powerCut(undefined, 'lost');
    }
  });
});
