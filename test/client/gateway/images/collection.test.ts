import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { FakeGateway, testImages } from '../../../kit/fake-gateway.ts';
import { ROOT } from '../../../kit/run-from.ts';
import { describe } from '../../../kit/suite.ts';

/** Pictures of all kinds, some of them broken on purpose; beside the project where they are there at all. */
const COLLECTION = join(ROOT, '..', 'shared', 'images');
const FORMATS = { jpg: 'jpeg', webp: 'webp', avif: 'heif' } as const;
/** What none of them is made of, and why. */
const REFUSED: readonly (readonly [RegExp, RegExp])[] = [
  [/^corrupt-header/, /the header cannot be decoded/],
  [/^truncated/, /the picture cannot be decoded/],
  [/^giant-image/, /20000 x 14000 pixels/],
  [/\.svg$/, /no renditions are made of image\/svg/],
];

describe('every picture of the collection, in 310 x 310', (test) => {
  if (!existsSync(COLLECTION)) {
    test.skip('the collection of pictures is not here');
    return;
  }
  test('is the same in all three ways to ask; the broken ones say what is wrong with them', async (t) => {
    const presets = Object.fromEntries(
      Object.keys(FORMATS).map((fm) => [`in-${fm}`, { w: 310, h: 310, fm }]),
    );
    const gw = await FakeGateway.open(t, {
      pictureBytesMax: 32 << 20,
      images: testImages(t, { presets, decodeMsMax: 60_000 }),
    });
    let refused = 0;
    for (const file of readdirSync(COLLECTION)) {
      const bytes = readFileSync(join(COLLECTION, file));
      const suffix = extname(file).toLowerCase();
      const name = await gw.store(bytes, suffix);
      const why = REFUSED.find(([pattern]) => pattern.test(file))?.[1];
      if (why !== undefined) refused++;
      const upright =
        why === undefined
          ? (await sharp(bytes).autoOrient().toBuffer({ resolveWithObject: true })).info
          : undefined;
      for (const [fm, format] of Object.entries(FORMATS)) {
        const paths = [
          `${name}${suffix}_310x310.${fm}`,
          `${name}?w=310&h=310&fm=${fm}`,
          `${name}?p=in-${fm}`,
        ];
        const [first, ...others] = await Promise.all(paths.map((path) => gw.get(`/images/${path}`)));
        for (const other of others) {
          assert.is(other.status, first!.status, file);
          assert.is(other.headers['etag'], first!.headers['etag'], file);
          if (why === undefined) assert.equal(other.body, first!.body, file);
        }
        if (why !== undefined) {
          assert.is(first!.status, 422, file);
          assert.match(String(first!.json['message']), why, file);
          continue;
        }
        assert.is(first!.status, 200, `${file}: ${first!.body.toString().slice(0, 200)}`);
        const made = await sharp(first!.body).metadata();
        assert.is(made.format, format, file);
        assert.is(made.orientation, undefined, file);
        assert.is(made.exif, undefined, file);
        assert.is(made.space, 'srgb', file);
        const { width, height } = upright!;
        const scale = Math.min(1, 310 / width, 310 / height);
        assert.ok(Math.abs(made.width - width * scale) <= 1, `${file}: ${made.width} of ${width}`);
        assert.ok(Math.abs(made.height - height * scale) <= 1, `${file}: ${made.height} of ${height}`);
      }
    }
    assert.ok(refused >= REFUSED.length, `${refused} are refused`);
  });
}, 240_000);
