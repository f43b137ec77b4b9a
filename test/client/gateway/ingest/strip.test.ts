import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import readExif from 'exif-reader';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { orientationOnly } from '../../../../client/gateway/ingest/exif.ts';
import { turnOf, withoutLocation } from '../../../../client/gateway/ingest/strip.ts';
import { sniff } from '../../../../client/gateway/sniff.ts';
import { isTfsError } from '../../../../common/errors.ts';
import { MediaType } from '../../../../common/wire/messages.ts';
import {
  EXIF_IFD,
  exifBlock,
  GPS,
  GPS_TAGS,
  ORIENTATION,
  type Tags,
  withExif,
  withSegment,
} from '../../../kit/exif-block.ts';
import { describe } from '../../../kit/suite.ts';

const PICTURES = join(import.meta.dirname, '..', '..', '..', '..', '..', 'shared', 'images');
const ORDERS = ['II', 'MM'] as const;
/** In everything that must go. */
const SECRET = 'SECRETPLACE';

/** Every pixel of every frame, as they are stored and as they are shown. */
async function pixelsOf(body: Buffer): Promise<string> {
  const frames = await sharp(body, { animated: true }).raw().toBuffer({ resolveWithObject: true });
  const shown = await sharp(body).autoOrient().raw().toBuffer({ resolveWithObject: true });
  const { icc, orientation } = await sharp(body).metadata();
  return [frames, shown]
    .map(({ data, info }) => `${info.width}x${info.height}x${info.channels} ${crc32(data)}`)
    .concat(`${icc?.length} ${orientation ?? 1}`)
    .join(' ');
}

/** Strips it, and checks that it is the same picture, that the secret is gone, and that a second time finds nothing. */
async function stripped(body: Buffer): Promise<Buffer> {
  const kind = sniff(body);
  const out = withoutLocation(body, kind);
  assert.is(sniff(out), kind);
  assert.is(await pixelsOf(out), await pixelsOf(body));
  assert.is(out.includes(SECRET), false, 'the secret is gone');
  assert.is(withoutLocation(out, kind), out, 'nothing is left to take out');
  assert.is(turnOf(out, kind), turnOf(body, kind));
  return out;
}

const gradient = () => {
  const raw = Buffer.alloc(40 * 30 * 3);
  for (let i = 0; i < raw.length; i++) raw[i] = (i * 7 + Math.floor(i / 120) * 3) & 0xff;
  return sharp(raw, { raw: { width: 40, height: 30, channels: 3 } });
};

const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (isTfsError(error)) return error.code;
    throw error;
  }
  return 'OK';
};

const CAMERA: Tags = {
  271: { ascii: 'A maker of cameras' },
  [ORIENTATION]: { short: 6 },
  33432: { ascii: 'Copyright of somebody' },
  [EXIF_IFD]: {
    directory: {
      33434: { rationals: [[1, 250]] },
      36864: { bytes: Buffer.from('0232') },
      37500: { bytes: Buffer.from(`maker ${SECRET} notes`) },
    },
  },
  [GPS]: { directory: GPS_TAGS },
};

const xmp = (inner: string): Buffer =>
  Buffer.from(
    `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">${inner}</rdf:RDF></x:xmpmeta>`,
  );
const XMP_PLACE = xmp(`<rdf:Description exif:GPSLatitude="51,28.6N" photoshop:City="${SECRET}"/>`);
const XMP_OTHER = xmp('<rdf:Description dc:creator="Somebody" xmp:Rating="4"/>');
const XMP_MARK = Buffer.from('http://ns.adobe.com/xap/1.0/\0');

describe('location taken out of a JPEG', (test) => {
  for (const order of ORDERS)
    test(`GPS and maker notes go, the rest of EXIF stays: ${order}`, async () => {
      const jpeg = await gradient().jpeg().toBuffer();
      const body = withExif(jpeg, exifBlock(CAMERA, { order, next: { 513: { long: 8 }, 514: { long: 8 } } }));
      assert.is((await sharp(body).metadata()).orientation, 6);
      const before = readExif((await sharp(body).metadata()).exif!);
      assert.ok(before.GPSInfo !== undefined && before.Photo?.['MakerNote'] !== undefined);
      const out = await stripped(body);
      const after = readExif((await sharp(out).metadata()).exif!);
      assert.is(after.bigEndian, order === 'MM');
      assert.is(after.Image?.Orientation, 6);
      assert.is(after.Image?.Make, 'A maker of cameras');
      assert.is(after.Image?.Copyright, 'Copyright of somebody');
      assert.is(after.Photo?.ExposureTime, 1 / 250);
      assert.is(after.GPSInfo, undefined);
      assert.is(after.Photo?.['MakerNote'], undefined);
      assert.is(after.Thumbnail, undefined);
    });

  test('a picture without anything to hide is the same, byte for byte', async () => {
    const jpeg = await gradient().withIccProfile('p3').jpeg({ progressive: true }).toBuffer();
    for (const order of ORDERS) {
      const tags = { [ORIENTATION]: { short: 3 }, 271: { ascii: 'A maker of cameras' } };
      let body: Buffer = withExif(jpeg, exifBlock(tags, { order }));
      body = withSegment(body, 0xe1, Buffer.concat([XMP_MARK, XMP_OTHER]));
      body = withSegment(body, 0xfe, Buffer.from('made by hand'));
      assert.is(withoutLocation(body, MediaType.JPEG), body);
    }
  });

  test('text in EXIF that tells a place goes, other text stays', async () => {
    const jpeg = await gradient().jpeg().toBuffer();
    const tags = { 270: { ascii: `GPS: 51.4 ${SECRET}` }, 305: { ascii: 'Some program' } };
    const out = await stripped(withExif(jpeg, exifBlock(tags, { order: 'II' })));
    const { Image } = readExif((await sharp(out).metadata()).exif!);
    assert.is(Image?.ImageDescription, undefined);
    assert.is(Image?.Software, 'Some program');
  });

  const damaged: readonly (readonly [string, Tags])[] = [
    [
      'a directory beyond the end',
      { [ORIENTATION]: { short: 6 }, [EXIF_IFD]: { long: 60_000 }, [GPS]: { directory: GPS_TAGS } },
    ],
    [
      'a value beyond the end',
      {
        [ORIENTATION]: { short: 6 },
        271: { raw: { type: 2, count: 50, value: 4_000_000_000 } },
        [GPS]: { directory: GPS_TAGS },
      },
    ],
    [
      'a type that there is not',
      {
        [ORIENTATION]: { short: 6 },
        305: { raw: { type: 99, count: 1, value: 0 } },
        [GPS]: { directory: GPS_TAGS },
      },
    ],
    [
      'a count that no memory has',
      {
        [ORIENTATION]: { short: 6 },
        305: { raw: { type: 5, count: 0xffff_ffff, value: 8 } },
        [GPS]: { directory: GPS_TAGS },
      },
    ],
    [
      'directories in a circle',
      { [ORIENTATION]: { short: 6 }, [EXIF_IFD]: { long: 8 }, [GPS]: { directory: GPS_TAGS } },
    ],
    [
      'values over each other',
      Object.fromEntries([
        [ORIENTATION, { short: 6 }],
        ...Array.from({ length: 50 }, (_, i) => [
          0x0200 + 16 * i,
          { raw: { type: 7, count: 600, value: 8 } },
        ]),
        [GPS, { directory: GPS_TAGS }],
      ]),
    ],
  ];
  for (const [what, tags] of damaged)
    for (const order of ORDERS)
      test(`damaged EXIF goes, and leaves the orientation: ${what}, ${order}`, async () => {
        const jpeg = await gradient().jpeg().toBuffer();
        const body = withExif(jpeg, exifBlock(tags, { order }));
        const out = withoutLocation(body, MediaType.JPEG);
        assert.is(out.includes(SECRET), false);
        const metadata = await sharp(out).metadata();
        assert.is(metadata.orientation, 6);
        assert.equal(metadata.exif?.subarray(6), orientationOnly(6));
        const raw = (picture: Buffer) => sharp(picture).raw().toBuffer();
        assert.equal(await raw(out), await raw(jpeg));
      });

  test('EXIF of noise goes', async () => {
    const jpeg = await gradient().jpeg().toBuffer();
    for (let seed = 1; seed < 60; seed++) {
      const block = exifBlock(CAMERA, { order: seed % 2 === 0 ? 'II' : 'MM' });
      // Some bytes after the header are changed; whatever is found there, the picture is the same, and GPS is gone.
      for (let i = 0; i < 6; i++)
        block[8 + ((seed * 131 + i * 977) % (block.length - 8))]! ^= (seed * 37 + i * 11) & 0xff;
      const out = withoutLocation(withExif(jpeg, block), MediaType.JPEG);
      assert.equal(await sharp(out).raw().toBuffer(), await sharp(jpeg).raw().toBuffer());
      const { exif } = await sharp(out).metadata();
      if (exif !== undefined) assert.is(readExif(exif).GPSInfo, undefined);
      assert.is(withoutLocation(out, MediaType.JPEG), out);
    }
  });

  test('XMP with a place goes, other XMP stays; its extension goes', async () => {
    const jpeg = await gradient().jpeg().toBuffer();
    const withXmp = withSegment(jpeg, 0xe1, Buffer.concat([XMP_MARK, XMP_PLACE]));
    assert.equal(await stripped(withXmp), jpeg);
    const other = withSegment(jpeg, 0xe1, Buffer.concat([XMP_MARK, XMP_OTHER]));
    const extended = withSegment(other, 0xe1, Buffer.from(`http://ns.adobe.com/xmp/extension/\0${SECRET}`));
    assert.equal(await stripped(extended), other);
    const wide = Buffer.concat([XMP_MARK, Buffer.from(XMP_PLACE.toString('utf8'), 'utf16le')]);
    assert.equal(await stripped(withSegment(jpeg, 0xe1, wide)), jpeg);
  });

  test('location fields of IPTC go, others stay', async () => {
    const jpeg = await gradient().jpeg().toBuffer();
    const field = (dataset: number, text: string) =>
      Buffer.concat([Buffer.from([0x1c, 2, dataset, 0, text.length]), Buffer.from(text)]);
    const resource = (id: number, data: Buffer) => {
      const head = Buffer.from([...Buffer.from('8BIM'), id >> 8, id & 255, 0, 0, 0, 0, 0, 0]);
      head.writeUInt32BE(data.length, 8);
      return Buffer.concat([head, data, Buffer.alloc(data.length & 1)]);
    };
    const iptc = [field(80, 'By somebody'), field(90, SECRET), field(101, 'Odd'), field(120, 'A caption')];
    const body = (...resources: Buffer[]) =>
      withSegment(jpeg, 0xed, Buffer.concat([Buffer.from('Photoshop 3.0\0'), ...resources]));
    const out = await stripped(
      body(
        resource(0x0404, Buffer.concat(iptc)),
        resource(0x0422, Buffer.from(SECRET)),
        resource(0x040a, Buffer.from([1])),
      ),
    );
    const expected = body(
      resource(0x0404, Buffer.concat([iptc[0]!, iptc[3]!])),
      resource(0x040a, Buffer.from([1])),
    );
    assert.equal(out, expected);
    const broken = body(resource(0x0404, Buffer.concat([iptc[0]!, Buffer.from(`not a field ${SECRET}`)])));
    assert.equal(await stripped(broken), jpeg);
    assert.equal(await stripped(body(Buffer.from(`8BIM${SECRET}`))), jpeg);
  });

  test('what only its maker can read goes, and what is behind the picture', async () => {
    const jpeg = await gradient().jpeg({ progressive: true }).toBuffer();
    let body: Buffer = jpeg;
    for (const marker of [0xe2, 0xe3, 0xe6, 0xeb, 0xef, 0xed, 0xe0])
      body = withSegment(body, marker, Buffer.from(`private data ${SECRET}`));
    body = withSegment(body, 0xfe, Buffer.from(`Location: ${SECRET}`));
    assert.equal(
      await stripped(Buffer.concat([body, withExif(jpeg, exifBlock(CAMERA, { order: 'II' }))])),
      jpeg,
    );
  });

  test('what is not well-formed is refused', async () => {
    const jpeg = await gradient().jpeg().toBuffer();
    const cut = [
      jpeg.subarray(0, 1),
      jpeg.subarray(0, 30),
      jpeg.subarray(0, -2),
      jpeg.subarray(0, jpeg.length >> 1),
    ];
    for (const body of cut)
      assert.is(
        code(() => withoutLocation(body, MediaType.JPEG)),
        'UNDECODABLE',
      );
    const long = Buffer.from(jpeg);
    long.writeUInt16BE(0xffff, 4);
    assert.is(
      code(() => withoutLocation(long, MediaType.JPEG)),
      'UNDECODABLE',
    );
  });
});

function pngChunk(type: string, payload: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), payload]);
  const out = Buffer.alloc(8 + body.length);
  out.writeUInt32BE(payload.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), 4 + body.length);
  return out;
}

/** Behind the header of 8 + 25 bytes. */
const withChunk = (png: Buffer, type: string, payload: Buffer): Buffer =>
  Buffer.concat([png.subarray(0, 33), pngChunk(type, payload), png.subarray(33)]);

describe('location taken out of a PNG', (test) => {
  const place = (text: string) => Buffer.from(text, 'latin1');
  const goes: readonly (readonly [string, string, Buffer])[] = [
    ['XMP with a place', 'iTXt', Buffer.concat([place('XML:com.adobe.xmp\0\0\0\0\0'), XMP_PLACE])],
    ['a keyword that tells one', 'tEXt', place(`Location\0${SECRET}`)],
    ['a profile in digits', 'tEXt', place(`Raw profile type exif\0 ${SECRET}`)],
    ['text that is compressed', 'zTXt', Buffer.concat([place('Comment\0\0'), deflateSync(place(SECRET))])],
    [
      'text that says that it is compressed',
      'iTXt',
      Buffer.concat([place('Comment\0\x01\0\0\0'), deflateSync(place(SECRET))]),
    ],
    ['text without an end of its keyword', 'tEXt', place(SECRET)],
    ['a chunk that only its maker knows', 'prVt', place(SECRET)],
    ['another one', 'caBX', place(SECRET)],
  ];
  for (const [what, type, payload] of goes)
    test(`goes: ${what}`, async () => {
      const png = await gradient().png().toBuffer();
      assert.equal(await stripped(withChunk(png, type, payload)), png);
    });

  for (const order of ORDERS)
    test(`EXIF is cleaned: ${order}`, async () => {
      const png = await gradient().withIccProfile('p3').png().toBuffer();
      for (const prefix of ['', 'Exif\0\0']) {
        const block = Buffer.concat([place(prefix), exifBlock(CAMERA, { order })]);
        const out = await stripped(withChunk(png, 'eXIf', block));
        // With them no decoder understands it.
        assert.is(turnOf(out, MediaType.PNG), prefix === '' ? 6 : undefined);
        assert.ok(out.includes('A maker of cameras'));
      }
      const { exif } = await sharp(
        await stripped(withChunk(png, 'eXIf', exifBlock(CAMERA, { order }))),
      ).metadata();
      assert.is(readExif(exif!).GPSInfo, undefined);
      assert.is(readExif(exif!).Image?.Orientation, 6);
    });

  test('what has nothing to hide is the same; what is behind it goes', async () => {
    const png = withChunk(await gradient().png().toBuffer(), 'tEXt', place('Title\0A picture'));
    assert.is(withoutLocation(png, MediaType.PNG), png);
    assert.equal(await stripped(Buffer.concat([png, place(SECRET)])), png);
    const animated = withChunk(png, 'acTL', Buffer.from([0, 0, 0, 1, 0, 0, 0, 0]));
    assert.is(withoutLocation(animated, MediaType.PNG), animated);
    assert.is(
      turnOf(withChunk(animated, 'eXIf', exifBlock(CAMERA, { order: 'II' })), MediaType.PNG),
      undefined,
    );
  });

  test('what is not well-formed is refused', async () => {
    const png = await gradient().png().toBuffer();
    const wrong = Buffer.from(png);
    wrong.writeUInt32BE(0x7fff_ffff, 33);
    for (const body of [png.subarray(0, -12), png.subarray(0, 40), png.subarray(0, 8), wrong])
      assert.is(
        code(() => withoutLocation(body, MediaType.PNG)),
        'UNDECODABLE',
      );
  });
});

describe('location taken out of a WebP', (test) => {
  const withWebpChunk = (webp: Buffer, type: string, payload: Buffer): Buffer => {
    const head = Buffer.alloc(8);
    head.write(type, 'latin1');
    head.writeUInt32LE(payload.length, 4);
    const out = Buffer.concat([webp, head, payload, Buffer.alloc(payload.length & 1)]);
    out.writeUInt32LE(out.length - 8, 4);
    return out;
  };

  for (const lossless of [true, false])
    for (const order of ORDERS)
      test(`EXIF is cleaned, XMP with a place goes: ${lossless ? 'lossless' : 'lossy'}, ${order}`, async () => {
        const block = exifBlock({ [ORIENTATION]: { short: 6 } }, { order });
        const made = await gradient()
          .webp({ lossless })
          .withExif({ IFD0: { Make: 'M' } })
          .withXmp(XMP_PLACE.toString())
          .toBuffer();
        // Its EXIF is put in the place of the one that sharp has made.
        const at = made.indexOf('EXIF');
        const size = made.readUInt32LE(at + 4);
        const end = at + 8 + size + (size & 1);
        const body = withWebpChunk(
          Buffer.concat([made.subarray(0, at), made.subarray(end)]),
          'EXIF',
          exifBlock(CAMERA, { order }),
        );
        assert.is((await sharp(body).metadata()).orientation, 6);
        const out = await stripped(body);
        const { exif, xmp: left } = await sharp(out).metadata();
        assert.is(readExif(exif!).GPSInfo, undefined);
        assert.is(readExif(exif!).Image?.Orientation, 6);
        assert.is(left, undefined);
        assert.is(out.readUInt32LE(4), out.length - 8);
        // Some begin it as a JPEG does; it is shown as before.
        const prefixed = Buffer.concat([Buffer.from('Exif\0\0'), exifBlock(CAMERA, { order })]);
        const rest = Buffer.concat([made.subarray(0, at), made.subarray(end)]);
        const shown = withWebpChunk(rest, 'EXIF', prefixed);
        assert.is(turnOf(await stripped(shown), MediaType.WEBP), (await sharp(shown).metadata()).orientation);
        // Damaged EXIF is dropped, with its bit.
        block[3] = 77;
        const damaged = withWebpChunk(
          Buffer.concat([made.subarray(0, at), made.subarray(end)]),
          'EXIF',
          block,
        );
        const without = withoutLocation(damaged, MediaType.WEBP);
        assert.is((await sharp(without).metadata()).exif, undefined);
        assert.is(without[20]! & 0x0c, 0);
      });

  test('unknown chunks and what is behind it go; without them it is the same', async () => {
    const webp = await gradient().webp().withIccProfile('p3').toBuffer();
    assert.is(withoutLocation(webp, MediaType.WEBP), webp);
    assert.equal(await stripped(withWebpChunk(webp, 'PRVT', Buffer.from(SECRET))), webp);
    assert.equal(await stripped(Buffer.concat([webp, Buffer.from(SECRET)])), webp);
  });

  test('what is not well-formed is refused', async () => {
    const webp = await gradient().webp().toBuffer();
    const empty = Buffer.from(webp.subarray(0, 12));
    empty.writeUInt32LE(4, 4);
    for (const body of [webp.subarray(0, -4), webp.subarray(0, 20), empty])
      assert.is(
        code(() => withoutLocation(body, MediaType.WEBP)),
        'UNDECODABLE',
      );
  });
});

describe('location taken out of AVIF and HEIC', (test) => {
  const EXIF = {
    IFD0: { Make: 'A maker of cameras', Copyright: 'Somebody' },
    IFD3: { GPSLatitudeRef: 'N', GPSLatitude: '51/1 28/1 4012/100', GPSProcessingMethod: SECRET },
  };
  const avif = (xmpPacket: Buffer) =>
    gradient().avif({ effort: 0 }).withExif(EXIF).withXmp(xmpPacket.toString()).toBuffer();
  const box = (type: string, payload: Buffer): Buffer => {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(8 + payload.length);
    head.write(type, 4, 'latin1');
    return Buffer.concat([head, payload]);
  };

  test('GPS goes and nothing moves; XMP with a place goes, other XMP stays', async () => {
    const body = await avif(XMP_PLACE);
    assert.ok(readExif((await sharp(body).metadata()).exif!).GPSInfo !== undefined);
    const out = await stripped(body);
    assert.is(out.length, body.length);
    const { exif, xmp: left } = await sharp(out).metadata();
    const after = readExif(exif!);
    assert.is(after.GPSInfo, undefined);
    assert.is(after.Image?.Make, 'A maker of cameras');
    assert.is(left?.toString().trim() ?? '', '');
    const other = await stripped(await avif(XMP_OTHER));
    assert.ok((await sharp(other).metadata()).xmp?.includes('dc:creator="Somebody"'));
  });

  test('without anything to hide it is the same', async () => {
    for (const image of [gradient(), gradient().ensureAlpha(0.5), gradient().withIccProfile('p3')]) {
      const body = await image.avif({ effort: 0 }).toBuffer();
      assert.is(withoutLocation(body, MediaType.AVIF), body);
    }
  });

  test('damaged EXIF becomes zeros', async () => {
    const body = await avif(XMP_OTHER);
    const order = ['II*\0', 'MM\0*'].find((mark) => body.includes(mark, 0, 'latin1'))!;
    body[body.indexOf(order, 0, 'latin1')] = 77;
    body[body.indexOf(order.slice(1), 0, 'latin1')] = 78;
    const out = withoutLocation(body, MediaType.AVIF);
    assert.is(out.includes(SECRET), false);
    assert.is(out.includes('A maker of cameras'), false);
    assert.is(await pixelsOf(out), await pixelsOf(body));
    assert.is(withoutLocation(out, MediaType.AVIF), out);
  });

  test('what no item of pixels owns becomes zeros: boxes behind it, and bytes between', async () => {
    const plain = await gradient().avif({ effort: 0 }).toBuffer();
    for (const type of ['mpvd', 'uuid', 'free', 'skip', 'mdat']) {
      const out = await stripped(Buffer.concat([plain, box(type, Buffer.from(`a film ${SECRET}`))]));
      assert.equal(out.subarray(0, plain.length), plain, type);
      assert.ok(out.subarray(plain.length + 8).every((byte) => byte === 0));
    }
  });

  test('a HEIC is taken apart in the same way', async () => {
    // Nothing here can decode one; its boxes are the same.
    const text = (await avif(XMP_PLACE)).toString('latin1');
    const heic = Buffer.from(text.replaceAll('avif', 'heic').replaceAll('av01', 'hvc1'), 'latin1');
    assert.is(sniff(heic), MediaType.HEIC);
    const out = withoutLocation(heic, MediaType.HEIC);
    assert.is(out.includes(SECRET), false);
    assert.ok(out.includes('A maker of cameras'));
    assert.is(withoutLocation(out, MediaType.HEIC), out);
  });

  test('what is not well-formed, or a sequence, is refused', async () => {
    const body = await avif(XMP_OTHER);
    const meta = body.indexOf('meta') - 4;
    const cuts = [12, meta + 20, body.length - 1, body.length >> 1].map((end) => body.subarray(0, end));
    const renamed = (from: string, to: string) =>
      Buffer.from(body.toString('latin1').replace(from, to), 'latin1');
    const others = [
      renamed('iloc', 'ilox'),
      renamed('iinf', 'iinx'),
      renamed('mdat', 'mdax'),
      renamed('infe', 'infx'),
    ];
    for (const wrong of [...cuts, ...others])
      assert.is(
        code(() => withoutLocation(wrong, MediaType.AVIF)),
        'UNDECODABLE',
      );
    const places = body.indexOf('iloc');
    for (let at = places + 4; at < places + 80; at++)
      for (const bits of [0x81, 0x06, 0xff]) {
        const flipped = Buffer.from(body);
        flipped[at]! ^= bits;
        const end = code(() => assert.is(withoutLocation(flipped, MediaType.AVIF).includes(SECRET), false));
        assert.ok(['OK', 'UNDECODABLE'].includes(end), end);
      }
    const moving = Buffer.concat([body, box('moov', Buffer.alloc(8))]);
    assert.is(
      code(() => withoutLocation(moving, MediaType.AVIF)),
      'UNSUPPORTED_MEDIA',
    );
  });
});

describe('location taken out of other kinds', (test) => {
  test('GIF: extensions of programs and comments with places go, loops stay', async () => {
    const frames = await Promise.all(
      [1, 2].map((i) =>
        gradient()
          .linear(1 / i, 0)
          .png()
          .toBuffer(),
      ),
    );
    const gif = await sharp(frames, { join: { animated: true } })
      .gif({ loop: 3 })
      .toBuffer();
    assert.is(withoutLocation(gif, MediaType.GIF), gif);
    const at = gif.indexOf(Buffer.from([0x21, 0xff, 0x0b]));
    assert.ok(at > 0);
    const put = (block: Buffer) => Buffer.concat([gif.subarray(0, at), block, gif.subarray(at)]);
    const blocks = (text: Buffer) => Buffer.concat([Buffer.from([text.length]), text, Buffer.from([0])]);
    const application = Buffer.concat([
      Buffer.from([0x21, 0xff, 11]),
      Buffer.from('XMP DataXMP'),
      blocks(Buffer.from(SECRET)),
    ]);
    assert.equal(await stripped(put(application)), gif);
    assert.equal(
      await stripped(put(Buffer.concat([Buffer.from([0x21, 0xfe]), blocks(Buffer.from(`City: ${SECRET}`))]))),
      gif,
    );
    const comment = put(Buffer.concat([Buffer.from([0x21, 0xfe]), blocks(Buffer.from('made by hand'))]));
    assert.is(withoutLocation(comment, MediaType.GIF), comment);
    assert.equal(await stripped(Buffer.concat([gif, Buffer.from(SECRET)])), gif);
    assert.is(
      code(() => withoutLocation(gif.subarray(0, -3), MediaType.GIF)),
      'UNDECODABLE',
    );
    assert.is(
      code(() => withoutLocation(gif.subarray(0, 10), MediaType.GIF)),
      'UNDECODABLE',
    );
  });

  test('kinds of which nothing is known are refused, not passed', () => {
    for (const kind of [MediaType.UNKNOWN, MediaType.TIFF, MediaType.JXL, MediaType.SVG, MediaType.ICO])
      assert.is(
        code(() => withoutLocation(Buffer.alloc(100), kind)),
        'UNSUPPORTED_MEDIA',
      );
    const bitmap = Buffer.alloc(100);
    assert.is(withoutLocation(bitmap, MediaType.BMP), bitmap);
  });
});

describe('location taken out of real pictures', (test) => {
  if (!existsSync(PICTURES)) {
    test.skip('the collection of pictures is not here');
    return;
  }
  const BROKEN = new Set(['corrupt-header.jpg', 'truncated.jpg', 'truncated.png']);
  for (const file of readdirSync(PICTURES)) {
    const body = readFileSync(join(PICTURES, file));
    const kind = sniff(body);
    if (![MediaType.JPEG, MediaType.PNG, MediaType.WEBP, MediaType.GIF, MediaType.AVIF].includes(kind as 1))
      continue;
    if (file === 'giant-image.jpg') continue;
    test(file, async () => {
      if (BROKEN.has(file)) {
        assert.is(
          code(() => withoutLocation(body, kind)),
          'UNDECODABLE',
        );
        return;
      }
      const out = await stripped(body);
      const { exif } = await sharp(out).metadata();
      if (exif !== undefined) assert.is(readExif(exif).GPSInfo, undefined);
      if (kind !== MediaType.JPEG) return;
      // And with a place that it did not have.
      const placed = await stripped(
        withExif(body, exifBlock({ [GPS]: { directory: GPS_TAGS } }, { order: 'MM' })),
      );
      assert.is(placed.includes(SECRET), false);
    });
  }
}, 60_000);
