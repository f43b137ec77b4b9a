import * as assert from 'uvu/assert';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { COUNTER_RESERVE, COUNTERS_PER_SERIES, NEW_SERIES_PER_HOUR_MAX } from '../../common/limits.ts';
import { NameStore } from '../../nameserver/name-store.ts';
import { Series } from '../../nameserver/series.ts';
import { captureLog } from '../kit/capture-log.ts';
import { ManualClock } from '../kit/manual-clock.ts';
import { MemoryKvMedium } from '../kit/memory-kv.ts';
import { describe } from '../kit/suite.ts';

class World {
  readonly medium = new MemoryKvMedium();
  readonly clock = new ManualClock();
  readonly log = captureLog();
  complete = true;
  nameserver = 0;

  async open(): Promise<Series> {
    return Series.open({
      store: new NameStore(await this.medium.open()),
      nameserver: this.nameserver,
      clock: this.clock,
      log: this.log,
      whoIsMissing: () => (this.complete ? undefined : 'not heard: server 3'),
    });
  }

  /** Power loss and a new start. */
  async restart(): Promise<Series> {
    this.medium.crash();
    return this.open();
  }

  wipe(): void {
    this.medium.crash();
    this.medium.wipe();
  }
}

const code = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

describe('block id series', (test) => {
  test('ids count up from series 1, with the bit of their NameServer', async () => {
    const world = new World();
    const series = await world.open();
    assert.is(await series.next(), 0x0002_0000);
    assert.is(await series.next(), 0x0002_0001);
    const other = new World();
    other.nameserver = 1;
    assert.is(await (await other.open()).next(), 0x0003_0000);
  });

  test('an id is never given twice, over any crash, and a reservation is one write', async () => {
    const world = new World();
    const given = new Set<number>();
    for (let life = 0; life < 5; life++) {
      const series = await (life === 0 ? world.open() : world.restart());
      const writesBefore = world.medium.writes;
      const count = life === 2 ? COUNTER_RESERVE + 3 : 3;
      for (let i = 0; i < count; i++) {
        const id = await series.next();
        assert.not(given.has(id));
        given.add(id);
      }
      assert.is(world.medium.writes - writesBefore, life === 2 ? 2 : 1);
      assert.is(series.series, 1, 'the series goes on');
    }
  });

  test('many at once get different ids', async () => {
    const series = await new World().open();
    const ids = await Promise.all(Array.from({ length: 3 * COUNTER_RESERVE }, () => series.next()));
    assert.is(new Set(ids).size, ids.length);
  });

  test('a new series needs everyone, and is above every id that was ever heard', async () => {
    const world = new World();
    world.complete = false;
    const series = await world.open();
    assert.is(await code(series.next()), 'SAFE_MODE');
    series.heard(2 * 7 + 1, 12);
    series.heard(2 * 4, 65_535);
    world.complete = true;
    assert.is(await series.next(), 8 * 2 * COUNTERS_PER_SERIES);
    world.complete = false;
    assert.is(await series.next(), 8 * 2 * COUNTERS_PER_SERIES + 1, 'ids in reserve need nobody');
    assert.is(await (await world.restart()).next(), 8 * 2 * COUNTERS_PER_SERIES + COUNTER_RESERVE);
  });

  test('after a wipe no id of before comes again', async () => {
    const world = new World();
    const before = await world.open();
    const old = [await before.next(), await before.next()];
    world.wipe();
    const after = await world.open();
    for (const id of old) after.heard(id >>> 16, id & 0xffff);
    const fresh = await after.next();
    assert.is(fresh >>> 17, 2);
    assert.not(old.includes(fresh));
  });

  test('a used-up series is followed by the next', async () => {
    const world = new World();
    const series = await world.open();
    for (let i = 0; i < COUNTERS_PER_SERIES; i++) await series.next();
    world.complete = false;
    assert.is(await code(series.next()), 'SAFE_MODE');
    world.complete = true;
    assert.is(await series.next(), 0x0004_0000);
  });

  test('an id that this store cannot have given shows that the store is an old copy', async () => {
    const world = new World();
    const series = await world.open();
    await series.next();
    assert.ok(series.heard(2, COUNTER_RESERVE - 1));
    assert.ok(series.heard(3, 5000), 'the other NameServer has counters of its own');
    assert.not(series.heard(2, COUNTER_RESERVE));
    assert.ok(world.log.lines.some(({ level }) => level === 'error'));
    assert.is(await series.next(), 0x0004_0000);
  });

  test('given up while a reservation is being written, it stays given up', async () => {
    const world = new World();
    const series = await world.open();
    for (let i = 0; i < COUNTER_RESERVE; i++) await series.next();
    const next = series.next();
    series.heard(2, COUNTER_RESERVE + 9);
    assert.is(await next, 0x0004_0000);
  });

  test('nothing is given out that could not be reserved', async () => {
    const world = new World();
    const series = await world.open();
    world.medium.failWrites = new TfsError('DISK_FULL', 'planted');
    assert.is(await code(series.next()), 'DISK_FULL');
    world.medium.failWrites = undefined;
    assert.is(await (await world.restart()).next(), 0x0002_0000);
  });

  test('too many new series in an hour are an alarm', async () => {
    const world = new World();
    const series = await world.open();
    const alarms = () =>
      world.log.lines.filter(({ level, message }) => level === 'error' && /too many/.test(message));
    for (let i = 0; i <= NEW_SERIES_PER_HOUR_MAX; i++) {
      assert.is(alarms().length, 0);
      const id = await series.next();
      series.heard(id >>> 16, 40_000);
    }
    assert.is(alarms().length, 1);
    world.clock.advance(3_600_000);
    await series.next();
    assert.is(alarms().length, 1);
  });
});
