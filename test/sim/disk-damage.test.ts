import * as assert from 'uvu/assert';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { A, B, C, durable, outcome, overSeeds, place, seenIn, ZEROS } from './disk-rig.ts';

describe('simulated disk: damage', (test) => {
  test('a bit rots in one file of those that match, and the disk knows where', async () => {
    const { medium, disk } = await place(A);
    await durable(disk, 'b', B);
    const told: string[] = [];
    medium.onDurable = (path) => void told.push(path);
    const struck = medium.flip({ path: /^b/ })!;
    assert.is(struck.path, 'b');
    assert.equal(told, ['b']);
    assert.equal([...medium.damaged], ['b']);
    const now = await disk.readFile('b');
    const wrong = [...now].map((byte, i) => (byte === B.charCodeAt(i) ? -1 : i)).filter((i) => i >= 0);
    assert.equal(wrong, [struck.position]);
    assert.ok(medium.durable('b')!.equals(now));
    assert.equal(medium.flip({ path: 'a', position: 17 }), { path: 'a', position: 17 });
    assert.is(medium.flip({ path: 'a', position: 512 }), undefined);
    assert.is(medium.flip({ path: /^x/ }), undefined);
    await disk.rename('b', 'c');
    assert.equal([...medium.damaged].sort(), ['a', 'b', 'c']);
  });

  test('rot below a page that waits for its sync is hidden, and gone with the sync', async () => {
    const { medium, disk, file } = await place(A);
    await file.write([Buffer.from(B)], 0);
    medium.flip({ path: 'a' });
    assert.is(await seenIn(disk), B);
    assert.is.not(String(medium.durable('a')), A);
    await file.datasync();
    assert.is(String(medium.durable('a')), B);
  });

  test('an unreadable sector fails what touches it, until it is written again', async () => {
    const { medium, disk, file } = await place(A + B + C);
    medium.spoil({ path: 'a', position: 600 });
    const read = (position: number, length: number): Promise<string> =>
      outcome(file.read(Buffer.alloc(length), position));
    assert.is(await read(0, 512), 'good');
    assert.is(await read(1024, 512), 'good');
    assert.is(await read(500, 13), 'IO');
    assert.is(await read(1023, 1), 'IO');
    assert.is(await outcome(disk.readFile('a')), 'IO');
    await file.write([Buffer.from('short')], 600);
    assert.is(await read(512, 1), 'IO');
    medium.powerCut();
    assert.is(await outcome(disk.readFile('a')), 'IO');
    await file.write([Buffer.from(C)], 512);
    assert.is(await outcome(disk.readFile('a')), 'good');
  });

  test('a lost write was said to be durable, and is not: reads see that sooner or later', async () => {
    const seen = new Set<string>();
    const left = await overSeeds(async (seed) => {
      const { medium, disk, file } = await place(A + A, seed);
      medium.faults.lostWrites = { share: 1, path: /^a$/, times: 1 };
      await file.write([Buffer.from(B + B)], 0);
      assert.is(await outcome(file.datasync()), 'good');
      await outcome(file.datasync());
      seen.add(await seenIn(disk));
      assert.equal([...medium.damaged], ['a']);
      assert.is(medium.faults.counts.get('lost-write'), 1);
      medium.powerCut(undefined, 'kept');
      return seenIn(disk);
    });
    assert.equal(left, [A + A, A + B, B + A].sort());
    assert.ok(seen.has(B + B) && seen.size > 1, 'some of it is in the page cache');
  });

  test('a misdirected write is missing where it belongs, and lies somewhere else', async () => {
    const onto = new Set<string>();
    await overSeeds(async (seed) => {
      const { medium, disk, file } = await place(A + A + A + A, seed);
      await durable(disk, 'b', C + C);
      await durable(disk, 'c', ZEROS);
      medium.faults.misdirected = { share: 1, onto: /^b$/ };
      await file.writeDurable([Buffer.from(B)], 512);
      medium.faults.heal();
      medium.powerCut(undefined, 'kept');
      const [a, b] = [await seenIn(disk), await seenIn(disk, 'b')];
      assert.is(await seenIn(disk, 'c'), ZEROS);
      const isInA = a.includes(B);
      const isInB = b.includes(B);
      assert.ok(isInA !== isInB, `seed ${seed}`);
      if (isInB) assert.is(a, A + A + A + A);
      assert.equal([...medium.damaged].sort(), isInB ? ['a', 'b'] : ['a']);
      onto.add(isInB ? `b ${b.indexOf(B)}` : `a ${a.indexOf(B)}`);
      return '';
    });
    assert.ok(['a 0', 'a 512', 'a 1024', 'a 1536', 'b 0', 'b 512'].every((place) => onto.has(place)));
  });
});

describe('simulated disk: other media', (test) => {
  test('a snapshot is what was durable, as the same file system', async () => {
    const { medium, disk, file } = await place(A);
    const identity = await disk.identity('a');
    await file.write([Buffer.from(B)], 0);
    await disk.link('a', 'b');
    const snapshot = medium.snapshot();
    await file.datasync();
    await disk.syncDirectory('');
    for (let round = 0; round < 2; round++) {
      medium.restore(snapshot);
      assert.equal(await disk.list(''), ['a']);
      assert.is(await seenIn(disk), A);
      assert.is(await disk.identity('a'), identity);
      await (await disk.open('a', 'write')).writeDurable([Buffer.from(C)], 0);
    }
  });

  test('a wiped mount is another, empty file system; open files are still those of the old one', async () => {
    const { medium, disk, file } = await place(A);
    const identity = await disk.identity('a');
    medium.wipe();
    assert.equal(await disk.list(''), []);
    assert.equal(medium.durablePaths(), []);
    assert.is(await outcome(disk.syncDirectory('blocks')), 'NOT_FOUND');
    assert.is(await outcome(file.writeDurable([Buffer.from(B)], 0)), 'good');
    await durable(disk, 'a', C);
    assert.is.not(await disk.identity('a'), identity);
    assert.is(String(medium.durable('a')), C);
  });

  test('under swapped mounts calls by name reach the disk of the other; each disk tells of itself', async () => {
    const [one, two] = [await place(A), await place(B, 2)];
    const told: string[] = [];
    for (const [name, medium] of Object.entries({ one: one.medium, two: two.medium }))
      medium.onDurable = (path) => void told.push(`${name} ${path}`);
    const identities = [await one.disk.identity('a'), await two.disk.identity('a')];
    one.medium.swap(two.medium);
    assert.equal([await two.disk.identity('a'), await one.disk.identity('a')], identities);
    assert.is(await seenIn(one.disk), B);
    assert.is(String(one.medium.durable('a')), A);
    await one.file.writeDurable([Buffer.from(C)], 0);
    assert.equal(told.splice(0), ['one a']);
    await durable(one.disk, 'b', ZEROS);
    assert.equal(told.splice(0), ['two b']);
    two.medium.swap(one.medium);
    assert.equal([await seenIn(one.disk), await seenIn(two.disk)], [C, B]);
    assert.is(await seenIn(two.disk, 'b'), ZEROS);
    assert.is(one.medium.durable('b'), undefined);
  });

  test('a disk that is wiped or set back while it is swapped is so when it is home again', async () => {
    for (const back of [undefined, C]) {
      const [one, two] = [await place(A), await place(B, 2)];
      await durable(one.disk, 'a', C);
      const snapshot = one.medium.snapshot();
      await durable(one.disk, 'a', A);
      one.medium.swap(two.medium);
      if (back === undefined) one.medium.wipe();
      else one.medium.restore(snapshot);
      const shown = async (of: typeof one) =>
        (await of.disk.stat('a')) === undefined ? undefined : seenIn(of.disk);
      assert.equal([await shown(two), await shown(one)], [back, B]);
      one.medium.swap(two.medium);
      assert.equal([await shown(one), await shown(two)], [back, B]);
    }
  });

  test('under a mount that is not there is an empty directory, and the disk as it was when it is there again', async () => {
    const { medium, disk, file } = await place(A);
    const identity = await disk.identity('a');
    medium.unmount();
    assert.is(await disk.identity('a'), undefined);
    assert.is(await outcome(disk.open('blocks/a', 'create')), 'NOT_FOUND');
    await file.writeDurable([Buffer.from(B)], 0);
    assert.is(String(medium.durable('a')), B);
    medium.powerCut();
    assert.equal(await disk.list(''), []);
    medium.remount();
    assert.is(await disk.identity('a'), identity);
    assert.is(await seenIn(disk), B);
  });

  test('random faults over random seeds never touch what no fault could', async () => {
    await overSeeds(async (seed) => {
      const { medium, disk } = await place(A, seed);
      const random = new SeededRandom(seed);
      const file = await durable(disk, 'b', '');
      const path = /^b$/;
      medium.faults.lostWrites = { share: 0.2, path };
      medium.faults.misdirected = { share: 0.2, path, onto: path };
      medium.faults.errors = [{ kinds: ['write', 'sync'], share: 0.2, path }];
      for (let i = 0; i < 30; i++) {
        await outcome(file.write([random.bytes(random.below(2000))], random.below(4000)));
        await outcome(random.float() < 0.5 ? file.datasync() : file.truncate(random.below(5000)));
        if (random.float() < 0.1) medium.flip({ path });
        if (random.float() < 0.1) medium.powerCut();
        assert.is((await disk.readFile('b')).length, await file.size());
      }
      medium.powerCut();
      assert.is(await seenIn(disk), A);
      assert.ok(medium.durable('b')!.equals(await disk.readFile('b')));
      return '';
    });
  });
});
