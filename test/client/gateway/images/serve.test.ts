import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { PLAIN } from '../../../../client/gateway/images/rendition.ts';
import { SigningKeys } from '../../../../client/gateway/images/signature.ts';
import { AUTH, FakeGateway, type HttpReply, testImages } from '../../../kit/fake-gateway.ts';
import { ROOT } from '../../../kit/run-from.ts';
import { describe } from '../../../kit/suite.ts';

/** Decoders are started with each gateway. */
const LONG_MS = 60_000;
const SAMPLE = readFileSync(join(ROOT, 'docs', 'sample.jpg'));
const CHROME = 'image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8';

const etagOf = ({ headers }: HttpReply): string => String(headers['etag']);
const varyOf = ({ headers }: HttpReply): unknown => headers['vary'];

describe(
  'GET of a rendition',
  (test) => {
    test('three ways to ask, one answer', async (t) => {
      const gw = await FakeGateway.open(t, {
        images: testImages(t, { presets: { small: { w: 100, h: 100, fm: 'jpg' } } }),
      });
      const name = await gw.store(SAMPLE, '.jpg');
      const bySuffix = await gw.get(`/images/${name}.jpg_100x100.jpg`);
      assert.is(bySuffix.status, 200, bySuffix.body.toString());
      assert.is(bySuffix.headers['content-type'], 'image/jpeg');
      const { width, height, format } = await sharp(bySuffix.body).metadata();
      assert.is(Math.max(width, height), 100);
      assert.is(format, 'jpeg');
      const made = /renditions_made_total\S* (\d+)/.exec(await text(gw))?.[1];
      assert.is(made, '1');
      for (const path of [
        `${name}?h=100&w=100&fm=jpg`,
        `${name}?p=small`,
        `${name}.jpg?w=50&h=50&dpr=2&fm=jpg`,
      ]) {
        const got = await gw.get(`/images/${path}`);
        assert.is(got.status, 200, path);
        assert.equal(got.body, bySuffix.body, path);
        assert.is(etagOf(got), etagOf(bySuffix), path);
      }
      assert.is(/renditions_made_total\S* (\d+)/.exec(await text(gw))?.[1], '1');
    });

    test('says what caches have to know', async (t) => {
      const gw = await FakeGateway.open(t);
      const name = await gw.store(SAMPLE);
      const fixed = await gw.get(`/images/${name}?w=120&fm=webp`);
      const auto = await gw.get(`/images/${name}?w=120&fm=auto`, { accept: 'image/webp' });
      const other = await gw.get(`/images/${name}?w=120&fm=auto`, { accept: 'image/png,*/*' });
      const original = await gw.get(`/images/${name}`);
      for (const got of [fixed, auto, other, original]) {
        assert.is(got.status, 200);
        assert.is(got.headers['surrogate-key'], name);
        assert.is(got.headers['cache-tag'], name);
        assert.is(got.headers['access-control-allow-origin'], '*');
        assert.is(got.headers['timing-allow-origin'], '*');
        assert.match(etagOf(got), /^"[^"]+"$/);
      }
      assert.is(varyOf(fixed), undefined);
      assert.is(varyOf(original), undefined);
      assert.is(varyOf(auto), 'Accept');
      assert.is(varyOf(other), 'Accept');
      assert.is(auto.headers['content-type'], 'image/webp');
      assert.is(other.headers['content-type'], 'image/jpeg');
      assert.is(etagOf(auto), etagOf(fixed));
      assert.is(new Set([etagOf(auto), etagOf(other), etagOf(original)]).size, 3);
      assert.match(
        String(auto.headers['cache-control']),
        /^public, max-age=2592000, stale-while-revalidate=86400, stale-if-error=604800$/,
      );
      assert.is(auto.headers['last-modified'], undefined);

      const known = { accept: 'image/webp', 'if-none-match': etagOf(auto) };
      const same = await gw.get(`/images/${name}?w=120&fm=auto`, known);
      assert.is(same.status, 304);
      assert.is(varyOf(same), 'Accept');
      assert.is(same.headers['surrogate-key'], name);
      assert.is(etagOf(same), etagOf(auto));
      assert.is(same.headers['cache-control'], auto.headers['cache-control']);
      const changed = await gw.get(`/images/${name}?w=120&fm=auto`, { ...known, accept: 'image/jpeg' });
      assert.is(changed.status, 200, 'the tag is one of another format');

      const part = await gw.get(`/images/${name}?w=120&fm=webp`, { range: 'bytes=10-29' });
      assert.is(part.status, 206);
      assert.equal(part.body, fixed.body.subarray(10, 30));
      const ifOther = { range: 'bytes=10-29', 'if-range': etagOf(other) };
      assert.is((await gw.get(`/images/${name}?w=120&fm=webp`, ifOther)).status, 200);
      const beyond = await gw.get(`/images/${name}?w=120&fm=webp`, { range: 'bytes=99999999-' });
      assert.is(beyond.status, 416);
      assert.is(beyond.headers['content-range'], `bytes */${fixed.body.length}`);
      const head = await gw.http('HEAD', `/images/${name}?w=120&fm=webp`);
      assert.is(head.status, 200);
      assert.is(head.body.length, 0);
      assert.is(head.headers['content-length'], String(fixed.body.length));
      assert.is(etagOf(head), etagOf(fixed));
    });

    test('a 304 needs nothing to be made', async (t) => {
      const gw = await FakeGateway.open(t);
      const name = await gw.store(SAMPLE);
      const other = await FakeGateway.open(t);
      const path = (gateway: FakeGateway, key: string) => gateway.get(`/images/${key}?w=77&fm=png`);
      const etag = etagOf(await path(gw, name));
      const again = await other.store(SAMPLE);
      const got = await other.get(`/images/${again}?w=77&fm=png`, { 'if-none-match': `"x", W/${etag}` });
      assert.is(got.status, 304);
      assert.is(/renditions_made_total\S* (\d+)/.exec(await text(other))?.[1], '0');
    });

    test('no answer is of a format that the client excludes', async (t) => {
      const gw = await FakeGateway.open(t);
      const name = await gw.store(SAMPLE);
      const cases: readonly (readonly [string | undefined, string])[] = [
        [CHROME, 'image/avif'],
        ['image/webp,*/*', 'image/webp'],
        ['*/*', 'image/jpeg'],
        [undefined, 'image/jpeg'],
        ['image/avif;q=0.1,image/webp;q=0.9', 'image/webp'],
        ['image/avif;q=0, image/webp;q=0, image/*', 'image/jpeg'],
        ['image/jpeg;q=0.2, image/webp;q=0.1', 'image/jpeg'],
      ];
      for (const [accept, format] of cases) {
        const got = await gw.get(`/images/${name}?w=60&fm=auto`, accept === undefined ? {} : { accept });
        assert.is(got.headers['content-type'], format, accept);
        assert.is(varyOf(got), 'Accept');
      }
      const none = await gw.get(`/images/${name}?w=60&fm=auto`, { accept: 'image/jpeg;q=0, text/html' });
      assert.is(none.status, 406);
      assert.is(varyOf(none), 'Accept');
    });

    test('every error names what is wrong, and is kept no longer than it is true', async (t) => {
      const gw = await FakeGateway.open(t, { anyType: true, images: testImages(t, { policy: 'sizes' }) });
      const name = await gw.store(SAMPLE);
      const half = await gw.store(SAMPLE.subarray(0, SAMPLE.length >> 1));
      const kept = async (path: string, status: number, cacheControl: string, why: RegExp) => {
        const got = await gw.get(`/images/${path}`);
        assert.is(got.status, status, path);
        assert.is(got.headers['cache-control'], cacheControl, path);
        assert.match(String(got.json['message']), why, path);
        return got;
      };
      await kept(`${name}?w=0`, 400, 'no-store', /option w/);
      await kept(`${name}?w=100&w=100`, 400, 'no-store', /"w".*twice/);
      await kept(`${name}?width=100`, 400, 'no-store', /"width"/);
      await kept(`${name}?p=none`, 400, 'no-store', /preset "none"/);
      await kept(`${name}_310x310.jpg`, 404, 'public, max-age=5', /no such picture/);
      await kept(`${name}?w=311&h=311`, 403, 'no-store', /size 311x311/);
      await kept(`${name}?w=310&h=310&q=33`, 403, 'no-store', /quality 33/);
      await kept(`${half}?w=310&h=310`, 422, 'public, max-age=60', /cannot be decoded/);
      const failed = () => text(gw).then((all) => /renditions_failed_total\S* (\d+)/.exec(all)?.[1]);
      assert.is(await failed(), '1');
      await kept(`${half}?w=310&h=310`, 422, 'public, max-age=60', /cannot be decoded/);
      assert.is(await failed(), '1', 'that it cannot be made is remembered');
      await kept(`${name}.png_310x310.jpg`, 404, 'public, max-age=5', /no such picture/);
      assert.is((await gw.http('POST', `/images/${name}/hide`, { headers: AUTH })).status, 204);
      const hidden = await gw.get(`/images/${name}?w=640&fm=auto`);
      assert.is(hidden.status, 404);
      assert.is(varyOf(hidden), 'Accept');
      assert.is(hidden.headers['surrogate-key'], name);
    });

    test('a signature allows one rendition, until it expires', async (t) => {
      const images = testImages(t, { policy: 'signed' });
      const gw = await FakeGateway.open(t, { images });
      const name = await gw.store(SAMPLE);
      const keys = new SigningKeys(images.keys);
      const now = Math.floor(Date.now() / 1000);
      const query = (of: object, expires: number) =>
        new URLSearchParams(
          keys.sign({ name, rendition: { ...PLAIN, ...of }, expires }) as unknown as Record<string, string>,
        ).toString();
      const signed = query({ width: 123, format: 'webp' }, now + 100);
      const got = await gw.get(`/images/${name}?w=123&fm=webp&${signed}`);
      assert.is(got.status, 200);
      const age = Number(/^public, max-age=(\d+)$/.exec(String(got.headers['cache-control']))?.[1]);
      assert.ok(age > 50 && age <= 100, `kept for ${age} s`);
      const refused = async (path: string, why: RegExp) => {
        const reply = await gw.get(`/images/${path}`);
        assert.is(reply.status, 403, path);
        assert.match(String(reply.json['message']), why);
      };
      await refused(`${name}?w=123&fm=webp`, /needs a signature/);
      await refused(`${name}?w=124&fm=webp&${signed}`, /not one of this request/);
      await refused(`${name}?w=123&fm=webp&${query({ width: 123, format: 'webp' }, now - 1)}`, /expired/);
      await refused(`${name}?w=123&fm=webp&${signed.replace(/sig=./, 'sig=_')}`, /not one of this request/);
      assert.is((await gw.get(`/images/${name}`)).status, 200, 'originals are free here');
    });

    test('signed originals: nothing is shown without a signature, and nobody shares it', async (t) => {
      const images = testImages(t, { signedOriginals: true });
      const gw = await FakeGateway.open(t, { images });
      const name = await gw.store(SAMPLE);
      assert.is((await gw.get(`/images/${name}`)).status, 403);
      assert.is((await gw.get(`/images/${name}`)).status, 403, 'from memory too');
      assert.is((await gw.get(`/images/${name}/metadata`)).status, 403);
      assert.is((await gw.http('GET', `/images/${name}/metadata`, { headers: AUTH })).status, 200);
      const now = Math.floor(Date.now() / 1000);
      const signed = new SigningKeys(images.keys).sign({ name, rendition: undefined, expires: now + 50 });
      const query = new URLSearchParams(signed as unknown as Record<string, string>).toString();
      for (let i = 0; i < 2; i++) {
        const got = await gw.get(`/images/${name}?${query}`);
        assert.is(got.status, 200);
        assert.match(String(got.headers['cache-control']), /^private, max-age=\d\d?$/);
        assert.equal(got.body, SAMPLE);
      }
    });

    test('a deleted picture has no renditions, in memory or on disk, and has them again when it is back', async (t) => {
      const gw = await FakeGateway.open(t);
      const name = await gw.store(SAMPLE);
      const path = `/images/${name}?w=90&fm=webp`;
      assert.is((await gw.get(path)).status, 200);
      assert.is((await gw.http('DELETE', `/images/${name}`, { headers: AUTH })).status, 204);
      assert.is((await gw.get(path)).status, 404);
      assert.is((await gw.http('POST', `/images/${name}/undelete`, { headers: AUTH })).status, 204);
      assert.is((await gw.get(path)).status, 200);
      assert.is(/renditions_made_total\S* (\d+)/.exec(await text(gw))?.[1], '2', 'nothing was kept of it');
    });

    test('scripts of other origins: those of the list alone', async (t) => {
      const images = testImages(t, { allowOrigins: ['https://shop.example'] });
      const gw = await FakeGateway.open(t, { images });
      const name = await gw.store(SAMPLE);
      const from = (origin: string) => gw.get(`/images/${name}?w=50&fm=auto`, { origin });
      const good = await from('https://shop.example');
      assert.is(good.headers['access-control-allow-origin'], 'https://shop.example');
      assert.is(varyOf(good), 'Accept, Origin');
      const bad = await from('https://evil.example');
      assert.is(bad.status, 200);
      assert.is(bad.headers['access-control-allow-origin'], undefined);
      assert.is(varyOf(bad), 'Accept, Origin');
      const ask = (origin: string) => gw.http('OPTIONS', `/images/${name}`, { headers: { origin } });
      const [yes, no] = [await ask('https://shop.example'), await ask('https://evil.example')];
      assert.is(yes.status, 204);
      assert.is(yes.headers['access-control-allow-methods'], 'GET, HEAD');
      assert.is(no.headers['access-control-allow-origin'], undefined);
    });

    test('SVG is neither drawn nor run: no renditions, and the original in a sandbox', async (t) => {
      const gw = await FakeGateway.open(t);
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><script>alert(1)</script>
      <image href="${gw.url}/healthz"/></svg>`;
      const name = await gw.store(Buffer.from(svg));
      const got = await gw.get(`/images/${name}?w=50&fm=png`);
      assert.is(got.status, 422);
      assert.match(String(got.json['message']), /no renditions are made of image\/svg/);
      const original = await gw.get(`/images/${name}`);
      assert.match(String(original.headers['content-security-policy']), /default-src 'none'.*sandbox/);
    });
  },
  LONG_MS,
);

describe(
  'workers of one gateway',
  (test) => {
    test('make a rendition once for all who ask, and share what is on disk', async (t) => {
      const one = testImages(t, { memoryBytes: 0 });
      const first = await FakeGateway.open(t, { images: { ...one, index: 0, count: 2 } });
      const second = await FakeGateway.open(t, {
        images: { ...one, index: 1, count: 2 },
        client: first.client,
      });
      const name = await first.store(SAMPLE);
      const paths = Array.from({ length: 6 }, (_, i) => `/images/${name}?w=${100 + i}&fm=webp`);
      const asks = paths.flatMap((path) =>
        Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? first : second).get(path)),
      );
      const answers = await Promise.all(asks);
      assert.ok(answers.every(({ status }) => status === 200));
      const made = async (gw: FakeGateway) =>
        Number(/renditions_made_total\S* (\d+)/.exec(await text(gw))?.[1]);
      const counts = [await made(first), await made(second)];
      assert.is(counts[0]! + counts[1]!, paths.length, counts.join());
      assert.ok(counts[0]! > 0 && counts[1]! > 0, 'each has some of them');

      // What one of them is told the other knows at once.
      await second.get(paths[0]!);
      assert.is((await first.http('DELETE', `/images/${name}`, { headers: AUTH })).status, 204);
      for (const path of paths) assert.is((await second.get(path)).status, 404);
    });

    test('one that is gone is done without', async (t) => {
      const one = testImages(t, { memoryBytes: 0, diskBytes: 0 });
      const alone = await FakeGateway.open(t, { images: { ...one, index: 0, count: 2 } });
      const name = await alone.store(SAMPLE);
      for (let i = 0; i < 6; i++)
        assert.is((await alone.get(`/images/${name}?w=${100 + i}&fm=webp`)).status, 200);
    });
  },
  LONG_MS,
);

const text = async (gw: FakeGateway): Promise<string> => (await gw.get('/metrics')).body.toString();
