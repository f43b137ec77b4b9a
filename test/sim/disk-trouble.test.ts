import * as assert from 'uvu/assert';
import { describe } from '../kit/suite.ts';
import { A, B, C, DiskRig, durable, outcome, overSeeds, place, seenIn, ZEROS } from './disk-rig.ts';

describe('simulated disk: calls that fail', (test) => {
  test('EIO hits the kinds of calls, the paths and the number of times it is planned for', async () => {
    const { medium, disk, file } = await place(A);
    const other = await durable(disk, 'b', B);
    medium.faults.errors = [{ kinds: ['read'], share: 1, path: /^a$/, times: 2 }];
    assert.is(await outcome(disk.readFile('b')), 'good');
    assert.is(await outcome(file.write([Buffer.from(B)], 0)), 'good');
    const reads: string[] = [];
    for (let i = 0; i < 3; i++) reads.push(await outcome(file.read(Buffer.alloc(1), 0)));
    assert.equal(reads, ['IO', 'IO', 'good']);
    medium.faults.errors = [{ kinds: ['sync', 'name'], share: 0.5 }];
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 200; i++) {
      for (const work of [other.datasync(), disk.syncDirectory(''), disk.mkdir('d')]) {
        const code = await outcome(work);
        outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      }
    }
    assert.ok(outcomes.get('IO')! > 200 && outcomes.get('good')! > 200, JSON.stringify([...outcomes]));
    assert.is(
      medium.faults.counts.get('eio')! + medium.faults.counts.get('failed-sync')!,
      outcomes.get('IO')! + 2,
    );
    medium.faults.errors = [{ kinds: ['sync'], share: 1, path: /^c$/ }];
    assert.is(await outcome(other.datasync()), 'good');
    await disk.rename('b', 'c');
    assert.is(await outcome(other.datasync()), 'IO');
    medium.powerCut(undefined, 'lost');
    assert.is(await outcome(other.datasync()), 'good');
    medium.faults.heal();
    await disk.rename('b', 'c');
    assert.is(await outcome(other.datasync()), 'good');
  });

  test('a failed write leaves a prefix of whole sectors', async () => {
    const left = await overSeeds(async (seed) => {
      const { medium, disk, file } = await place('', seed);
      medium.faults.errors = [{ kinds: ['write'], share: 1 }];
      assert.is(await outcome(file.write([Buffer.from(A + B), Buffer.from(C)], 0)), 'IO');
      return seenIn(disk);
    });
    assert.equal(left, ['', A, A + B, A + B + C].sort());
  });

  test('a failed sync leaves pages clean: good ones later do not save them, and reads may lose them', async () => {
    const seen = new Set<string>();
    const left = await overSeeds(async (seed) => {
      const rig = new DiskRig(seed);
      const process = rig.process();
      await rig.run(async (disk) => {
        const file = await durable(disk, 'a', A);
        await file.write([Buffer.from(B)], 0);
        rig.medium.faults.errors = [{ kinds: ['sync'], share: 1, times: 1 }];
        assert.is(await outcome(file.datasync()), 'IO');
        assert.is(await outcome(file.datasync()), 'good');
        assert.is(await seenIn(disk), B);
        assert.is(String(rig.medium.durable('a')), A);
      }, process);
      process.kill();
      rig.medium.processKilled();
      seen.add((await rig.run((disk) => seenIn(disk)))!);
      rig.medium.powerCut();
      return String(rig.medium.durable('a'));
    });
    assert.equal(left, [A, B]);
    assert.equal([...seen].sort(), [A, B]);
  });

  test('of a sector that a failed sync left in doubt, later writes save their own bytes only', async () => {
    const left = await overSeeds(async (seed) => {
      const { medium, file } = await place('....', seed);
      await file.write([Buffer.from('ab')], 0);
      medium.faults.errors = [{ kinds: ['sync'], share: 1, times: 1 }];
      await outcome(file.datasync());
      await file.write([Buffer.from('cd')], 2);
      await file.datasync();
      medium.powerCut();
      return String(medium.durable('a'));
    });
    assert.equal(left, ['..cd', 'abcd']);
  });

  test('what a failed sync left in doubt is settled by writing it again, with the size it needs', async () => {
    const left = await overSeeds(async (seed) => {
      const { medium, file } = await place('', seed);
      await file.write([Buffer.from(A + A + A)], 0);
      medium.faults.errors = [{ kinds: ['sync'], share: 1, times: 1 }];
      await outcome(file.datasync());
      await file.write([Buffer.from(B)], 512);
      await file.datasync();
      assert.is(String(medium.durable('a')), ZEROS + B);
      medium.powerCut();
      return String(medium.durable('a'));
    });
    assert.equal(left, [A, ZEROS].flatMap((first) => ['', A, ZEROS].map((last) => first + B + last)).sort());
  });

  test('what a failed sync left in doubt is gone for good where the file was made shorter', async () => {
    const { medium, file } = await place(A + A + A);
    await file.write([Buffer.from(B)], 1024);
    medium.faults.errors = [{ kinds: ['sync'], share: 1, times: 1 }];
    await outcome(file.datasync());
    await file.truncate(3);
    await file.datasync();
    await file.truncate(1536);
    await file.datasync();
    assert.equal(medium.durable('a'), Buffer.concat([Buffer.from('aaa'), Buffer.alloc(1533)]));
  });

  test('a full disk refuses to grow, not to overwrite, and says what is free', async () => {
    const { medium, disk, file } = await place(A);
    medium.capacityBytes = 700;
    assert.equal(await disk.space(), { totalBytes: 700, freeBytes: 188 });
    assert.is(await outcome(file.write([Buffer.from(B)], 0)), 'good');
    assert.is(await outcome(file.write([Buffer.from(B)], 300)), 'DISK_FULL');
    assert.is(await outcome(file.writeDurable([Buffer.from(B)], 300)), 'DISK_FULL');
    assert.is(await file.size(), 512);
    await disk.link('a', 'b');
    await disk.unlink('a');
    assert.is((await disk.space()).freeBytes, 188);
    await disk.unlink('b');
    assert.is((await disk.space()).freeBytes, 700);
    assert.is(await outcome(durable(disk, 'c', A)), 'good');
    await file.close();
  });

  test('a read-only disk changes nothing more, and what waited for a sync is in doubt', async () => {
    const left = await overSeeds(async (seed) => {
      const { medium, disk, file } = await place(A, seed);
      await file.write([Buffer.from(B)], 0);
      medium.faults.isReadOnly = true;
      const calls = [file.datasync(), file.write([Buffer.from(C)], 0), file.truncate(0)];
      calls.push(
        disk.unlink('a'),
        disk.open('c', 'create').then(() => undefined),
        disk.mkdir('d'),
      );
      for (const call of calls) assert.is(await outcome(call), 'READ_ONLY');
      assert.is(await seenIn(disk), B);
      medium.faults.isReadOnly = false;
      await file.datasync();
      medium.powerCut();
      return String(medium.durable('a'));
    });
    assert.equal(left, [A, B]);
  });
});

describe('simulated disk: time', (test) => {
  test('a hanging disk answers when it is released, also what was asked before it hung', async () => {
    const rig = new DiskRig();
    const process = rig.process();
    const ended: string[] = [];
    await rig.run(async (disk) => {
      const file = await durable(disk, 'a', A);
      const note = (what: string) => (): void => void ended.push(`${what} ${rig.scheduler.now >= 500}`);
      const waiting = [
        file.write([Buffer.from(B)], 0).then(note('write')),
        file.datasync().then(note('sync')),
      ];
      rig.medium.faults.hang(['sync', 'write']);
      rig.scheduler.at(500, undefined, 'release', () => rig.medium.faults.release());
      await disk.readFile('a').then(note('read'));
      await Promise.all(waiting);
    }, process);
    assert.equal(ended.sort(), ['read false', 'sync true', 'write true']);
  });

  test('a sector that is tried again and again holds up those who read that file', async () => {
    const rig = new DiskRig();
    const ended: string[] = [];
    await rig.run(async (disk) => {
      const file = await durable(disk, 'a', A);
      await durable(disk, 'b', B);
      rig.medium.faults.hang(['read'], 'a');
      rig.scheduler.at(500, undefined, 'release', () => rig.medium.faults.release());
      const read = (path: string) => disk.readFile(path).then(() => ended.push(path));
      const written = file.writeDurable([Buffer.from(C)], 0).then(() => ended.push('written'));
      await Promise.all([read('a'), read('b'), written]);
    }, rig.process());
    assert.is(ended.at(-1), 'a');
    assert.equal(ended.sort(), ['a', 'b', 'written']);
  });

  test('what hung when its process was killed is never answered', async () => {
    const left = await overSeeds(async (seed) => {
      const rig = new DiskRig(seed);
      const process = rig.process();
      rig.scheduler.at(500, undefined, 'kill', () => process.kill());
      rig.scheduler.at(600, undefined, 'release', () => rig.medium.faults.release());
      const ended = await rig.run(async (disk) => {
        const file = await durable(disk, 'a', A);
        rig.medium.faults.hang();
        await file.writeDurable([Buffer.from(B)], 0);
        return 'ended';
      }, process);
      assert.is(ended, undefined);
      return String(rig.medium.durable('a'));
    });
    assert.equal(left, [A, B]);
  });

  test('a slow disk takes so many times as long', async () => {
    const took = async (slowness: number): Promise<number> => {
      const rig = new DiskRig();
      rig.medium.faults.slowness = slowness;
      await rig.run((disk) => durable(disk, 'a', A).then((file) => file.close()));
      return rig.scheduler.now;
    };
    const [usual, slow] = [await took(1), await took(50)];
    assert.ok(Math.abs(slow - 50 * usual) < 1e-6 * slow);
  });

  test('a slow process on a slow disk waits, but not for minutes', () => {
    const rig = new DiskRig();
    const process = rig.process();
    process.slowness = 60;
    assert.equal(
      [1, 1_000, 30_000].map((ms) => process.at(ms, 'call', () => undefined).at),
      [60, 20_000, 30_000],
    );
  });
});
