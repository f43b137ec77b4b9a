import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  type CachedRendition,
  type CacheKey,
  DiskCache,
} from '../../../../client/gateway/images/disk-cache.ts';
import { nodeClock } from '../../../../common/adapters/node-clock.ts';
import type { Millis } from '../../../../common/ids.ts';
import { captureLog } from '../../../kit/capture-log.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';
import { tempDir } from '../../../kit/temp-dir.ts';

const NAME = 'T19aETByJT1RCvBVdK';
const KEY: CacheKey = { name: NAME, spelling: 'w310_h310_jpg' };

async function open(t: TestContext, { directory = tempDir(t, 'tfs-cache-'), bytesMax = 1 << 20 } = {}) {
  const clock = { ...nodeClock, aheadMs: 0, now: () => (nodeClock.now() + clock.aheadMs) as Millis };
  const log = captureLog();
  const cache = await DiskCache.open({ directory, bytesMax, clock, log });
  t.defer(() => cache.close());
  return { cache, directory, clock, log };
}

const some = (size = 1000): CachedRendition => ({
  bytes: randomBytes(size),
  format: 'webp',
  width: 310,
  height: 207,
});

const filesIn = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'alive')
    .map((entry) => join(entry.parentPath, entry.name));

describe('renditions on disk', (test) => {
  test('what was put is there, also for another process; what was not is not', async (t) => {
    const { cache, directory } = await open(t);
    assert.is(await cache.get(KEY), undefined);
    const one = some();
    await cache.put(KEY, one);
    assert.equal(await cache.get(KEY), one);
    assert.equal(await (await open(t, { directory })).cache.get(KEY), one);
    assert.is(await cache.get({ ...KEY, spelling: 'w310_h310_webp' }), undefined);
    assert.is(await cache.get({ ...KEY, name: 'T19RETByJT1RCvBVdK' }), undefined);
    const other = some();
    await cache.put(KEY, other);
    assert.equal(await cache.get(KEY), other);
    assert.is(filesIn(directory).length, 1);
  });

  test('one byte that is another makes it no rendition, and it goes', async (t) => {
    const { cache, directory } = await open(t);
    for (const at of [0, 5, 8, 13, 25, 52, 500]) {
      await cache.put(KEY, some());
      const [file] = filesIn(directory);
      const image = readFileSync(file!);
      image[at]! ^= 1;
      writeFileSync(file!, image);
      assert.is(await cache.get(KEY), undefined, String(at));
      assert.equal(filesIn(directory), []);
    }
    await cache.put(KEY, some());
    const [file] = filesIn(directory);
    writeFileSync(file!, readFileSync(file!).subarray(0, 300));
    assert.is(await cache.get(KEY), undefined);
    assert.is(cache.stats.damaged, 8);
  });

  test('no name leads out of the directory', async (t) => {
    const { cache, directory } = await open(t);
    for (const name of ['../../../etc', '/etc/passwd', '..', '\0', 'a/b', ''])
      await cache.put({ name, spelling: '../../x' }, some());
    const files = filesIn(directory);
    assert.is(files.length, 6);
    for (const file of files)
      assert.match(file.slice(directory.length), /^\/[0-9a-f]{2}\/[0-9a-f]{32}\/[0-9a-f]{32}$/);
  });

  test('a picture is forgotten with all its renditions, and no other', async (t) => {
    const { cache } = await open(t);
    const other = { name: 'T19RETByJT1RCvBVdK', spelling: 'a' };
    for (const key of [KEY, { name: NAME, spelling: 'b' }, other]) await cache.put(key, some());
    await cache.forget(NAME);
    assert.is(await cache.get(KEY), undefined);
    assert.is(await cache.get({ name: NAME, spelling: 'b' }), undefined);
    assert.ok(await cache.get(other));
    await cache.forget('never heard of');
  });

  test('it stays below its bound, and what was used longest ago goes first', async (t) => {
    const bytesMax = 100_000;
    const { cache, directory, clock } = await open(t, { bytesMax });
    const keys = Array.from({ length: 60 }, (_, i) => ({ name: NAME, spelling: String(i) }));
    for (const [i, key] of keys.entries()) {
      clock.aheadMs = i * 3_600_000;
      await cache.put(key, some(4_000));
      // The first one is used again and again.
      assert.ok(await cache.get(keys[0]!), `after ${i}`);
      await cache.get(key);
      await cache.sweep();
    }
    const bytes = filesIn(directory).reduce((sum, file) => sum + statSync(file).size, 0);
    assert.ok(bytes <= bytesMax, `${bytes} bytes`);
    assert.ok(bytes > bytesMax / 2);
    assert.ok(cache.stats.evicted > 30);
    assert.ok(await cache.get(keys[0]!));
    assert.ok(await cache.get(keys.at(-1)!));
    assert.is(await cache.get(keys[1]!), undefined);
    // A new process finds out by itself what is there.
    const again = (await open(t, { directory, bytesMax: 20_000 })).cache;
    await again.put({ name: NAME, spelling: 'one more' }, some(900));
    await again.sweep();
    const left = filesIn(directory).reduce((sum, file) => sum + statSync(file).size, 0);
    assert.ok(left <= 20_000);
  });

  test('no directory is left of a picture of which nothing is kept', async (t) => {
    const { cache, directory, clock } = await open(t, { bytesMax: 100_000 });
    for (let i = 0; i < 60; i++) {
      clock.aheadMs = i * 3_600_000;
      const key = { name: `picture ${i}`, spelling: 'a' };
      await cache.put(key, some(4_000));
      await cache.get(key);
    }
    await cache.sweep();
    const directories = readdirSync(directory)
      .filter((half) => half !== 'alive')
      .flatMap((half) => readdirSync(join(directory, half)));
    assert.is(directories.length, filesIn(directory).length);
    assert.ok(directories.length < 30);
  });

  test('what a process left half written goes, what is being written stays', async (t) => {
    const { cache, directory, clock } = await open(t);
    await cache.put(KEY, some());
    const [file] = filesIn(directory);
    writeFileSync(`${file}.0123.tmp`, 'half');
    await cache.sweep();
    assert.is(filesIn(directory).length, 2);
    clock.aheadMs = 120_000;
    await cache.sweep();
    assert.equal(filesIn(directory), [file]);
  });

  test('where it cannot write, nothing fails, and it says each reason once', async (t) => {
    const file = join(tempDir(t, 'tfs-cache-'), 'file');
    writeFileSync(file, 'no directory');
    const { cache, log } = await open(t, { directory: file });
    for (let i = 0; i < 3; i++) await cache.put(KEY, some());
    assert.is(await cache.get(KEY), undefined);
    assert.is(cache.stats.failed, 3);
    assert.is(new Set(log.lines.map((line) => JSON.stringify(line))).size, log.lines.length);
    assert.ok(log.lines.length <= 2);
  });
});
