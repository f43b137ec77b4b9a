import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { FakeGateway, testImages } from '../../../kit/fake-gateway.ts';
import { ROOT } from '../../../kit/run-from.ts';
import { describe } from '../../../kit/suite.ts';

const SAMPLE = readFileSync(join(ROOT, 'docs', 'sample.jpg'));
const MIB = 1024 * 1024;

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

/** A PNG of one bit a pixel, as large as its header says; its rows are really there when `rows` is as many. */
function png(width: number, height: number, { rows = 0, extra = [] as Buffer[] } = {}): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([1, 0, 0, 0, 0], 8);
  const bytes = deflateSync(Buffer.alloc((Math.ceil(width / 8) + 1) * rows));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    ...extra,
    chunk('IDAT', bytes),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Text and colour profiles of a PNG are compressed, and may be a thousand times what they seem to be. */
const inflated = (type: 'zTXt' | 'iCCP', bytes: number): Buffer =>
  chunk(type, Buffer.concat([Buffer.from('x\0\0', 'latin1'), deflateSync(Buffer.alloc(bytes))]));

async function bombs(): Promise<ReadonlyMap<string, Buffer>> {
  const frame = Buffer.alloc(64 * 64 * 3, 200);
  const gif = await sharp(Buffer.concat(Array.from({ length: 3_000 }, () => frame)), {
    raw: { width: 64, height: 64 * 3_000, channels: 3, pageHeight: 64 },
  })
    .gif({ effort: 1 })
    .toBuffer();
  const jpeg = Buffer.from(SAMPLE);
  const at = jpeg.indexOf(Buffer.from([0xff, 0xc0])) + 5;
  jpeg.writeUInt16BE(65_500, at);
  jpeg.writeUInt16BE(65_500, at + 2);
  return new Map([
    ['280 megapixels that are there', png(20_000, 14_000, { rows: 14_000 })],
    ['a header that says 2^31 x 2^31', png(0x7fff_ffff, 0x7fff_ffff, { rows: 4 })],
    ['a header that says one pixel wide and endlessly high', png(1, 0x7fff_ffff, { rows: 4 })],
    ['a JPEG that says 65,500 x 65,500', jpeg],
    ['a text of 512 MB in a PNG', png(8, 8, { rows: 8, extra: [inflated('zTXt', 512 * MIB)] })],
    ['a colour profile of 512 MB in a PNG', png(8, 8, { rows: 8, extra: [inflated('iCCP', 512 * MIB)] })],
    ['3,000 frames', gif],
  ]);
}

describe('pictures that are made to do harm', (test) => {
  test('cost neither memory nor time of the gateway, and others are served beside them', async (t) => {
    const gw = await FakeGateway.open(t, { images: testImages(t, { decodeMsMax: 20_000 }) });
    const good = await gw.store(SAMPLE);
    await gw.get(`/images/${good}?w=30&fm=webp`);
    const names = new Map<string, string>();
    for (const [what, bytes] of await bombs()) names.set(what, await gw.store(bytes));
    global.gc?.();
    const before = process.memoryUsage.rss();
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage.rss());
    }, 5);
    t.defer(() => clearInterval(watch));
    let isOver = false;
    let served = 0;
    const beside = (async () => {
      while (!isOver) {
        const got = await gw.get(`/images/${good}`);
        assert.is(got.status, 200);
        assert.equal(got.body, SAMPLE);
        served++;
      }
    })();
    for (const [what, name] of names) {
      for (const fm of ['webp', 'jpg']) {
        const got = await gw.get(`/images/${name}?w=60&h=60&fm=${fm}`);
        // What a limit catches is refused; what a decoder can skip is a picture like others.
        if (got.status === 200) {
          const { width, pages = 1 } = await sharp(got.body, { pages: -1 }).metadata();
          assert.ok(width <= 60, what);
          assert.ok(pages <= 200, `${what}: ${pages} frames`);
        } else {
          assert.is(got.status, 422, `${what}: ${got.status} ${got.body.toString()}`);
          assert.match(String(got.json['message']), /pixels|megapixels|cannot be decoded/, what);
        }
        if (/280|2\^31|65,500|endlessly/.test(what)) assert.is(got.status, 422, what);
      }
    }
    isOver = true;
    await beside;
    assert.ok(served > 0);
    const grown = Math.round((most - before) / MIB);
    assert.ok(grown < 200, `the gateway grew by ${grown} MiB`);
    const fresh = await gw.get(`/images/${good}?w=31&fm=webp`);
    assert.is(fresh.status, 200, 'renditions are made as before');
  });
}, 180_000);
