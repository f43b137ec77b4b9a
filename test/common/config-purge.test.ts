import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { defaultConfig, parseConfig } from '../../common/config.ts';
import type { PurgeConfig } from '../../common/config-purge.ts';
import { isTfsError } from '../../common/errors.ts';
import { readPurgeSecrets } from '../../common/purge-secrets.ts';
import { describe, type TestContext } from '../kit/suite.ts';
import { tempDir } from '../kit/temp-dir.ts';

const cache = { id: 'edge', kind: 'purge', url: 'http://127.0.0.1:6081' };
const parsed = (purge: unknown): PurgeConfig =>
  parseConfig({ ...defaultConfig({ uuid: 'ab'.repeat(16) }), purge }, '/home').purge;

function refusal(purge: unknown): string {
  try {
    parsed(purge);
  } catch (error) {
    if (isTfsError(error, 'CONFIG')) return error.message;
    throw error;
  }
  throw new Error('it was taken');
}

function home(t: TestContext, secrets?: unknown, mode = 0o600): string {
  const dir = tempDir(t);
  mkdirSync(join(dir, 'secrets'), { mode: 0o700 });
  if (secrets === undefined) return dir;
  const file = join(dir, 'secrets/purge.json');
  writeFileSync(file, typeof secrets === 'string' ? secrets : JSON.stringify(secrets));
  chmodSync(file, mode);
  return dir;
}

const refusalOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isTfsError(error, 'CONFIG')) throw error ?? new Error('it was taken');
  return error.message;
};

describe('section purge', (test) => {
  test('is empty when it is not there, and has defaults', () => {
    assert.equal(parsed(undefined), { caches: [], scanMs: 30_000 });
    const [one] = parsed({ caches: [cache] }).caches;
    assert.equal(one, { ...cache, headers: {}, tier: 1, timeoutMs: 2_000, concurrency: 8, batch: 100 });
  });

  test('names what is wrong', () => {
    const wrong: [object, RegExp][] = [
      [{ url: 'ftp://x/' }, /purge\.caches\[0\]\.url/],
      [{ url: 'http://user:pass@x/' }, /caches\[0\]\.url: has a password in it/],
      [{ url: 'http://x/?a=b' }, /caches\[0\]\.url: may have a path/],
      [{ id: 'Edge 1' }, /caches\[0\]\.id: lower-case letters/],
      [{ kind: 'ban' }, /caches\[0\]\.kind/],
      [{ headers: { Host: 'x' } }, /headers\.Host: a purge sets this header itself: give "host"/],
      [{ headers: { 'Content-Length': '3' } }, /headers\.Content-Length/],
      [{ headers: { 'x y': '3' } }, /headers\.x y: is not the name of a header/],
      [{ headers: { x: 'a\r\nb: c' } }, /headers\.x: a header value is one line/],
      [{ host: 'a b' }, /caches\[0\]\.host: a host name/],
      [{ tier: 0 }, /caches\[0\]\.tier/],
      [{ timeoutMs: 1 }, /caches\[0\]\.timeoutMs/],
      [{ concurency: 3 }, /unknown key "purge\.caches\[0\]\.concurency"/],
    ];
    for (const [part, expected] of wrong)
      assert.match(refusal({ caches: [{ ...cache, ...part }] }), expected, JSON.stringify(part));
    assert.match(refusal({ caches: [cache, cache] }), /caches\[1\]\.id: edge is there twice/);
    const many = Array.from({ length: 17 }, (_, i) => ({ ...cache, id: `e${i}` }));
    assert.match(refusal({ caches: many }), /purge\.caches/);
    assert.match(refusal({ scanMs: 10 }), /purge\.scanMs/);
  });
});

describe('secrets/purge.json', (test) => {
  const hook = { id: 'hook', kind: 'webhook', url: 'https://cdn.example.com/x?y=z' };
  const key = '0a'.repeat(32);

  test('gives keys and headers to the caches it names; the others do without', async (t) => {
    const { caches } = parsed({ caches: [cache, hook] });
    const secrets = await readPurgeSecrets(
      home(t, { hook: { keys: [key], headers: { Authorization: 'Bearer x' } } }),
      {
        caches,
      },
    );
    assert.equal(secrets.get('edge'), { keys: [], headers: {} });
    assert.equal(secrets.get('hook'), {
      keys: [Buffer.alloc(32, 0x0a)],
      headers: { Authorization: 'Bearer x' },
    });
    await readPurgeSecrets(home(t), parsed({ caches: [cache] }));
  });

  test('is refused where it is not what it should be, without showing what is in it', async (t) => {
    const both = parsed({ caches: [cache, hook] });
    const of = (secrets: unknown, mode?: number) => refusalOf(readPurgeSecrets(home(t, secrets, mode), both));
    assert.match(await of(undefined), /the webhook "hook" needs a key/);
    assert.match(await of({ hook: { keys: [] } }), /the webhook "hook" needs a key/);
    assert.match(await of({ hook: { keys: ['0a0b'] } }), /hook\.keys\.0: 16 to 128 bytes in hex/);
    assert.match(await of({ other: { keys: [key] } }), /there is no cache "other"/);
    assert.match(
      await of({ hook: { keys: [key], headers: { 'Tfs-Signature': 'x' } } }),
      /sets this header itself/,
    );
    assert.match(await of({ hook: { keys: [key] } }, 0o644), /mode 644/);
    const broken = await of(`{"hook": {"keys": ["${key}]}`);
    assert.match(broken, /is not JSON/);
    assert.not.match(broken, /0a0a/);
  });
});
