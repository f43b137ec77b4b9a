import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { dimensionsOf } from '../../../client/gateway/dimensions.ts';
import { extensionsOf, mimeOf, needsSandbox } from '../../../client/gateway/media.ts';
import { sniff } from '../../../client/gateway/sniff.ts';
import { MediaType } from '../../../common/wire/messages.ts';
import { describe } from '../../kit/suite.ts';

const image = () => sharp({ create: { width: 37, height: 23, channels: 3, background: 'green' } });
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const ftyp = (...brands: string[]) => {
  const box = Buffer.alloc(8 + 4 * brands.length + 4);
  box.writeUInt32BE(box.length);
  box.write(`ftyp${brands[0]}`, 4, 'latin1');
  for (const [i, brand] of brands.slice(1).entries()) box.write(brand, 16 + 4 * i, 'latin1');
  return Buffer.concat([box, Buffer.alloc(20)]);
};

describe('kinds of pictures by their bytes', (test) => {
  test('what sharp writes', async () => {
    const made: [MediaType, Buffer][] = [
      [MediaType.JPEG, await image().jpeg().toBuffer()],
      [MediaType.PNG, await image().png().toBuffer()],
      [MediaType.GIF, await image().gif().toBuffer()],
      [MediaType.WEBP, await image().webp().toBuffer()],
      [MediaType.WEBP, await image().webp({ lossless: true }).toBuffer()],
      [MediaType.AVIF, await image().avif().toBuffer()],
      [MediaType.TIFF, await image().tiff().toBuffer()],
    ];
    for (const [mediaType, body] of made) {
      assert.is(sniff(body), mediaType);
      assert.equal(dimensionsOf(body, mediaType), { width: 37, height: 23 }, mimeOf(mediaType));
    }
  });

  test('signatures', () => {
    const cases: [MediaType, Buffer][] = [
      [MediaType.TIFF, hex('4d4d002a 00000008')],
      [MediaType.TIFF, hex('49492b00 08000000')],
      [MediaType.GIF, Buffer.from('GIF87a')],
      [MediaType.BMP, hex('424d 46000000 00000000 36000000 28000000')],
      [MediaType.ICO, hex('00000100 0100 1010 0000 0100 2000 68040000 16000000')],
      [MediaType.JXL, hex('ff0a fa')],
      [MediaType.JXL, hex('0000000c 4a584c20 0d0a870a')],
      [MediaType.AVIF, ftyp('avif', 'mif1')],
      [MediaType.AVIF, ftyp('mif1', 'miaf', 'avif')],
      [MediaType.HEIC, ftyp('heic', 'mif1')],
      [MediaType.HEIC, ftyp('mif1', 'heic')],
      [MediaType.UNKNOWN, ftyp('isom', 'mp42')],
      [MediaType.UNKNOWN, Buffer.from('RIFF____WAVE')],
      [MediaType.UNKNOWN, Buffer.from('BMW and other cars of the year')],
      [MediaType.UNKNOWN, hex('ffd8')],
      [MediaType.UNKNOWN, hex('89504e47')],
      [MediaType.UNKNOWN, hex('00000100 0000')],
      [MediaType.UNKNOWN, Buffer.from('%PDF-1.7')],
      [MediaType.UNKNOWN, Buffer.from('a')],
      [MediaType.UNKNOWN, Buffer.alloc(0)],
    ];
    for (const [expected, body] of cases) assert.is(sniff(body), expected, body.toString('latin1'));
  });

  test('SVG behind everything that XML allows before it', () => {
    const svgs = [
      '<svg/>',
      '<svg xmlns="http://www.w3.org/2000/svg">',
      '\ufeff<?xml version="1.0"?>\n<svg >',
      '<?xml version="1.0"?><!-- a > b --><?pi x?>\n\t<svg\n>',
      '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd"><svg>',
      '<!DOCTYPE svg [ <!ENTITY a "b>c"> ]>\n<s:svg xmlns:s="http://www.w3.org/2000/svg">',
      `<!--${'x'.repeat(30_000)}--><svg>`,
    ];
    for (const svg of svgs) assert.is(sniff(Buffer.from(svg)), MediaType.SVG, svg.slice(0, 80));
    const others = [
      '<html><svg></svg></html>',
      '<!DOCTYPE html><html>',
      '<svgx>',
      '<!-- <svg> -->',
      '<!-- <svg>',
      '<?xml version="1.0"?>',
      '<rss><svg/></rss>',
      'text <svg>',
      `<!--${'x'.repeat(70_000)}--><svg>`,
      '< svg>',
    ];
    for (const other of others) assert.is(sniff(Buffer.from(other)), MediaType.UNKNOWN, other.slice(0, 80));
  });

  test('the size of an SVG, where it has one', () => {
    const of = (text: string) => dimensionsOf(Buffer.from(text), MediaType.SVG);
    assert.equal(of('<?xml version="1.0"?><svg xmlns="x" width="80" height="60">'), {
      width: 80,
      height: 60,
    });
    assert.equal(of('<svg xmlns="x" viewBox="0 0 300 200">'), { width: 300, height: 200 });
    assert.equal(of('<svg xmlns="x">'), { width: null, height: null });
  });

  test('damaged headers never throw and never take long', () => {
    const kinds = Object.values(MediaType);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...kinds), (bytes, kind) => {
        const { width, height } = dimensionsOf(Buffer.from(bytes), kind);
        assert.is(width === null, height === null);
        sniff(Buffer.from(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test('every cut of a real picture is handled', async () => {
    for (const body of [
      await image().jpeg().toBuffer(),
      await image().avif().toBuffer(),
      await image().tiff().toBuffer(),
    ])
      for (let length = 0; length < Math.min(body.length, 600); length += 3) {
        const head = body.subarray(0, length);
        const { width } = dimensionsOf(head, sniff(head));
        assert.ok(width === null || width === 37, `${length} bytes: ${width}`);
      }
  });

  test('hostile SVGs do not stop the event loop', () => {
    const started = performance.now();
    for (const body of [
      '<svg "'.repeat(200_000),
      `<svg ${'a="'.repeat(300_000)}`,
      '<'.repeat(1_000_000),
      '<!--'.repeat(300_000),
    ])
      dimensionsOf(Buffer.from(body), sniff(Buffer.from(body)));
    // A guard against minutes, not a measurement: the quadratic case takes that long.
    assert.ok(performance.now() - started < 5000);
  });

  test('every kind has a type; pictures have extensions; only documents need the sandbox', () => {
    for (const kind of Object.values(MediaType)) {
      if (kind === MediaType.UNKNOWN) continue;
      assert.match(mimeOf(kind), /^image\//);
      assert.ok(extensionsOf(kind).length > 0);
      assert.is(needsSandbox(kind), kind === MediaType.SVG);
    }
    assert.is(mimeOf(999), 'application/octet-stream');
    assert.is(needsSandbox(999), true);
    assert.is(sniff(randomBytes(0)), MediaType.UNKNOWN);
  });
});
