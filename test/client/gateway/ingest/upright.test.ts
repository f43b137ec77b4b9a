import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import readExif from 'exif-reader';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import type { MakeLimits } from '../../../../client/gateway/images/make.ts';
import { makeUpright } from '../../../../client/gateway/images/upright.ts';
import { turnOf } from '../../../../client/gateway/ingest/strip.ts';
import { isLosslessWebp } from '../../../../client/gateway/ingest/webp.ts';
import { sniff } from '../../../../client/gateway/sniff.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { EXIF_IFD, exifBlock, ORIENTATION, withExif } from '../../../kit/exif-block.ts';
import { describe } from '../../../kit/suite.ts';

const PICTURES = join(import.meta.dirname, '..', '..', '..', '..', '..', 'shared', 'images');
const LIMITS: MakeLimits = { pixelsMax: 50e6, framesMax: 100, bytesMax: 32 << 20, keepCopyright: false };
const ALL = [2, 3, 4, 5, 6, 7, 8];

/** Dark at one corner, and nowhere the same in two directions. */
const gradient = (channels: 1 | 3 = 3) => {
  const raw = Buffer.alloc(64 * 48 * channels);
  for (let y = 0; y < 48; y++)
    for (let x = 0; x < 64; x++)
      for (let c = 0; c < channels; c++) raw[(y * 64 + x) * channels + c] = x * 2 + y * (c + 1);
  return sharp(raw, { raw: { width: 64, height: 48, channels } });
};

/** As a viewer shows it. */
const shown = (body: Buffer) => sharp(body).autoOrient().raw().toBuffer({ resolveWithObject: true });
/** As it is for whoever knows nothing about EXIF. */
const stored = (body: Buffer) => sharp(body).raw().toBuffer({ resolveWithObject: true });

/** @returns the mean difference of a sample, of 255 */
async function difference(before: Buffer, after: Buffer): Promise<number> {
  const [a, b] = [await shown(before), await stored(after)];
  assert.equal(
    [a.info.width, a.info.height, a.info.channels],
    [b.info.width, b.info.height, b.info.channels],
  );
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i]! - b.data[i]!);
  return sum / a.data.length;
}

async function turned(body: Buffer): Promise<Buffer> {
  const kind = sniff(body);
  assert.is.not(turnOf(body, kind), undefined);
  const { bytes } = await makeUpright(body, LIMITS);
  assert.is(sniff(bytes), kind, 'it is of the same kind');
  assert.is(turnOf(bytes, kind), undefined, 'it is upright');
  assert.is((await sharp(bytes).metadata()).orientation ?? 1, 1);
  return bytes;
}

describe('turned upright', (test) => {
  for (const orientation of ALL) {
    test(`JPEG, ${orientation}`, async () => {
      const jpeg = await gradient().withIccProfile('p3').jpeg({ quality: 90 }).toBuffer();
      const tags = {
        271: { ascii: 'A maker of cameras' },
        [ORIENTATION]: { short: orientation },
        [EXIF_IFD]: { directory: { 33434: { rationals: [[1, 250]] as const } } },
      };
      const body = withExif(jpeg, exifBlock(tags, { order: orientation % 2 === 0 ? 'II' : 'MM' }));
      const out = await turned(body);
      assert.ok((await difference(body, out)) < 1.5);
      const [before, after] = [await sharp(body).metadata(), await sharp(out).metadata()];
      assert.equal(after.icc, before.icc);
      const exif = readExif(after.exif!);
      assert.is(exif.Image?.Make, 'A maker of cameras');
      assert.is(exif.Photo?.ExposureTime, 1 / 250);
    });

    test(`PNG and lossless WebP lose nothing, ${orientation}`, async () => {
      for (const image of [gradient().png(), gradient().webp({ lossless: true })]) {
        const body = await image.withMetadata({ orientation }).toBuffer();
        const out = await turned(body);
        assert.is(await difference(body, out), 0);
        assert.is(isLosslessWebp(out), isLosslessWebp(body));
      }
    });
  }

  test('lossy WebP', async () => {
    const body = await gradient().webp({ quality: 90 }).withMetadata({ orientation: 6 }).toBuffer();
    const out = await turned(body);
    assert.ok((await difference(body, out)) < 2);
    assert.is(isLosslessWebp(out), false);
  });

  test('colours stay what they are: grey, CMYK, 16 bits, alpha, all chroma', async () => {
    const grey = await gradient(1).toColourspace('b-w').jpeg().withMetadata({ orientation: 6 }).toBuffer();
    const cmyk = await gradient().toColourspace('cmyk').jpeg().toBuffer();
    const deep = await gradient().toColourspace('rgb16').png().withMetadata({ orientation: 8 }).toBuffer();
    const clear = await gradient().ensureAlpha(0.5).png().withMetadata({ orientation: 5 }).toBuffer();
    const fine = await gradient()
      .jpeg({ chromaSubsampling: '4:4:4' })
      .withMetadata({ orientation: 3 })
      .toBuffer();
    const six = exifBlock({ [ORIENTATION]: { short: 6 } }, { order: 'II' });
    for (const body of [grey, withExif(cmyk, six), deep, clear, fine]) {
      const [before, after] = [await sharp(body).metadata(), await sharp(await turned(body)).metadata()];
      for (const key of ['space', 'channels', 'depth', 'hasAlpha', 'chromaSubsampling'] as const)
        assert.is(after[key], before[key], `${before.format} ${before.space}: ${key}`);
    }
  });

  test('what is too large, broken, or animated is told', async () => {
    const code = async (body: Buffer, limits = LIMITS) => {
      try {
        await makeUpright(body, limits);
      } catch (error) {
        if (isTfsError(error)) return error.code;
        throw error;
      }
      return 'OK';
    };
    const body = await gradient().jpeg().withMetadata({ orientation: 6 }).toBuffer();
    assert.is(await code(body, { ...LIMITS, pixelsMax: 3000 }), 'TOO_MANY_PIXELS');
    assert.is(await code(body.subarray(0, body.length >> 1)), 'UNDECODABLE');
    assert.is(await code(Buffer.from('no picture at all')), 'UNDECODABLE');
    const frames = await Promise.all(
      [1, 2].map((i) =>
        gradient()
          .linear(1 / i, 0)
          .png()
          .toBuffer(),
      ),
    );
    const animated = await sharp(frames, { join: { animated: true } })
      .webp()
      .toBuffer();
    assert.is(await code(animated), 'UNSUPPORTED_MEDIA');
    assert.is(await code(await gradient().gif().toBuffer()), 'UNSUPPORTED_MEDIA');
  });

  if (!existsSync(PICTURES)) {
    test.skip('the collection of pictures is not here');
    return;
  }
  for (const file of ['Landscape_3.jpg', 'Landscape_6.jpg', 'Portrait_8.jpg'])
    test(file, async () => {
      const body = readFileSync(join(PICTURES, file));
      const out = await turned(body);
      assert.ok((await difference(body, out)) < 3);
      assert.equal((await sharp(out).metadata()).icc, (await sharp(body).metadata()).icc);
    });
}, 30_000);
