import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { configPath, defaultConfig } from '../../../common/config.ts';
import { zImages } from '../../../common/config-images.ts';
import { ensureImageKeys, readImageKeys } from '../../../common/image-keys.ts';
import { FakeGateway, testImages } from '../../kit/fake-gateway.ts';
import { ROOT } from '../../kit/run-from.ts';
import { runTfs } from '../../kit/run-tfs.ts';
import { describe, type TestContext } from '../../kit/suite.ts';
import { tempDir } from '../../kit/temp-dir.ts';

/** Decoders are started with each gateway. */
const LONG_MS = 60_000;
const SAMPLE = readFileSync(join(ROOT, 'docs', 'sample.jpg'));

async function world(t: TestContext) {
  const home = tempDir(t);
  writeFileSync(configPath(home), JSON.stringify(defaultConfig({ uuid: 'ab'.repeat(16) })));
  await ensureImageKeys(home);
  /** A gateway as it is after a start: with the keys that are there now. */
  const gateway = async () => {
    const images = testImages(t, {
      policy: 'signed',
      signedOriginals: true,
      presets: zImages.parse({}).presets,
    });
    return FakeGateway.open(t, { images: { ...images, keys: await readImageKeys(home) } });
  };
  const tfs = (gw: FakeGateway, ...args: string[]) =>
    runTfs(args, { cwd: home, env: { TFS_HOME: home, TFS_URL: gw.url } });
  return { home, gateway, tfs };
}

describe(
  'tfs sign',
  (test) => {
    test('what it prints is served: the original, and renditions asked for in all three ways', async (t) => {
      const { gateway, tfs } = await world(t);
      const gw = await gateway();
      const name = await gw.store(SAMPLE, '.jpg');
      const asked = [name, `${name}.jpg_310x310.jpg`, `${name}?w=55&fm=webp`, `${name}.jpg?p=thumb`];
      const got = await tfs(gw, 'sign', '--expires', '5m', '--json', ...asked);
      assert.is(got.code, 0, got.stderr);
      assert.is(got.json.length, asked.length);
      for (const { url } of got.json) {
        assert.is((await gw.get(String(url).slice(gw.url.length))).status, 200, String(url));
        const other = String(url).replace(
          /w=55|310x310|p=thumb/,
          (one) => ({ 'w=55': 'w=56', 'p=thumb': 'p=sum' })[one] ?? '310x311',
        );
        if (other !== url) assert.is((await gw.get(other.slice(gw.url.length))).status, 403, other);
      }
      for (const path of asked) assert.is((await gw.get(`/images/${path}`)).status, 403);
    });

    test('says what cannot be signed', async (t) => {
      const { gateway, tfs } = await world(t);
      const gw = await gateway();
      const name = await gw.store(SAMPLE);
      const bad = await tfs(gw, 'sign', 'nonsense', `${name}?width=3`, `${name}?w=3`);
      assert.is.not(bad.code, 0);
      assert.match(bad.stderr, /nonsense: this is not a name/);
      assert.match(bad.stderr, /"width"/);
      assert.is(bad.stdout.toString().trim().split('\n').length, 1);
      const never = await tfs(gw, 'sign', '--expires', 'soon', name);
      assert.is.not(never.code, 0);
      assert.match(never.stderr, /--expires/);
    });

    test('keys are changed without a moment in which something is refused', async (t) => {
      const { home, gateway, tfs } = await world(t);
      const before = await gateway();
      const name = await before.store(SAMPLE);
      const query = async (gw: FakeGateway) => {
        const { url } = (await tfs(gw, 'sign', '--json', name)).json[0]!;
        return String(url).slice(gw.url.length);
      };
      const old = await query(before);
      assert.is((await tfs(before, 'keys', 'rotate')).code, 0);
      const [fresh, former] = await readImageKeys(home);
      const after = await gateway();
      const signed = await query(after);
      assert.match(signed, new RegExp(`kid=${fresh!.id}`));
      // The picture is in the other cluster: what is not refused is looked for.
      const isTaken = async (gw: FakeGateway, path: string) => (await gw.get(path)).status !== 403;
      assert.ok(await isTaken(after, signed));
      assert.ok(await isTaken(after, old));
      assert.ok(await isTaken(before, old));
      assert.not(await isTaken(before, signed));
      const listed = await tfs(after, 'keys', 'list');
      assert.match(listed.stdout.toString(), new RegExp(former!.id));
      assert.not.match(listed.stdout.toString(), new RegExp(fresh!.secret.toString('hex')));
      assert.is((await tfs(after, 'keys', 'remove', former!.id)).code, 0);
      assert.not(await isTaken(await gateway(), old));
      assert.is.not((await tfs(after, 'keys', 'remove', fresh!.id)).code, 0, 'the last one stays');
    });
  },
  LONG_MS,
);
