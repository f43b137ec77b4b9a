import * as assert from 'uvu/assert';
import { TfsError } from '../../common/errors.ts';
import type { Incarnation } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import type { Disk } from '../../common/seams/disk.ts';
import { writeDurable } from '../../dataserver/durable-file.ts';
import { MOUNT_FILE } from '../../dataserver/mount.ts';
import { MountWatch } from '../../dataserver/mount-watch.ts';
import { DiskProbe, type ProbeDeps } from '../../dataserver/probe.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const settled = async () => {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
};

/** A disk in memory on which every sync takes as long as the test says. */
async function world(t: TestContext, more: Partial<ProbeDeps> = {}) {
  const clock = new ManualClock();
  const disk = new RecordingDisk();
  const times = { syncMs: 1, hangs: false };
  let goOn: () => void = () => undefined;
  const slowed: Disk = Object.create(disk, {
    readFile: { value: disk.readFile.bind(disk) },
    syncDirectory: { value: disk.syncDirectory.bind(disk) },
    open: {
      value: async (...args: Parameters<Disk['open']>) => {
        const file = await disk.open(...args);
        const datasync = file.datasync.bind(file);
        file.datasync = async () => {
          if (times.hangs)
            await new Promise<void>((resolve) => {
              goOn = resolve;
            });
          else clock.advance(times.syncMs);
          return datasync();
        };
        return file;
      },
    },
  });
  const lost: TfsError[] = [];
  const probe = await DiskProbe.open({
    disk: slowed,
    clock,
    log: silentLog,
    look: async () => undefined,
    onLost: (error) => lost.push(error),
    ...more,
  });
  t.defer(async () => {
    times.hangs = false;
    goOn();
    await probe.close();
  });
  const run = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      clock.advance(1000);
      await settled();
    }
  };
  return { clock, disk, probe, times, lost, run, goOn: () => goOn() };
}

/** The same disk under a new process. */
const onDisk = (disk: RecordingDisk, more: Partial<ProbeDeps> = {}) =>
  DiskProbe.open({
    disk,
    clock: new ManualClock(),
    log: silentLog,
    look: async () => undefined,
    onLost: () => undefined,
    ...more,
  });

/** A disk that was in service for 3 s, on which a process that was killed left a fourth in the page cache alone. */
async function withUnsyncedAge(t: TestContext): Promise<RecordingDisk> {
  const { disk, probe, run } = await world(t);
  probe.inService();
  await run(3);
  disk.failure = { nth: 1, code: 'IO', kinds: ['sync'] };
  await run(1);
  assert.is(probe.age, 3);
  return disk;
}

describe('age of a disk', (test) => {
  test('grows with each second of service, not before, and is there after a restart', async (t) => {
    const { disk, probe, run } = await world(t);
    await run(3);
    assert.is(probe.age, 0);
    probe.inService();
    await run(5);
    assert.is(probe.age, 5);
    const next = await onDisk(disk);
    assert.is(next.age, 5);
    await next.close();
  });

  test('a power failure takes nothing of it that was told', async (t) => {
    const { disk, probe, run } = await world(t);
    for (let told = 0; told < 4; told++) {
      assert.is(probe.age, told);
      const next = await onDisk(disk.crashPoint().image(() => false));
      assert.is(next.age, told);
      await next.close();
      probe.inService();
      await run(1);
    }
  });

  test('does not grow where the disk takes no writes', async (t) => {
    const { disk, probe, run } = await world(t);
    probe.inService();
    await run(2);
    disk.failure = { nth: 1, code: 'IO', kinds: ['sync'], sticky: true };
    await run(3);
    assert.is(probe.age, 2);
  });

  test('that was found is told by no process that could not sync it', async (t) => {
    const disk = await withUnsyncedAge(t);
    for (const kind of ['write', 'sync'] as const) {
      disk.failure = { nth: 1, code: 'IO', kinds: [kind], sticky: true };
      const error = await onDisk(disk).catch((thrown: unknown) => thrown);
      assert.instance(error, TfsError);
      assert.is((error as TfsError).code, 'IO');
      assert.match((error as TfsError).message, /in service cannot be written.*a probe write fails/);
    }
    disk.failure = undefined;
    const after = await onDisk(disk.crashPoint().image(() => false));
    assert.is(after.age, 3, 'the power failed: what was told is there');
    await after.close();
    const next = await onDisk(disk);
    assert.is(next.age, 4);
    await next.close();
    const kept = await onDisk(disk.crashPoint().image(() => false));
    assert.is(kept.age, 4);
    await kept.close();
  });

  test('that was found is written on a full disk, too, where some room can be made, or not told', async (t) => {
    const disk = await withUnsyncedAge(t);
    const full = { nth: 1, code: 'DISK_FULL', kinds: ['write'], sticky: true } as const;
    disk.failure = { ...full };
    const error = await onDisk(disk).catch((thrown: unknown) => thrown);
    assert.match((error as TfsError).message, /the disk is full/);
    disk.failure = { ...full };
    const makeRoom = async () => {
      disk.failure = undefined;
      return true;
    };
    const next = await onDisk(disk, { makeRoom });
    assert.is(next.age, 4);
    await next.close();
    const kept = await onDisk(disk.crashPoint().image(() => false));
    assert.is(kept.age, 4);
    await kept.close();
  });

  test('of a disk that was never in service is told whatever fails: there is nothing to lose', async () => {
    const disk = new RecordingDisk();
    disk.failure = { nth: 1, code: 'IO', kinds: ['sync'], sticky: true };
    const probe = await onDisk(disk);
    assert.is(probe.age, 0);
    assert.is(probe.health.failed, true);
    await probe.close();
  });

  test('is held twice: one copy that is damaged does not make it younger, two make a disk that was never in service', async (t) => {
    const { disk, probe, run } = await world(t);
    probe.inService();
    await run(7);
    const bytes = await disk.readFile('probe.bin');
    for (const at of [0, 4096]) {
      const damaged = Buffer.from(bytes);
      damaged[at + 9]! ^= 1;
      disk.plant('probe.bin', damaged);
      const next = await onDisk(disk);
      assert.is(next.age, 7, `damage at ${at}`);
      await next.close();
    }
    const old = Buffer.alloc(512);
    old.writeDoubleLE(1.7e12, 0);
    disk.plant('probe.bin', old);
    const next = await onDisk(disk);
    assert.is(next.age, 0, 'as an earlier version left it');
    await next.close();
  });
});

describe('disk probe', (test) => {
  test('a disk in order is healthy, fast, and has no reason', async (t) => {
    const { probe, run } = await world(t);
    await run(3);
    const { healthy, slow, reason } = probe.health;
    assert.equal({ healthy, slow, reason }, { healthy: true, slow: false, reason: undefined });
  });

  test('slow is what takes long time and again; one long write is not', async (t) => {
    const { probe, times, run } = await world(t);
    await run(3);
    times.syncMs = 800;
    await run(1);
    assert.is(probe.health.slow, false);
    times.syncMs = 1;
    await run(1);
    times.syncMs = 800;
    await run(2);
    assert.is(probe.health.slow, true);
    assert.is(probe.health.healthy, true);
    assert.match(probe.health.reason!, /slow: a write of 512 bytes takes \d+ ms/);
    times.syncMs = 200;
    await run(3);
    assert.is(probe.health.slow, true, 'not better enough');
    times.syncMs = 20;
    await run(2);
    assert.is(probe.health.slow, false);
  });

  test('a probe that does not come back is a disk that hangs, until it does', async (t) => {
    const { clock, probe, times, run, goOn } = await world(t);
    await run(3);
    times.hangs = true;
    await run(5);
    assert.is(probe.health.healthy, true);
    await run(2);
    assert.is(probe.health.healthy, false);
    assert.is(probe.health.slow, true);
    assert.match(probe.health.reason!, /hangs/);
    assert.is(probe.health.failed, false, 'it may end yet');
    times.hangs = false;
    goOn();
    await settled();
    assert.is(probe.health.healthy, true);
    clock.advance(1);
  });

  test('a write of somebody else that was waited for in vain counts until a probe that began later has ended', async (t) => {
    const { probe, run } = await world(t);
    await run(1);
    probe.doubt();
    assert.is(probe.health.healthy, false);
    await run(1);
    assert.is(probe.health.healthy, true);
  });

  test('a failed write makes it unhealthy, a full disk does not, and it recovers by itself', async (t) => {
    const { disk, probe, run } = await world(t);
    disk.failure = { nth: 1, code: 'READ_ONLY', kinds: ['write'], sticky: true };
    await run(1);
    assert.is(probe.health.healthy, false);
    assert.match(probe.health.reason!, /probe write fails/);
    assert.is(probe.health.failed, true);
    disk.failure = { nth: 1, code: 'DISK_FULL', kinds: ['write'], sticky: true };
    await run(1);
    assert.is(probe.health.healthy, true);
    disk.failure = undefined;
    await run(1);
    assert.is(probe.health.healthy, true);
  });

  test('a disk that is not the same any more is never written again', async (t) => {
    let gone: TfsError | undefined;
    const { disk, probe, lost, run } = await world(t, { look: async () => gone });
    await run(1);
    gone = new TfsError('READ_ONLY', 'not mounted any more');
    await run(1);
    assert.is(probe.health.healthy, false);
    assert.match(probe.health.reason!, /not mounted/);
    const { write } = disk.calls;
    gone = undefined;
    await run(3);
    assert.is(probe.health.healthy, false);
    assert.is(disk.calls.write, write);
    assert.is(lost.length, 1, 'said once');
  });
});

describe('mount watch', (test) => {
  const incarnation = 4 as Incarnation;
  const mounted = async () => {
    const disk = new RecordingDisk();
    disk.plant(MOUNT_FILE, Buffer.from('mount'));
    await writeDurable(disk, 'incarnation.tfs', { incarnation });
    return disk;
  };

  test('the same disk, also after it was written to, is in order', async () => {
    const disk = await mounted();
    const watch = await MountWatch.open(disk, '/mnt/m1', incarnation);
    disk.plant('other', Buffer.alloc(1));
    assert.is(await watch.look(), undefined);
  });

  test('an unmounted disk, and another one in its place, end the writing', async () => {
    const disk = await mounted();
    const watch = await MountWatch.open(disk, '/mnt/m1', incarnation);
    disk.plant(MOUNT_FILE, Buffer.from('mount'));
    const other = await watch.look();
    assert.is(other?.code, 'READ_ONLY');
    assert.match(other!.message, /\/mnt\/m1 is not the disk any more.*mount the disk/);
    await disk.unlink(MOUNT_FILE);
    assert.match((await watch.look())!.message, /not mounted any more/);
  });

  test('another process that has begun to serve the mount ends this one', async () => {
    const disk = await mounted();
    const watch = await MountWatch.open(disk, '/mnt/m1', incarnation);
    await writeDurable(disk, 'incarnation.tfs', { incarnation: incarnation + 1 });
    const taken = await watch.look();
    assert.is(taken?.code, 'REFUSED');
    assert.match(taken!.message, /another process/);
  });

  test('a disk that cannot be looked at now is not a disk that is gone', async () => {
    const disk = await mounted();
    const watch = await MountWatch.open(disk, '/mnt/m1', incarnation);
    disk.failure = { nth: 1, code: 'IO', kinds: ['read'] };
    const error = await watch.look().catch((thrown: unknown) => thrown);
    assert.instance(error, TfsError);
    assert.is(await watch.look(), undefined);
  });
});
