import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import type { Disk, DiskFile } from '../../common/seams/disk.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { SimMedium } from './disk.ts';

const NAMES = ['a', 'b', 'c'];
const SEQUENCES = 150;
const CUTS = 30;
/** More would be too many images to list. */
const UNITS_MAX = 10;

/** One random call, the same on both disks; files stay open under the name that they were made with. */
async function call(disk: Disk, files: Map<string, DiskFile>, random: SeededRandom): Promise<void> {
  const [name, other] = [random.pick(NAMES), random.pick(NAMES)];
  const kind = random.below(10);
  const bytes = random.bytes(1 + random.below(700));
  const position = random.below(900);
  try {
    const file = files.get(name);
    if (file === undefined || kind === 0) files.set(name, await disk.open(name, 'exclusive'));
    else if (kind === 1) await disk.rename(name, other);
    else if (kind === 2) await disk.link(name, other);
    else if (kind === 3) await disk.unlink(name);
    else if (kind === 4) await disk.syncDirectory('');
    else if (kind < 7) await file.datasync();
    else await file.write([bytes], position);
  } catch (error) {
    if (!isTfsError(error, 'NOT_FOUND') && !isTfsError(error, 'CONFLICT')) throw error;
  }
}

async function imageOf(disk: Disk): Promise<string> {
  const lines: string[] = [];
  for (const name of await disk.list(''))
    lines.push(`${name} ${(await disk.readFile(name)).toString('hex')}`);
  return lines.join('\n');
}

describe('simulated disk: images of power cuts', (test) => {
  test('each is one of those that the recording disk allows, and they reach both ends', async () => {
    let ofMany = 0;
    let reached = 0;
    for (let seed = 1; seed <= SEQUENCES; seed++) {
      const length = 4 + (seed % 20);
      const recording = new RecordingDisk();
      const replay = async (disk: Disk): Promise<void> => {
        const [files, random] = [new Map<string, DiskFile>(), new SeededRandom(seed)];
        for (let i = 0; i < length; i++) await call(disk, files, random);
      };
      await replay(recording);
      const point = recording.crashPoint();
      if (point.units > UNITS_MAX) continue;
      const allowed = new Set<string>();
      for (let mask = 0; mask < 1 << point.units; mask++)
        allowed.add(await imageOf(point.image((unit) => (mask >> unit) % 2 === 1)));
      const seen = new Set<string>();
      for (let cut = 1; cut <= CUTS; cut++) {
        const medium = new SimMedium({ name: 'disk', seed: seed * 1000 + cut });
        await replay(medium.direct());
        medium.powerCut();
        const image = await imageOf(medium.direct());
        assert.ok(allowed.has(image), `seed ${seed}, cut ${cut}: an image that no crash leaves`);
        seen.add(image);
      }
      for (const end of [true, false])
        assert.ok(seen.has(await imageOf(point.image(() => end))), `seed ${seed}`);
      if (allowed.size < 4) continue;
      ofMany++;
      if (seen.size > 3) reached++;
    }
    assert.ok(ofMany > 30 && reached > 0.8 * ofMany, `${reached} of ${ofMany}`);
  });
});
