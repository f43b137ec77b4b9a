import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { type MakeLimits, make, prepareDecoders } from '../../../../client/gateway/images/make.ts';
import { renditionOf } from '../../../../client/gateway/images/options.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { ROOT } from '../../../kit/run-from.ts';
import { describe } from '../../../kit/suite.ts';

const SAMPLE = readFileSync(join(ROOT, 'docs', 'sample.jpg'));
const LIMITS: MakeLimits = { pixelsMax: 50e6, framesMax: 10, bytesMax: 5e6, keepCopyright: false };

const made = (original: Buffer, options: Record<string, string>, limits = LIMITS) =>
  make(original, renditionOf(new Map(Object.entries(options))), limits);

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'made',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

/** Left half red, right half blue. */
const halves = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: '#0000ff' } }).composite([
    { input: { create: { width: width / 2, height, channels: 3, background: '#ff0000' } }, left: 0, top: 0 },
  ]);

async function pixelAt(bytes: Buffer, x: number, y: number): Promise<number[]> {
  const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  const at = (y * info.width + x) * info.channels;
  return [...data.subarray(at, at + info.channels)];
}

const isNear = (found: number[], expected: number[]): boolean =>
  expected.every((value, i) => Math.abs(value - found[i]!) < 24);

describe('renditions', (test) => {
  prepareDecoders();

  test('are of the format and size that was asked for, the same bytes each time, without metadata', async () => {
    const { width, height } = await sharp(SAMPLE).metadata();
    for (const [fm, format] of [
      ['jpg', 'jpeg'],
      ['webp', 'webp'],
      ['avif', 'heif'],
      ['png', 'png'],
      ['gif', 'gif'],
    ] as const) {
      const one = await made(SAMPLE, { w: '64', h: '64', fm });
      const facts = await sharp(one.bytes).metadata();
      assert.is(facts.format, format);
      assert.equal([facts.width, facts.height], [one.width, one.height]);
      assert.is(Math.max(one.width, one.height), 64);
      assert.ok(Math.abs(one.width / one.height - width / height) < 0.05);
      assert.is(facts.exif, undefined);
      assert.ok(one.bytes.equals((await made(SAMPLE, { w: '64', h: '64', fm })).bytes), fm);
    }
  });

  test('have the shape that was asked for, and are not enlarged unless that is', async () => {
    const original = await halves(400, 200).png().toBuffer();
    const sizeOf = async (options: Record<string, string>) => {
      const { width, height } = await made(original, options);
      return `${width}x${height}`;
    };
    assert.is(await sizeOf({ w: '100' }), '100x50');
    assert.is(await sizeOf({ h: '100' }), '200x100');
    assert.is(await sizeOf({ w: '100', h: '100' }), '100x50');
    assert.is(await sizeOf({ w: '100', h: '100', fit: 'outside' }), '200x100');
    assert.is(await sizeOf({ w: '100', h: '100', fit: 'cover' }), '100x100');
    assert.is(await sizeOf({ w: '100', h: '100', fit: 'contain' }), '100x100');
    assert.is(await sizeOf({ w: '100', h: '100', fit: 'fill' }), '100x100');
    assert.is(await sizeOf({ w: '50', dpr: '2' }), '100x50');
    assert.is(await sizeOf({ w: '800' }), '400x200');
    assert.is(await sizeOf({ w: '800', enlarge: '1' }), '800x400');
    assert.is(await sizeOf({ w: '100', rot: '90' }), '100x200');
    const east = await made(original, { w: '50', h: '50', fit: 'cover', g: 'east' });
    assert.ok(isNear(await pixelAt(east.bytes, 25, 25), [0, 0, 255]));
    const west = await made(original, { w: '50', h: '50', fit: 'cover', g: 'west' });
    assert.ok(isNear(await pixelAt(west.bytes, 25, 25), [255, 0, 0]));
  });

  test('are turned as EXIF says', async () => {
    for (let orientation = 1; orientation <= 8; orientation++) {
      const upright = await halves(200, 100).png().toBuffer();
      // Stored the other way round, with the word that takes it back.
      const inverse = orientation === 6 ? 8 : orientation === 8 ? 6 : orientation;
      const turned = await sharp(upright).withMetadata({ orientation: inverse }).jpeg().toBuffer();
      const stored = await sharp(await sharp(turned).autoOrient().toBuffer())
        .withMetadata({ orientation })
        .jpeg({ quality: 95 })
        .toBuffer();
      const one = await made(stored, { fm: 'png' });
      assert.equal([one.width, one.height], [200, 100], String(orientation));
      assert.ok(isNear(await pixelAt(one.bytes, 50, 50), [255, 0, 0]), `left, orientation ${orientation}`);
      assert.ok(isNear(await pixelAt(one.bytes, 150, 50), [0, 0, 255]), `right, orientation ${orientation}`);
    }
  });

  test('transparency stays where the format has it, and is white or what was asked for where not', async () => {
    const clear = await sharp({
      create: { width: 10, height: 10, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } },
    })
      .png()
      .toBuffer();
    assert.is((await pixelAt((await made(clear, { fm: 'webp' })).bytes, 5, 5))[3], 0);
    assert.ok(isNear(await pixelAt((await made(clear, { fm: 'jpg' })).bytes, 5, 5), [255, 255, 255]));
    assert.ok(isNear(await pixelAt((await made(clear, { fm: 'jpg', bg: 'f00' })).bytes, 5, 5), [255, 0, 0]));
    const half = { bg: '00ff0080', w: '30', h: '10', fit: 'contain' };
    const veiled = (await made(clear, { ...half, fm: 'png' })).bytes;
    for (const x of [1, 15]) assert.equal(await pixelAt(veiled, x, 5), [0, 255, 0, 128], String(x));
    assert.ok(isNear(await pixelAt((await made(clear, { ...half, fm: 'jpg' })).bytes, 15, 5), [0, 255, 0]));
    const boxed = await made(SAMPLE, { w: '64', h: '200', fit: 'contain', bg: '00ff00', fm: 'png' });
    assert.ok(isNear(await pixelAt(boxed.bytes, 32, 2), [0, 255, 0]));
  });

  test('animations move where the format does, with so many frames as are allowed', async () => {
    const frames = await Promise.all(
      ['#f00', '#0f0', '#00f'].map((background) =>
        sharp({ create: { width: 40, height: 20, channels: 3, background } })
          .png()
          .toBuffer(),
      ),
    );
    const gif = await sharp(frames, { join: { animated: true } })
      .gif()
      .toBuffer();
    const pagesOf = async (options: Record<string, string>, limits = LIMITS) => {
      const { bytes, width, height } = await made(gif, options, limits);
      return [(await sharp(bytes).metadata()).pages ?? 1, width, height];
    };
    assert.equal(await pagesOf({ w: '20', fm: 'webp' }), [3, 20, 10]);
    assert.equal(await pagesOf({ w: '20' }), [3, 20, 10]);
    assert.equal(await pagesOf({ w: '20', fm: 'jpg' }), [1, 20, 10]);
    assert.equal(await pagesOf({ w: '20', fm: 'webp' }, { ...LIMITS, framesMax: 2 }), [2, 20, 10]);
    assert.equal(await pagesOf({ w: '20', fm: 'webp' }, { ...LIMITS, pixelsMax: 800 }), [3, 20, 10]);
  });

  test('what would be larger than an original may be is not made', async () => {
    const few = { ...LIMITS, pixelsMax: 1_000_000 };
    const { width = 0, height = 0 } = await sharp(SAMPLE).metadata();
    assert.ok(width * height < 1_000_000, 'the original is small enough');
    const huge: Record<string, string>[] = [
      { w: '16384', h: '16384', fit: 'contain' },
      { w: '16384', h: '16384', fit: 'fill', enlarge: '1' },
      { w: '16384', enlarge: '1' },
      { h: '9000', w: '10', fit: 'outside', enlarge: '1' },
    ];
    for (const options of huge)
      assert.is(await codeOf(made(SAMPLE, options, few)), 'TOO_MANY_PIXELS', JSON.stringify(options));
    for (const options of [{ w: '16384' }, { w: '16384', h: '10' }, { w: '16384', h: '16384', fit: 'cover' }])
      assert.is(await codeOf(made(SAMPLE, options, few)), 'made', JSON.stringify(options));
  });

  test('of metadata only copyright and artist are kept, and only where that is wanted', async () => {
    const own = await sharp(SAMPLE)
      .withExif({
        IFD0: { Copyright: '(c) 2026 Somebody', Artist: 'Somebody', Software: 'secret' },
        IFD3: { GPSLatitude: '1/1 2/1 3/1' },
      })
      .jpeg()
      .toBuffer();
    for (const fm of ['jpg', 'webp', 'png', 'avif']) {
      const without = await sharp((await made(own, { w: '30', fm })).bytes).metadata();
      assert.is(without.exif, undefined, fm);
      const { bytes } = await made(own, { w: '30', fm }, { ...LIMITS, keepCopyright: true });
      const exif = (await sharp(bytes).metadata()).exif!.toString('latin1');
      assert.match(exif, /2026 Somebody/, fm);
      assert.not.match(exif, /secret/, fm);
      assert.not.match(exif, /GPS/, fm);
    }
    const damaged = Buffer.from(own);
    damaged.fill(0xff, own.indexOf('Exif') + 10, own.indexOf('Exif') + 40);
    assert.is(await codeOf(made(damaged, { w: '30' }, { ...LIMITS, keepCopyright: true })), 'made');
  });

  test('what is no whole picture, too large, or in a language is refused', async () => {
    assert.is(await codeOf(made(SAMPLE.subarray(0, SAMPLE.length / 2), { w: '10' })), 'UNDECODABLE');
    assert.is(await codeOf(made(SAMPLE.subarray(0, 100), { w: '10' })), 'UNDECODABLE');
    assert.is(await codeOf(made(Buffer.from('hello'), { w: '10' })), 'UNDECODABLE');
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>';
    assert.is(await codeOf(made(Buffer.from(svg), { w: '10' })), 'UNDECODABLE');
    const small = { ...LIMITS, pixelsMax: 1000 };
    assert.is(await codeOf(made(SAMPLE, { w: '10' }, small)), 'TOO_MANY_PIXELS');
    const bomb = await sharp({ create: { width: 10_000, height: 6_000, channels: 3, background: '#fff' } })
      .png({ compressionLevel: 1 })
      .toBuffer();
    assert.is(await codeOf(made(bomb, { w: '10' })), 'TOO_MANY_PIXELS');
    assert.is(
      await codeOf(made(SAMPLE, { w: '64', fm: 'png' }, { ...LIMITS, bytesMax: 100, keepCopyright: false })),
      'TOO_LARGE',
    );
  });
}, 60_000);
