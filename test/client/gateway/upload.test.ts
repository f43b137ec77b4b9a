import { execFile, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { FormData } from 'undici';
import * as assert from 'uvu/assert';
import { TfsError } from '../../../common/errors.ts';
import { Op } from '../../../common/wire/messages.ts';
import { AUTH, FakeGateway, type HttpReply, png, TEST_TOKEN } from '../../kit/fake-gateway.ts';
import { describe } from '../../kit/suite.ts';

const hashOf = (algorithm: string, b: Buffer, encoding: 'hex' | 'base64' = 'hex') =>
  createHash(algorithm).update(b).digest(encoding);
const picture = (size = 0) => png(randomBytes(16), size);
const PICTURES = join(import.meta.dirname, '..', '..', '..', '..', 'shared', 'images');

const stored = (gw: FakeGateway) => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.PUT), 0);

function form(...files: readonly Buffer[]): FormData {
  const data = new FormData();
  data.set('comment', 'a field that is no file');
  for (const [i, file] of files.entries())
    data.append('image', new Blob([new Uint8Array(file)]), `p${i}.png`);
  return data;
}

const postForm = (gw: FakeGateway, data: FormData, path = '/images', headers = {}): Promise<HttpReply> =>
  gw.http('POST', path, { headers: { ...AUTH, ...headers }, body: data });

describe('POST of a raw body', (test) => {
  test('answers with all that is known of the picture', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = await sharp({ create: { width: 33, height: 21, channels: 3, background: 'blue' } })
      .webp()
      .toBuffer();
    const got = await gw.post(body, { headers: { 'content-type': 'text/html' } });
    assert.is(got.status, 201);
    const name = String(got.json['name']);
    assert.equal(got.json, {
      name,
      url: `${gw.url}/images/${name}`,
      size: body.length,
      sha1: hashOf('sha1', body),
      mediaType: 'image/webp',
      width: 33,
      height: 21,
      deduplicated: false,
      replicas: 3,
      durable: true,
    });
    assert.is(got.headers['location'], `/images/${name}`);
    const again = await gw.post(body);
    assert.is(again.json['deduplicated'], true);
    assert.is.not(again.json['name'], name);
  });

  test('a suffix becomes part of the address', async (t) => {
    const gw = await FakeGateway.open(t);
    const got = await gw.post(picture(), { path: '/images?suffix=.jpg' });
    assert.is(got.headers['location'], `/images/${String(got.json['name'])}.jpg`);
    assert.is((await gw.get(String(got.headers['location']))).status, 200);
    for (const bad of ['a/b', '%00', '%0d%0aX:1', 'a%20b', 'x'.repeat(65), '%3Cb%3E'])
      assert.is((await gw.post(picture(), { path: `/images?suffix=${bad}` })).status, 400, bad);
  });

  test('the public address of the gateway is used where it is set', async (t) => {
    const gw = await FakeGateway.open(t, { publicUrl: 'https://pictures.example/store/' });
    const { json, headers } = await gw.post(picture());
    assert.is(json['url'], `https://pictures.example/store/images/${String(json['name'])}`);
    assert.is(headers['location'], `/store/images/${String(json['name'])}`);
  });

  test('a key makes a repeat safe, for the same content only', async (t) => {
    const gw = await FakeGateway.open(t);
    const [a, b] = [picture(), picture()];
    const headers = { 'idempotency-key': 'order 66' };
    const first = await gw.post(a, { headers });
    const replay = await gw.post(a, { headers });
    assert.is(replay.status, 201);
    assert.equal(replay.json, first.json);
    const other = await gw.post(b, { headers });
    assert.is.not(other.json['name'], first.json['name']);
    assert.is(other.json['sha1'], hashOf('sha1', b));
    for (const key of ['', 'x'.repeat(256), 'caf\u00e9'])
      assert.is((await gw.post(a, { headers: { 'idempotency-key': key } })).status, 400, key);
  });

  test('digests that the client sends are checked', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(3000);
    const wrong = picture(3000);
    const cases: [string, (b: Buffer) => string][] = [
      ['content-md5', (b) => hashOf('md5', b, 'base64')],
      ['digest', (b) => `SHA=${hashOf('sha1', b, 'base64')}`],
      ['digest', (b) => `unixsum=1, sha-256=${hashOf('sha256', b, 'base64')}`],
      ['content-digest', (b) => `sha-512=:${hashOf('sha512', b, 'base64')}:`],
    ];
    for (const [header, value] of cases) {
      assert.is((await gw.post(body, { headers: { [header]: value(body) } })).status, 201, header);
      const before = stored(gw);
      const refused = await gw.post(body, { headers: { [header]: value(wrong) } });
      assert.is(refused.status, 400, header);
      assert.is(refused.json['code'], 'DIGEST_MISMATCH');
      assert.is(stored(gw), before);
    }
    for (const [header, value] of [
      ['content-md5', 'abc'],
      ['digest', 'sha-256=!!'],
      ['content-digest', 'sha-256=abc'],
    ] as const)
      assert.is((await gw.post(body, { headers: { [header]: value } })).json['code'], 'BAD_REQUEST', header);
    assert.is((await gw.post(body, { headers: { digest: 'adler32=03da0195' } })).status, 201);
  });

  test('a chunked body is as good as one of declared length', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(300_000);
    async function* pieces() {
      for (let at = 0; at < body.length; at += 70_000) yield body.subarray(at, at + 70_000);
    }
    const got = await gw.http('POST', '/images', { headers: AUTH, body: pieces() });
    assert.is(got.status, 201);
    assert.ok((await gw.get(`/images/${String(got.json['name'])}`)).body.equals(body));
  });

  const curl = spawnSync('curl', ['--version']).status === 0 ? test : test.skip;
  curl('curl, with Expect: 100-continue, as in the README', async (t) => {
    const gw = await FakeGateway.open(t);
    const run = promisify(execFile);
    const file = join(tmpdir(), `tfs-upload-${process.pid}.png`);
    t.defer(() => rm(file, { force: true }));
    const body = picture(2_500_000);
    await writeFile(file, body);
    const auth = `Authorization: Bearer ${TEST_TOKEN.text}`;
    for (const args of [
      ['--data-binary', `@${file}`],
      ['-F', `image=@${file}`],
      ['-T', file, '-X', 'POST'],
    ]) {
      const { stdout } = await run('curl', [
        '-sS',
        '-H',
        auth,
        '-H',
        'Expect: 100-continue',
        ...args,
        `${gw.url}/images`,
      ]);
      assert.is((JSON.parse(stdout) as { sha1: string }).sha1, hashOf('sha1', body), args.join(' '));
    }
  });

  test('a client that waits for "100 Continue" is refused before it sends anything', async (t) => {
    const gw = await FakeGateway.open(t);
    const head = (length: number, auth: string) =>
      `POST /images HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: ${length}\r\nExpect: 100-continue\r\n\r\n`;
    const token = `Authorization: Bearer ${TEST_TOKEN.text}\r\n`;
    assert.match(await gw.raw([head(100, '')]), /^HTTP\/1\.1 401 /);
    assert.match(await gw.raw([head(100_000_000, token)]), /^HTTP\/1\.1 413 /);
    const body = picture();
    assert.match(
      await gw.raw([head(body.length, token), body], { quietMs: 700 }),
      /^HTTP\/1\.1 100 Continue[\s\S]*HTTP\/1\.1 201 /,
    );
  });

  test('what is no picture is 415, unless any type is allowed', async (t) => {
    const strict = await FakeGateway.open(t);
    for (const body of [
      'hello world',
      '<html></html>',
      '%PDF-1.7',
      '{"a":1}',
      'BM and more text that is long',
    ])
      assert.is((await strict.post(Buffer.from(body))).json['code'], 'UNSUPPORTED_MEDIA', body);
    assert.is(stored(strict), 0);
    const lax = await FakeGateway.open(t, { anyType: true });
    const got = await lax.post(Buffer.from('hello world'));
    assert.is(got.status, 201);
    assert.is(got.json['mediaType'], 'application/octet-stream');
    assert.is(got.json['width'], null);
  });

  test('empty is 400', async (t) => {
    const gw = await FakeGateway.open(t);
    assert.is((await gw.post(Buffer.alloc(0))).json['code'], 'EMPTY_BODY');
    const got = await gw.http('POST', '/images', { headers: AUTH });
    assert.is(got.json['code'], 'EMPTY_BODY');
  });

  test('no token and a wrong one are 401', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${TEST_TOKEN.text}` },
      { authorization: 'Bearer' },
    ]) {
      const got = await gw.http('POST', '/images', { headers, body: picture() });
      assert.is(got.status, 401);
      assert.is(got.json['code'], 'UNAUTHORIZED');
      assert.match(String(got.headers['www-authenticate']), /^Bearer/);
    }
    assert.is(stored(gw), 0);
  });

  test('servers that cannot store are 503 with Retry-After', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const server of gw.cluster.servers)
      server.refusePut = new TfsError('NO_WRITE_SET', 'two of three are gone');
    const got = await gw.post(picture());
    assert.is(got.status, 503);
    assert.is(got.json['code'], 'NO_WRITE_SET');
    assert.ok(Number(got.headers['retry-after']) >= 1);
  });
});

describe('uploads that are too much or too slow', (test) => {
  test('a declared length over the limit is refused at once', async (t) => {
    const gw = await FakeGateway.open(t, { pictureBytesMax: 100_000 });
    const head = `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\nContent-Length: 100001\r\n\r\n`;
    const got = await gw.raw([head]);
    assert.match(got, /^HTTP\/1\.1 413 /);
    assert.match(got, /\r\nConnection: close\r\n/);
    assert.match(got, /"code":"TOO_LARGE"/);
  });

  test('a body of exactly the limit is stored', async (t) => {
    const gw = await FakeGateway.open(t, { pictureBytesMax: 100_000 });
    assert.is((await gw.post(picture(100_000))).status, 201);
    assert.is((await gw.post(picture(100_001))).status, 413);
  });

  test('413 while a chunked body streams; the connection is not read to its end', async (t) => {
    const gw = await FakeGateway.open(t, { pictureBytesMax: 1 << 20 });
    const total = 200 << 20;
    const result = await new Promise<{ got: string; sent: number }>((resolve) => {
      const socket = connect(gw.port, '127.0.0.1');
      let got = '';
      let sent = 0;
      const chunk = Buffer.alloc(64 << 10, 1);
      const finish = () => {
        socket.destroy();
        resolve({ got, sent });
      };
      const pump = () => {
        while (sent < total && !socket.destroyed) {
          sent += chunk.length;
          socket.write(`${chunk.length.toString(16)}\r\n`);
          socket.write(chunk);
          if (!socket.write('\r\n')) {
            socket.once('drain', pump);
            return;
          }
        }
      };
      socket.setEncoding('latin1');
      socket.on('data', (data) => {
        got += data;
      });
      socket.on('close', finish).on('error', () => undefined);
      socket.write(
        `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\nTransfer-Encoding: chunked\r\n\r\n`,
      );
      pump();
    });
    assert.match(result.got, /^HTTP\/1\.1 413 /);
    assert.match(result.got, /\r\nConnection: close\r\n/);
    assert.ok(result.sent < total / 4, `${result.sent} bytes were taken`);
    assert.is(stored(gw), 0);
  });

  test('a body that ends early stores nothing and is told so', async (t) => {
    const gw = await FakeGateway.open(t);
    const head = `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\n`;
    const cut = await gw.raw([`${head}Content-Length: 5000\r\n\r\n`, picture(3000)], { end: true });
    assert.match(cut, /^HTTP\/1\.1 400 [\s\S]*"code":"BODY_CUT"/);
    const chunked = await gw.raw(
      [`${head}Transfer-Encoding: chunked\r\n\r\nbb8\r\n`, picture(3000), '\r\n'],
      { end: true },
    );
    assert.match(chunked, /^HTTP\/1\.1 400 [\s\S]*"code":"BODY_CUT"/);
    const boundary = `${head}Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000\r\n\r\n`;
    const part = '--b\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n\r\n';
    const form = await gw.raw([boundary, part, picture(3000), '\r\n', part], { end: true });
    assert.match(form, /^HTTP\/1\.1 400 [\s\S]*"code":"BODY_CUT"/);
    assert.is(stored(gw), 0);
  });

  test('an upload that stops, and one that trickles, are 408', async (t) => {
    const limits = { idleMsMax: 400, rateGraceMs: 900, bytesPerSecondMin: 1000 };
    const gw = await FakeGateway.open(t, { uploads: limits });
    const head = `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\nContent-Length: 50000\r\n\r\n`;
    const idle = await gw.raw([head, picture(1000)]);
    assert.match(idle, /^HTTP\/1\.1 408 [\s\S]*"code":"BODY_TIMEOUT"/);
    const trickled = await new Promise<string>((resolve) => {
      const socket = connect(gw.port, '127.0.0.1');
      let got = '';
      socket.setEncoding('latin1').on('data', (data) => {
        got += data;
      });
      socket.write(head);
      const timer = setInterval(() => socket.write('x'), 50);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        clearInterval(timer);
        resolve(got);
      });
      socket.on('end', () => socket.destroy());
    });
    assert.match(trickled, /^HTTP\/1\.1 408 [\s\S]*"code":"BODY_TIMEOUT"/);
    assert.is(stored(gw), 0);
  });

  test('uploads share a bound on memory, and leave it as they found it', async (t) => {
    const gw = await FakeGateway.open(t, { uploads: { bytesInFlightMax: 100_000 } });
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    for (const server of gw.cluster.servers) server.before = () => held;
    const first = gw.post(picture(80_000));
    while (stored(gw) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const second = await gw.post(picture(30_000));
    assert.is(second.status, 503);
    assert.is(second.json['code'], 'OVERLOADED');
    assert.ok(second.headers['retry-after']);
    release();
    assert.is((await first).status, 201);
    assert.is((await gw.post(picture(90_000))).status, 201);
    await gw.raw(
      [
        `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\nContent-Length: 90000\r\n\r\nabc`,
      ],
      { end: true },
    );
    assert.is((await gw.post(picture(100_000))).status, 201);
  });
});

describe('POST of a form', (test) => {
  test('one file is answered like a raw body', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(100_000);
    const got = await postForm(gw, form(body), '/images?suffix=.png');
    assert.is(got.status, 201);
    assert.is(got.json['sha1'], hashOf('sha1', body));
    assert.is(got.json['width'], 3);
    assert.ok((await gw.get(String(got.headers['location']))).body.equals(body));
  });

  test('many files are answered in their order; 207 when one is not stored', async (t) => {
    const gw = await FakeGateway.open(t);
    const files = Array.from({ length: 12 }, (_, i) => picture(100 + i * 20_000));
    const all = await postForm(gw, form(...files));
    assert.is(all.status, 201);
    const results = all.json as unknown as Record<string, unknown>[];
    assert.equal(
      results.map((result) => result['sha1']),
      files.map((file) => hashOf('sha1', file)),
    );
    const some = await postForm(
      gw,
      form(files[0]!, Buffer.from('not a picture'), Buffer.alloc(0), picture()),
    );
    assert.is(some.status, 207);
    const mixed = some.json as unknown as Record<string, unknown>[];
    assert.equal(
      mixed.map((result) => result['code'] ?? 'stored'),
      ['stored', 'UNSUPPORTED_MEDIA', 'EMPTY_BODY', 'stored'],
    );
    assert.is(mixed[0]!['deduplicated'], true);
  });

  test('each part of a form has a key of its own', async (t) => {
    const gw = await FakeGateway.open(t);
    const twice = picture();
    const headers = { 'idempotency-key': 'k' };
    const first = await postForm(gw, form(twice, twice), '/images', headers);
    const again = await postForm(gw, form(twice, twice), '/images', headers);
    assert.equal(again.json, first.json);
    const [a, b] = first.json as unknown as Record<string, unknown>[];
    assert.is.not(a!['name'], b!['name']);
  });

  test('malformed forms are 400, and too many or too large files 413; nothing is stored', async (t) => {
    const gw = await FakeGateway.open(t, { pictureBytesMax: 100_000 });
    const send = (type: string, body: string | Buffer) =>
      gw.http('POST', '/images', { headers: { ...AUTH, 'content-type': type }, body });
    const part = (name: string) =>
      `--b\r\nContent-Disposition: form-data; name="${name}"; filename="x.png"\r\n\r\n`;
    const file = picture().toString('latin1');
    const good = `${part('a')}${file}\r\n--b--\r\n`;
    const B = 'multipart/form-data; boundary=b';
    const latin1 = (text: string) => Buffer.from(text, 'latin1');
    assert.is((await send('multipart/form-data', latin1(good))).json['code'], 'BAD_MULTIPART');
    assert.is((await send(B, 'no form at all')).json['code'], 'BAD_MULTIPART');
    assert.is((await send(B, latin1(`${part('a')}${file}`))).json['code'], 'BAD_MULTIPART');
    assert.is(
      (await send(B, latin1(`${part('a')}${file}\r\n${part('b')}${file}`))).json['code'],
      'BAD_MULTIPART',
    );
    assert.is((await send(B, latin1('--b\r\nbad header\r\n\r\nx\r\n--b--'))).json['code'], 'BAD_MULTIPART');
    assert.is((await send(B, '--b--\r\n')).json['code'], 'EMPTY_BODY');
    const many = Array.from({ length: 101 }, (_, i) => `${part(`f${i}`)}${file}\r\n`).join('');
    const tooMany = await send(B, latin1(`${many}--b--\r\n`));
    assert.is(tooMany.status, 413);
    assert.is(tooMany.json['code'], 'TOO_MANY_PARTS');
    const large = await postForm(gw, form(picture(), picture(100_001)));
    assert.is(large.json['code'], 'TOO_LARGE');
    assert.is(stored(gw), 0);
    assert.is((await send(B, latin1(good))).status, 201);
    assert.is((await postForm(gw, form(picture(100_000), picture()))).status, 201);
  });

  test('a hundred files are not too many', async (t) => {
    const gw = await FakeGateway.open(t);
    const got = await postForm(gw, form(...Array.from({ length: 100 }, () => picture())));
    assert.is(got.status, 201);
    assert.is((got.json as unknown as unknown[]).length, 100);
  });
});

describe('real pictures', (test) => {
  const files = existsSync(PICTURES) ? readdirSync(PICTURES) : [];
  if (files.length === 0) {
    test.skip('the collection of pictures is not here');
    return;
  }
  test('are known by their bytes and come back as they were, the broken ones too', async (t) => {
    const gw = await FakeGateway.open(t);
    const kinds = new Map<string, string>();
    for (const file of files) {
      const body = readFileSync(join(PICTURES, file));
      const got = await gw.post(body);
      assert.is(got.status, 201, file);
      kinds.set(file, String(got.json['mediaType']));
      if (file === 'corrupt-header.jpg') assert.is(got.json['width'], null, file);
      else assert.ok(Number(got.json['width']) > 0 && Number(got.json['height']) > 0, file);
      const back = await gw.get(new URL(String(got.json['url'])).pathname);
      assert.ok(back.body.equals(body), file);
      assert.is(back.headers['content-type'], got.json['mediaType']);
    }
    for (const [file, kind] of kinds) {
      const ending = file.toLowerCase().split('.').at(-1)!;
      const expected = { jpg: 'jpeg', tif: 'tiff', svg: 'svg+xml' }[ending] ?? ending;
      assert.is(kind, `image/${expected}`, file);
    }
  });
});
