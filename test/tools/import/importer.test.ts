import { mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import * as assert from 'uvu/assert';
import { type ErrorCode, isTfsError, TfsError } from '../../../common/errors.ts';
import type { StoredAnswer, Upload } from '../../../tools/cli/gateway-api.ts';
import { type ImportOptions, importFiles, type Outcome } from '../../../tools/import/importer.ts';
import { Manifest } from '../../../tools/import/manifest.ts';
import { walk } from '../../../tools/import/walk.ts';
import { tinyPng } from '../../kit/process-cluster.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

/** A store in memory that knows keys, as the gateway does. */
class MemoryStore {
  readonly byKey = new Map<string, { name: string; bytes: Buffer }>();
  uploads = 0;
  /** What happens to the n-th upload, from 1. */
  fate: (n: number) => ErrorCode | undefined = () => undefined;

  async put({ body, key, size }: Upload): Promise<StoredAnswer> {
    const n = ++this.uploads;
    const sent = body();
    const bytes = Buffer.isBuffer(sent) ? sent : await buffer(sent);
    assert.is(bytes.length, size);
    const code = this.fate(n);
    if (code !== undefined) throw new TfsError(code, `fate ${code}`);
    const known = this.byKey.get(key);
    const entry = known ?? { name: `T${this.byKey.size}`, bytes };
    this.byKey.set(key, entry);
    return {
      name: entry.name,
      url: `/images/${entry.name}`,
      size,
      sha1: 's',
      mediaType: 'image/png',
      deduplicated: false,
      replicas: 3,
      durable: true,
    };
  }
}

async function world(t: TestContext, files: Record<string, Buffer | string>) {
  const directory = tempDir(t);
  const manifestPath = join(tempDir(t), 'manifest.jsonl');
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
  const store = new MemoryStore();
  const stop = new AbortController();
  const run = async (more: Partial<ImportOptions> = {}) => {
    const manifest = await Manifest.open(manifestPath, directory);
    const found = await walk(directory, () => undefined);
    const outcomes = new Map<string, Outcome>();
    try {
      await importFiles(
        found.filter((file) => manifest.find(file) === undefined),
        {
          directory,
          store,
          manifest,
          parallel: 3,
          keepSuffix: false,
          anyType: false,
          stop: stop.signal,
          abandon: new AbortController().signal,
          onProgress: (file, outcome) => void outcomes.set(file.path, outcome),
          ...more,
        },
      );
    } finally {
      await manifest.close();
    }
    return outcomes;
  };
  const entries = () =>
    readFileSync(manifestPath, 'utf8')
      .split('\n')
      .slice(1)
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { path: string; name?: string; skipped?: string });
  return { directory, store, run, entries, stop };
}

const pictures = (count: number): Record<string, Buffer> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}.png`, tinyPng(Buffer.from(`${i}`))]));
const kinds = (outcomes: Map<string, Outcome>) =>
  Object.fromEntries([...outcomes].map(([path, outcome]) => [path, outcome.kind]));

describe('import', (test) => {
  test('stores pictures, below directories too, and skips and reports the rest', async (t) => {
    const big = tinyPng(Buffer.from('big'), 3 << 20);
    const { run, store, entries } = await world(t, {
      'a.png': tinyPng(Buffer.from('a')),
      'sub/deep/b.jpg': tinyPng(Buffer.from('b')),
      'big.png': big,
      'notes.txt': 'hello',
      'empty.png': '',
      'lying.png': 'GIF, honestly',
      'picture.svg': '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    });
    const outcomes = await run();
    assert.equal(kinds(outcomes), {
      'a.png': 'stored',
      'sub/deep/b.jpg': 'stored',
      'big.png': 'stored',
      'picture.svg': 'stored',
      'notes.txt': 'skipped',
      'empty.png': 'skipped',
      'lying.png': 'skipped',
    });
    assert.ok([...store.byKey.values()].some(({ bytes }) => bytes.equals(big)));
    assert.is(entries().filter((entry) => entry.name !== undefined).length, 4);
    assert.is(entries().find((entry) => entry.path === 'notes.txt')?.skipped, 'not a picture');
  });

  test('a second run sends nothing, and a changed file again', async (t) => {
    const { run, store, directory } = await world(t, pictures(10));
    await run();
    assert.is(store.uploads, 10);
    assert.is((await run()).size, 0);
    writeFileSync(join(directory, 'p3.png'), tinyPng(Buffer.from('changed')));
    utimesSync(join(directory, 'p3.png'), 5, 5);
    assert.equal([...(await run()).keys()], ['p3.png']);
    assert.is(store.uploads, 11);
  });

  test('an interrupted run goes on where it was', async (t) => {
    const { run, store, stop, entries } = await world(t, pictures(20));
    const first = await run({ onProgress: () => (store.uploads >= 5 ? stop.abort() : undefined) });
    assert.is(first.size, 0);
    const before = entries().length;
    assert.ok(before >= 5 && before < 20, String(before));
    await run({ stop: new AbortController().signal });
    assert.is(entries().length, 20);
    assert.is(new Set(entries().map((entry) => entry.path)).size, 20);
    assert.is(store.uploads, 20);
  });

  test('a picture that was stored when the manifest line was lost keeps its name', async (t) => {
    const { run, store } = await world(t, pictures(1));
    let lost = true;
    const forgetful = {
      put: async (upload: Upload) => {
        const answer = await store.put(upload);
        if (lost) throw new TfsError('CONNECTION_LOST', 'the answer was lost');
        return answer;
      },
    };
    assert.equal(kinds(await run({ store: forgetful })), { 'p0.png': 'failed' });
    lost = false;
    await run({ store: forgetful });
    assert.is(store.uploads, 2);
    assert.is(store.byKey.size, 1);
  });

  test('what the gateway will never take is skipped, what it may take later is tried again', async (t) => {
    const { run, store } = await world(t, pictures(3));
    store.fate = (n) => (n === 1 ? 'TOO_LARGE' : n === 2 ? 'UNAVAILABLE' : undefined);
    assert.equal(kinds(await run({ parallel: 1 })), {
      'p0.png': 'skipped',
      'p1.png': 'failed',
      'p2.png': 'stored',
    });
    assert.equal(kinds(await run({ parallel: 1 })), { 'p1.png': 'stored' });
  });

  test('it gives up at once without permission, and soon when nothing answers', async (t) => {
    for (const [code, uploadsMax] of [
      ['UNAUTHORIZED', 1],
      ['UNAVAILABLE', 5],
    ] as const) {
      const { run, store } = await world(t, pictures(50));
      store.fate = () => code;
      const error = await run({ parallel: 1 }).catch((thrown: unknown) => thrown);
      assert.ok(isTfsError(error, code), String(error));
      assert.is(store.uploads, uploadsMax);
    }
  });

  test('a walk follows links to files, not to directories, and ends', async (t) => {
    const { directory } = await world(t, { 'a/1.png': 'x', 'b/2.png': 'x' });
    symlinkSync(directory, join(directory, 'a', 'loop'));
    symlinkSync(join(directory, 'b', '2.png'), join(directory, 'a', 'link.png'));
    symlinkSync('/nowhere', join(directory, 'a', 'broken.png'));
    const broken: string[] = [];
    const found = await walk(directory, (path) => void broken.push(path));
    assert.equal(
      found.map((file) => file.path),
      ['a/1.png', 'a/link.png', 'b/2.png'],
    );
    assert.equal(broken, ['a/broken.png']);
  });
});
