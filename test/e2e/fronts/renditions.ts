import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { Accept } from '../../../client/gateway/images/accept.ts';
import { FORMATS, type Format, PLAIN } from '../../../client/gateway/images/rendition.ts';
import { SigningKeys } from '../../../client/gateway/images/signature.ts';
import { readImageKeys } from '../../../common/image-keys.ts';
import type { Front } from '../../kit/front.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { cacheStatus, headerOf, noise, type Scene } from './scene.ts';

/** What is checked of renditions in front of every kind of cache. */

export const BROWSERS = {
  chrome: 'image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8',
  safari:
    'image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5',
  old: 'image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5',
  curl: '*/*',
} as const;

/** Several lines of one header mean what one line with commas means. */
const ACCEPTS: readonly (string | readonly string[] | undefined)[] = [
  ...Object.values(BROWSERS),
  'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7',
  undefined,
  'image/*',
  'image/avif',
  'image/webp',
  'image/png',
  'image/gif, image/jpeg',
  'image/avif;q=0,image/webp,*/*',
  'image/webp;q=0,image/avif,*/*;q=0.1',
  'image/avif;q=0,image/webp;q=0,*/*',
  'image/avif;q=0.2,image/webp;q=0.9,*/*;q=0.5',
  'image/avif;q=0.1,image/webp;q=0.1,image/jpeg,image/png,image/gif',
  'image/jpeg;q=0,*/*',
  'image/avif,image/webp,image/*;q=0',
  'image/avif,image/webp,*/*;q=0.000',
  'IMAGE/AVIF , Image/WebP ,*/*; Q=0.3',
  'image/avif,,image/webp, */*',
  'image/webp;level=1,*/*',
  'image/avif;q=nonsense,*/*',
  'image/avif,*/*;q=nonsense',
  'text/html',
  ['image/avif,image/webp,*/*', 'image/avif;q=0'],
  ['*/*', 'image/webp'],
];

/**
 * Whoever asks through the cache, in whatever order, gets the very bytes that the gateway gives, and no format that the
 * header excludes.
 */
export async function checkAccept(scene: Scene, front: Front, rounds = 2): Promise<void> {
  const flat = sharp({ create: { width: 64, height: 48, channels: 4, background: '#2060a080' } });
  const names = [await scene.store(await noise(160, 120)), await scene.store(await flat.png().toBuffer())];
  const random = new SeededRandom(5);
  let compared = 0;
  for (let round = 1; round <= rounds; round++)
    for (const name of names)
      for (const path of [`${name}?w=160&fm=auto`, `${name}?p=thumb`])
        for (const accept of shuffled(ACCEPTS, random)) {
          const headers: Record<string, string | string[]> =
            accept === undefined ? {} : { accept: typeof accept === 'string' ? accept : [...accept] };
          const what = `${path} ${String(accept)} (${round})`;
          const got = await front.get(path, headers);
          const own = await scene.direct(path, headers, compared++ % 2);
          assert.is(got.status, own.status, what);
          assert.is(headerOf(got, 'content-type'), headerOf(own, 'content-type'), what);
          assert.match(headerOf(got, 'vary'), /\baccept\b/i, what);
          if (got.status !== 200) continue;
          assert.is(headerOf(got, 'etag'), headerOf(own, 'etag'), what);
          assert.ok(got.body.equals(own.body), what);
          const format = formatOf(headerOf(got, 'content-type'));
          const text = typeof accept === 'object' ? accept.join(', ') : accept;
          assert.not(new Accept(text).excludes(format), what);
        }
  assert.is(compared, rounds * 4 * ACCEPTS.length);
}

const formatOf = (type: string): Format => {
  const format = FORMATS.find((one) => type === `image/${one === 'jpg' ? 'jpeg' : one}`);
  assert.ok(format, type);
  return format!;
};

function shuffled<T>(all: readonly T[], random: SeededRandom): T[] {
  const rest = [...all];
  return all.map(() => rest.splice(random.below(rest.length), 1)[0]!);
}

const PICTURES = 40;
const READS = 2_000;
const AT_A_TIME = 16;

/** A load as a shop has it: some pictures are asked for much more often than others, each in a few sizes and formats. */
export async function checkLoad(scene: Scene, front: Front, label: string): Promise<void> {
  const names = await Promise.all(
    Array.from({ length: PICTURES }, async () => scene.store(await noise(200, 150))),
  );
  const random = new SeededRandom(7);
  const wanted = Array.from({ length: READS }, () => {
    // Zipf: the n-th picture 1/n as often as the first.
    const rank = Math.floor(PICTURES ** (random.below(1 << 24) / (1 << 24)));
    const side = ['100x100', '160x160', '80x80'][random.below(3)]!;
    const [w, h] = side.split('x');
    const name = names[Math.min(PICTURES, rank) - 1]!;
    const browsers = Object.values(BROWSERS);
    const accept = browsers[random.below(browsers.length)]!;
    // The same, in other words.
    const path =
      random.below(2) === 0 ? `${name}.jpg?w=${w}&h=${h}&fm=auto` : `${name}.jpg?fm=auto&h=${h}&w=${w}`;
    const [first, second, third] = ['image/avif', 'image/webp', 'no'];
    const format = accept.includes(first!) ? first : accept.includes(second!) ? second : third;
    return { path, accept, rendition: `${name} ${side} ${format}` };
  });
  const distinct = new Set(wanted.map(({ rendition }) => rendition)).size;
  const before = total(await scene.answered());
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_A_TIME }, async () => {
      while (next < wanted.length) {
        const { path, accept } = wanted[next++]!;
        const { status } = await front.get(path, { accept });
        assert.is(status, 200);
      }
    }),
  );
  const asked = total(await scene.answered()) - before;
  const ratio = (100 * (READS - asked)) / READS;
  process.stdout.write(
    `\nFIGURE ${label}: ${READS} reads of ${distinct} renditions, Zipf, ${AT_A_TIME} at a time: ${asked} reached the gateways, hit ratio ${ratio.toFixed(1)} %\n`,
  );
  assert.is(asked, distinct, 'each rendition was asked for once');
}

const total = (answered: ReadonlyMap<number, number>): number =>
  [...answered.values()].reduce((sum, count) => sum + count, 0);

/** Renditions of the cluster that {@link checkAges} is for. */
export const AGES = {
  cacheControl: {
    originalSeconds: 1,
    renditionSeconds: 1,
    staleWhileRevalidateSeconds: 3,
    staleIfErrorSeconds: 600,
  },
  policy: 'any',
} as const;

/** One that is old is asked for again with its tag, and shown meanwhile; when no gateway answers, also later. */
export async function checkAges(scene: Scene, front: Front): Promise<void> {
  const keys = new SigningKeys(await readImageKeys(scene.cluster.home));
  const name = await scene.store(await noise(200, 150));
  const gone = await scene.store(await noise(200, 150));
  const path = `${name}?w=100&h=100&fm=webp`;
  const first = await front.get(path);
  assert.is(first.status, 200);
  const original = await front.get(name);
  const before = await scene.answered();
  const isAskedFor = async () => {
    const { status, body } = await front.get(path);
    assert.is(status, 200);
    assert.ok(body.equals(first.body));
    return ((await scene.answered()).get(304) ?? 0) > (before.get(304) ?? 0);
  };
  await until(isAskedFor, 'it asked with the tag');
  assert.is((await scene.answered()).get(200), before.get(200), 'and got no bytes again');
  // Too old to be shown at once: the same, and whoever asks waits.
  await sleep(5_500);
  const old = await scene.answered();
  assert.ok((await front.get(path)).body.equals(first.body));
  assert.is(((await scene.answered()).get(304) ?? 0) - (old.get(304) ?? 0), 1);

  // Originals too, without their bytes.
  const bodies = await bodiesOf(scene);
  for (const _ of [1, 2]) {
    const tags = (await scene.answered()).get(304) ?? 0;
    assert.ok((await front.get(name)).body.equals(original.body));
    assert.is(await bodiesOf(scene), bodies);
    assert.is(((await scene.answered()).get(304) ?? 0) - tags, 1);
    await sleep(2_100);
  }

  const expires = Math.ceil(Date.now() / 1000) + 2;
  const [signed, other] = [90, 91].map((side) => {
    const rendition = { ...PLAIN, width: side, height: side, format: 'webp' as const };
    const signature = new URLSearchParams(keys.sign({ name, rendition, expires }));
    return `${name}?w=${side}&h=${side}&fm=webp&${signature}`;
  }) as [string, string];
  assert.is((await front.get(other)).status, 200);
  assert.is((await front.get(signed)).status, 200);
  await checkPrivate(scene, front, keys);
  assert.is((await front.get(`${gone}?w=100&h=100`)).status, 200);
  assert.is(await scene.cluster.act('DELETE', gone), 204);
  await until(async () => (await scene.direct(gone, {}, 1)).status === 404, 'both gateways know it');
  assert.is(await front.purge(gone), 200);
  await until(() => Promise.resolve(Date.now() > expires * 1000), 'it has expired');
  assert.is((await front.get(signed)).status, 403, 'expired, and so it is not shown once more');

  for (const gateway of ['gw0', 'gw1'] as const) await scene.cluster.stopOne(gateway, 'SIGTERM');
  const without = await front.get(path);
  assert.is(without.status, 200, 'no gateway, and still a picture');
  assert.ok(without.body.equals(first.body));
  for (const one of [`${gone}?w=100&h=100`, signed, other, `${name}?w=77`]) {
    const { status } = await front.get(one);
    assert.ok(status >= 500, `${one}: ${status}`);
  }
  for (const gateway of ['gw0', 'gw1'] as const) await scene.cluster.startOne(gateway);
  await until(async () => (await front.get(`${name}?w=77`)).status === 200, 'they are back');
}

/** A private picture is for whoever has a signature, and kept by nobody. */
async function checkPrivate(scene: Scene, front: Front, keys: SigningKeys): Promise<void> {
  const { name } = await scene.cluster.put(await noise(100, 80), { query: '?private=1' });
  const expires = Math.ceil(Date.now() / 1000) + 600;
  const signature = new URLSearchParams(keys.sign({ name, rendition: undefined, expires }));
  const before = await bodiesOf(scene);
  for (const _ of [1, 2]) {
    const shown = await front.get(`${name}?${signature}`);
    assert.is(shown.status, 200);
    assert.match(headerOf(shown, 'cache-control'), /^private, max-age=\d+$/);
    assert.is.not(cacheStatus(shown), 'HIT');
    assert.is((await front.get(name)).status, 403);
  }
  assert.is((await bodiesOf(scene)) - before, 2, 'a gateway was asked each time');
}

/** How often the gateways have sent a picture, or a piece of one. */
async function bodiesOf(scene: Scene): Promise<number> {
  const answered = await scene.answered();
  return (answered.get(200) ?? 0) + (answered.get(206) ?? 0);
}

export async function until(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const untilMs = performance.now() + 15_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < untilMs, what);
    await sleep(50);
  }
}
