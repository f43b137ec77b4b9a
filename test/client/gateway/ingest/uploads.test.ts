import { createHash, randomBytes } from 'node:crypto';
import readExif from 'exif-reader';
import sharp from 'sharp';
import { FormData } from 'undici';
import * as assert from 'uvu/assert';
import { UNLIMITED, type UploadPolicy } from '../../../../common/config-uploads.ts';
import { tokenOf } from '../../../../common/secrets.ts';
import { Op } from '../../../../common/wire/messages.ts';
import { exifBlock, GPS, GPS_TAGS, ORIENTATION, withExif } from '../../../kit/exif-block.ts';
import { FakeGateway, type HttpReply, TEST_TOKEN } from '../../../kit/fake-gateway.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const TEXT = 'a-token-with-a-policy-of-its-own';
const HEADERS = { authorization: `Bearer ${TEXT}` };
const SECRET = 'SECRETPLACE';

function open(t: TestContext, policy: Partial<UploadPolicy>): Promise<FakeGateway> {
  const token = tokenOf(TEXT, { name: 'client', policy: { ...UNLIMITED, name: 'clean', ...policy } });
  return FakeGateway.open(t, { tokens: [TEST_TOKEN, token] });
}

const post = (gw: FakeGateway, body: Buffer, headers: Record<string, string> = {}): Promise<HttpReply> =>
  gw.http('POST', '/images', { headers: { ...HEADERS, ...headers }, body });

const puts = (gw: FakeGateway) => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.PUT), 0);
const sha1 = (body: Buffer) => createHash('sha1').update(body).digest('hex');
const noise = (format: 'jpeg' | 'png') =>
  sharp(randomBytes(60 * 40 * 3), { raw: { width: 60, height: 40, channels: 3 } })
    .toFormat(format)
    .toBuffer();

/** A photograph with a place and an orientation. */
async function photograph(orientation = 6): Promise<{ plain: Buffer; body: Buffer }> {
  const plain = await noise('jpeg');
  const tags = {
    271: { ascii: 'A maker' },
    [ORIENTATION]: { short: orientation },
    [GPS]: { directory: GPS_TAGS },
  };
  return { plain, body: withExif(plain, exifBlock(tags, { order: 'MM' })) };
}

describe('pictures are made as a policy wants them', (test) => {
  test('location: what is stored and served does not have it, and the answer tells', async (t) => {
    const gw = await open(t, { stripLocation: true });
    const { plain, body } = await photograph();
    const reply = await post(gw, body);
    assert.is(reply.status, 201);
    assert.equal(reply.json['changed'], ['location']);
    const got = await gw.get(`/images/${reply.json['name']}`);
    assert.is(got.status, 200);
    assert.is(got.body.includes(SECRET), false);
    assert.is(reply.json['sha1'], sha1(got.body));
    assert.is(reply.json['size'], got.body.length);
    const { exif, orientation } = await sharp(got.body).metadata();
    assert.is(readExif(exif!).GPSInfo, undefined);
    assert.is(orientation, 6);
    assert.equal(await sharp(got.body).raw().toBuffer(), await sharp(plain).raw().toBuffer());
    // Deduplication sees what is stored.
    const again = await post(gw, got.body);
    assert.is(again.json['deduplicated'], true);
    assert.is('changed' in again.json, false);
    assert.is(sha1((await gw.get(`/images/${again.json['name']}`)).body), sha1(got.body));
    // Another token has it stored as it is.
    const asItIs = await gw.post(body);
    assert.is(asItIs.json['sha1'], sha1(body));
  });

  test('orientation: turned by a decoder in a process of its own', async (t) => {
    const gw = await open(t, { orient: true });
    const { body } = await photograph();
    const reply = await post(gw, body);
    assert.is(reply.status, 201, reply.body.toString());
    assert.equal(reply.json['changed'], ['orientation']);
    assert.equal([reply.json['width'], reply.json['height']], [40, 60]);
    const got = await gw.get(`/images/${reply.json['name']}`);
    const { width, height, orientation, exif } = await sharp(got.body).metadata();
    assert.equal([width, height, orientation], [40, 60, 1]);
    assert.ok(readExif(exif!).GPSInfo !== undefined, 'this policy leaves the place');
    // One that is upright is stored as it is.
    const upright = await photograph(1);
    const same = await post(gw, upright.body);
    assert.is(same.json['sha1'], sha1(upright.body));
    assert.is('changed' in same.json, false);
  });

  test('orientation: the thumbnail, which lies on its side, goes', async (t) => {
    const gw = await open(t, { orient: true });
    const plain = await noise('jpeg');
    const small = await sharp(plain).resize(16).jpeg().toBuffer();
    const next = { 259: { short: 6 }, 513: { long: 8 }, 514: { long: small.length } };
    const tags = { [ORIENTATION]: { short: 6 }, 271: { ascii: 'A maker' } };
    // Where the thumbnail begins is behind all directories.
    const length = exifBlock(tags, { order: 'II', next }).length;
    const linked = { ...next, 513: { long: length } };
    const block = Buffer.concat([exifBlock(tags, { order: 'II', next: linked }), small]);
    const body = withExif(plain, block);
    assert.ok(readExif((await sharp(body).metadata()).exif!).Thumbnail !== undefined);
    const reply = await post(gw, body);
    const got = await gw.get(`/images/${reply.json['name']}`);
    const exif = readExif((await sharp(got.body).metadata()).exif!);
    assert.is(exif.Thumbnail, undefined);
    assert.is(exif.Image?.Make, 'A maker');
  });

  test('both, with a key: a repeat is the same picture', async (t) => {
    const gw = await open(t, {
      orient: true,
      stripLocation: true,
      quota: { bytes: 1_000_000, period: 'day' },
    });
    const { body } = await photograph(8);
    const first = await post(gw, body, { 'idempotency-key': 'k' });
    assert.equal(first.json['changed'], ['orientation', 'location']);
    assert.is((await post(gw, body, { 'idempotency-key': 'k' })).json['name'], first.json['name']);
    const got = await gw.get(`/images/${first.json['name']}`);
    assert.is(got.body.includes(SECRET), false);
    assert.is((await sharp(got.body).metadata()).orientation, 1);
  });

  test('a large one, and what held memory meanwhile is free again', async (t) => {
    const gw = await open(t, { orient: true, stripLocation: true });
    const raw = { width: 1300, height: 1100, channels: 3 } as const;
    const plain = await sharp(randomBytes(raw.width * raw.height * 3), { raw })
      .jpeg({ quality: 95 })
      .toBuffer();
    assert.ok(plain.length > 1 << 20);
    const placed = (orientation: number) =>
      withExif(
        plain,
        exifBlock({ [ORIENTATION]: { short: orientation }, [GPS]: { directory: GPS_TAGS } }, { order: 'II' }),
      );
    for (const [body, status] of [
      [placed(1), 201],
      [placed(1).subarray(0, 1_000_000), 422],
      [placed(6).subarray(0, 1_000_000), 422],
    ] as const) {
      const reply = await post(gw, body);
      assert.is(reply.status, status);
      if (status !== 201) continue;
      const got = await gw.get(`/images/${reply.json['name']}`);
      assert.is(sha1(got.body), reply.json['sha1']);
      assert.equal(await sharp(got.body).raw().toBuffer(), await sharp(plain).raw().toBuffer());
    }
    const metrics = (await gw.get('/metrics')).body.toString();
    assert.match(metrics, /^tfs_gateway_uploads_in_flight_bytes\{[^}]*\} 0$/m);
  });

  test('digests are those of what was sent', async (t) => {
    const gw = await open(t, { stripLocation: true });
    const { body } = await photograph();
    const digest = createHash('sha256').update(body).digest('base64');
    assert.is((await post(gw, body, { 'content-digest': `sha-256=:${digest}:` })).status, 201);
  });

  test('what cannot be cleaned is refused, and nothing stored', async (t) => {
    const gw = await open(t, { stripLocation: true });
    const { body } = await photograph();
    const cut = await post(gw, body.subarray(0, -100));
    assert.is(cut.status, 422);
    assert.is(cut.json['code'], 'UNDECODABLE');
    assert.match(String(cut.json['message']), 'malformed: it ends early; nothing was stored');
    const tiff = await sharp(await noise('png'))
      .tiff()
      .toBuffer();
    const refused = await post(gw, tiff);
    assert.is(refused.status, 415);
    assert.match(
      String(refused.json['message']),
      'possible for JPEG, PNG, WebP, GIF, AVIF, HEIC and BMP only',
    );
    assert.is(puts(gw), 0);
    assert.is((await gw.post(tiff)).status, 201);
  });

  test('what cannot be decoded is not turned, and not stored', async (t) => {
    const gw = await open(t, { orient: true });
    const { body } = await photograph();
    const cut = await post(gw, body.subarray(0, body.length - 700));
    assert.is(cut.status, 422);
    assert.is(puts(gw), 0);
  });

  test('each file of a form by itself', async (t) => {
    const gw = await open(t, { stripLocation: true });
    const { body } = await photograph();
    const png = await noise('png');
    const form = new FormData();
    for (const file of [body, body.subarray(0, -50), png])
      form.append('image', new Blob([new Uint8Array(file)]), 'p');
    const reply = await gw.http('POST', '/images', { headers: HEADERS, body: form });
    assert.is(reply.status, 207);
    const results = JSON.parse(reply.body.toString()) as Record<string, unknown>[];
    assert.equal(
      results.map(({ changed, code }) => code ?? changed ?? 'as it is'),
      [['location'], 'UNDECODABLE', 'as it is'],
    );
    assert.is(results[2]!['sha1'], sha1(png));
  });

  test('the size that a policy allows is that of what is stored, too', async (t) => {
    const { body } = await photograph();
    // Turned it is encoded in a quality that takes more bytes.
    const gw = await open(t, { orient: true, maxBytes: body.length });
    const reply = await post(gw, body);
    assert.is(reply.status, 413);
    assert.match(String(reply.json['message']), 'turned upright the picture would have');
  });
}, 60_000);
