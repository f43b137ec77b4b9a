import * as assert from 'uvu/assert';
import { isTfsError } from '../../common/errors.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { diskContract } from '../contract/disk.ts';
import { RecordingDisk } from './recording-disk.ts';
import { describe } from './suite.ts';

diskContract('recording', async () => new RecordingDisk());

const all = (disk: RecordingDisk, path: string): Promise<string | undefined> =>
  disk.readFile(path).then(
    (bytes) => bytes.toString('latin1'),
    () => undefined,
  );

/** Every image of a crash now. */
function* images(disk: RecordingDisk): Generator<RecordingDisk> {
  const point = disk.crashPoint();
  for (let mask = 0; mask < 1 << point.units; mask++) yield point.image((unit) => (mask >> unit) % 2 === 1);
}

async function contents(disk: RecordingDisk, path: string): Promise<string[]> {
  const found = new Set<string>();
  for (const image of images(disk)) found.add((await all(image, path)) ?? 'none');
  return [...found].sort();
}

async function durable(disk: RecordingDisk, path: string, content: string): Promise<DiskFile> {
  const file = await disk.open(path, 'create');
  await file.write([Buffer.from(content)], 0);
  await file.datasync();
  await disk.syncDirectory('');
  return file;
}

describe('recording disk', (test) => {
  test('a crash keeps or loses a name until its directory is synced', async () => {
    const disk = new RecordingDisk();
    const file = await disk.open('a', 'create');
    await file.write([Buffer.from('x')], 0);
    await file.datasync();
    assert.equal(await contents(disk, 'a'), ['none', 'x']);
    await disk.syncDirectory('');
    assert.equal(await contents(disk, 'a'), ['x']);
    await disk.unlink('a');
    assert.equal(await contents(disk, 'a'), ['none', 'x']);
    await disk.syncDirectory('');
    assert.equal(await contents(disk, 'a'), ['none']);
  });

  test('a crash keeps any subset of the sectors that were not synced', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a'.repeat(1024));
    await file.write([Buffer.from('b'.repeat(1024))], 0);
    const [A, B] = ['a'.repeat(512), 'b'.repeat(512)];
    assert.equal(await contents(disk, 'a'), [A + A, A + B, B + A, B + B].sort());
    await file.datasync();
    assert.equal(await contents(disk, 'a'), [B + B]);
  });

  test('growing keeps the old size, or zeros, or the bytes', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a');
    await file.write([Buffer.from('b')], 1);
    assert.equal(await contents(disk, 'a'), ['a', 'a\0', 'ab']);
  });

  test('a rename is kept as a whole or not at all, and so is what it replaced', async () => {
    const disk = new RecordingDisk();
    await durable(disk, 'a', 'new');
    await durable(disk, 'b', 'old');
    await disk.rename('a', 'b');
    const seen = new Set<string>();
    for (const image of images(disk)) seen.add(`${await all(image, 'a')} ${await all(image, 'b')}`);
    assert.equal([...seen].sort(), ['new old', 'undefined new']);
  });

  test('a failed sync leaves the pages clean: a later good one does not save them', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a');
    await file.write([Buffer.from('b')], 0);
    disk.failure = { nth: 1, code: 'IO', kinds: ['sync'] };
    const error = await file.datasync().catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'IO'));
    await file.datasync();
    assert.is(await all(disk, 'a'), 'b');
    assert.equal(await contents(disk, 'a'), ['a', 'b']);
  });

  test('an image does not change with the disk it was taken from, nor the disk with the image', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a');
    const image = disk.settled();
    await file.write([Buffer.from('b')], 0);
    await file.datasync();
    assert.is(await all(image, 'a'), 'a');
    const other = await image.open('a', 'write');
    await other.write([Buffer.from('c')], 0);
    await other.datasync();
    assert.is(await all(image, 'a'), 'c');
    assert.is(await all(disk, 'a'), 'b');
  });

  test('the planned call fails, and those after it when it is sticky', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a');
    const outcome = (): Promise<string> =>
      file.write([Buffer.from('b')], 0).then(
        () => 'good',
        () => 'bad',
      );
    disk.failure = { nth: 2, code: 'READ_ONLY', kinds: ['write'] };
    assert.equal([await outcome(), await outcome(), await outcome()], ['good', 'bad', 'good']);
    disk.failure = { nth: 2, code: 'READ_ONLY', kinds: ['write'], sticky: true };
    assert.equal([await outcome(), await outcome(), await outcome()], ['good', 'bad', 'bad']);
  });

  test('a file that was emptied and grows again holds zeros, and a second name survives with its first one gone', async () => {
    const disk = new RecordingDisk();
    await (await durable(disk, 'a', 'contents')).close();
    await disk.link('a', 'b');
    await disk.syncDirectory('');
    const file = await disk.open('a', 'create');
    await file.truncate(8);
    await file.close();
    assert.equal(await disk.readFile('b'), Buffer.alloc(8));
    await disk.unlink('a');
    assert.equal(disk.crashPoint().image(() => true).paths, ['b']);
    assert.equal(disk.crashPoint().image(() => false).paths, ['a', 'b']);
  });

  test('a full disk refuses to grow, not to overwrite', async () => {
    const disk = new RecordingDisk();
    const file = await durable(disk, 'a', 'a'.repeat(100));
    disk.capacityBytes = 150;
    await file.write([Buffer.from('b'.repeat(100))], 0);
    const error = await file.write([Buffer.from('b'.repeat(100))], 60).catch((thrown: unknown) => thrown);
    assert.ok(isTfsError(error, 'DISK_FULL'));
    assert.is(await file.size(), 100);
  });
});
