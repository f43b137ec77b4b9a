import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { Op } from '../../../common/wire/messages.ts';
import { AUTH, FakeGateway, png, TEST_TOKEN } from '../../kit/fake-gateway.ts';
import { describe } from '../../kit/suite.ts';

/** Status and code of a raw answer, which must be JSON whatever was sent. */
function answerOf(raw: string): [status: number, code: string] {
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(raw)?.[1]);
  const json = JSON.parse(raw.slice(raw.indexOf('\r\n\r\n') + 4)) as Record<string, unknown>;
  assert.equal(Object.keys(json), ['code', 'message', 'requestId'], raw);
  assert.match(raw, /\r\nContent-Type: application\/json/i);
  assert.match(raw, /\r\nX-Request-Id: /i);
  return [status, String(json['code'])];
}

describe('what is not a proper request', (test) => {
  test('malformed HTTP is 400 as JSON, and the connection ends', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const bytes of [
      'HELLO\r\n\r\n',
      'GET\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'GET / HTTP/1.1\r\nbroken header\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: x\r\nA: \x01\x02\r\n\r\n',
      'POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
      'POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n',
      'POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
    ])
      assert.equal(answerOf(await gw.raw([Buffer.from(bytes, 'latin1')])), [400, 'BAD_REQUEST'], bytes);
  });

  test('a malformed chunk is 400 and stores nothing', async (t) => {
    const gw = await FakeGateway.open(t);
    const head = `POST /images HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TEST_TOKEN.text}\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const [status] = answerOf(
      await gw.raw([head, '10\r\n', png(Buffer.alloc(0)).subarray(0, 16), '\r\nzz\r\n']),
    );
    assert.is(status, 400);
    for (const server of gw.cluster.servers) assert.is(server.count(Op.PUT), 0);
  });

  test('URLs and headers that are too long', async (t) => {
    const gw = await FakeGateway.open(t);
    const request = (url: string, header = 'x') =>
      `GET ${url} HTTP/1.1\r\nHost: h\r\nA: ${header}\r\nConnection: close\r\n\r\n`;
    const long = `/images/${'a'.repeat(2100)}`;
    assert.equal(answerOf(await gw.raw([request(long)])), [414, 'URL_TOO_LONG']);
    assert.equal(answerOf(await gw.raw([request(`/images/x?${'a'.repeat(2100)}`)])), [414, 'URL_TOO_LONG']);
    assert.equal(answerOf(await gw.raw([request(`/${'a'.repeat(40_000)}`)])), [414, 'URL_TOO_LONG']);
    assert.equal(answerOf(await gw.raw([request('/', 'a'.repeat(40_000))])), [400, 'BAD_REQUEST']);
  });

  test('NUL, and bytes that no URL has', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const url of ['/images/\0', '/images/T1\0', '/images/\xff\xfe']) {
      const [status] = answerOf(
        await gw.raw([Buffer.from(`GET ${url} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n`, 'latin1')]),
      );
      assert.is(status, 400, url);
    }
    assert.is((await gw.get('/images/T19aETByJT1RCvBVd%00')).json['code'], 'BAD_NAME');
  });

  test('headers that do not come are 408', async (t) => {
    const gw = await FakeGateway.open(t, { headersMsMax: 200 });
    assert.equal(answerOf(await gw.raw(['GET / HTTP/1.1\r\nHost: h\r\n'])), [408, 'BODY_TIMEOUT']);
  });

  test('methods that are not possible are 405 with those that are', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const [method, path, allow] of [
      ['PUT', '/images/x', 'DELETE, GET, HEAD, OPTIONS'],
      ['GET', '/images', 'POST'],
      ['DELETE', '/images', 'POST'],
      ['POST', '/images/x/metadata', 'GET, HEAD'],
      ['GET', '/images/x/hide', 'POST'],
      ['POST', '/healthz', 'GET, HEAD'],
    ] as const) {
      const got = await gw.http(method, path, { headers: AUTH });
      assert.is(got.status, 405, `${method} ${path}`);
      assert.is(got.headers['allow'], allow);
      assert.is(got.json['code'], 'METHOD_NOT_ALLOWED');
    }
  });

  test('garbage after a good request harms neither it nor anybody else', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = png(randomBytes(16));
    const name = await gw.store(body);
    const got = await gw.raw([`GET /images/${name} HTTP/1.1\r\nHost: h\r\n\r\n`, 'garbage\r\n\r\n'], {
      quietMs: 1000,
    });
    assert.ok(got.startsWith('HTTP/1.1 200 ') || got.startsWith('HTTP/1.1 400 '), got);
    assert.is((await gw.get(`/images/${name}`)).status, 200);
  });

  test('a request in absolute form is understood', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(png(randomBytes(16)));
    const got = await gw.raw([
      `GET http://h/images/${name} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n`,
    ]);
    assert.match(got, /^HTTP\/1\.1 200 /);
  });

  test('two pipelined requests are answered in order', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(png(randomBytes(16)));
    const get = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: h\r\n${more}\r\n`;
    const got = await gw.raw([get(`/images/${name}`), get('/nowhere', 'Connection: close\r\n')]);
    assert.match(got, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 404 /);
  });
});
