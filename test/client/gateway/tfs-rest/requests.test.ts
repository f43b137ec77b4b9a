import { randomBytes } from 'node:crypto';
import { Agent, type IncomingMessage, request } from 'node:http';
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import { policiesOf, zUploads } from '../../../../common/config-uploads.ts';
import { tokenOf } from '../../../../common/secrets.ts';
import { Op } from '../../../../common/wire/messages.ts';
import { AUTH, FakeGateway, type HttpReply, png, TEST_TOKEN } from '../../../kit/fake-gateway.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const APPKEY = 'tfscom';
const V1 = `/v1/${APPKEY}`;
const picture = () => png(randomBytes(16));

const open = (t: TestContext, more: Partial<Parameters<typeof FakeGateway.open>[1]> = {}) =>
  FakeGateway.open(t, {
    tokens: [TEST_TOKEN, tokenOf(APPKEY, { kind: 'appkey', name: 'shop' })],
    tfsRest: { list: [], requestsPerRefresh: 1000 },
    ...more,
  });

const put = (gw: FakeGateway, body: Buffer, query = '', headers: Record<string, string> = {}) =>
  gw.http('POST', `${V1}${query}`, { body, headers });

async function nameOf(gw: FakeGateway, body: Buffer, query = ''): Promise<string> {
  const reply = await put(gw, body, query);
  assert.is(reply.status, 200, reply.body.toString());
  return String(reply.json['TFS_FILE_NAME']);
}

/** An error page, and nothing else. */
function isPage(reply: HttpReply, status: number, title: string, what: string): void {
  assert.is(reply.status, status, `${what}: ${reply.body.toString()}`);
  assert.is(reply.headers['content-type'], 'text/html; charset=utf-8', what);
  assert.match(reply.body.toString(), `<title>${title}</title>`);
  assert.ok(reply.headers['x-request-id'], what);
  assert.is(reply.headers['cache-control'], 'no-store', what);
}

const isBad = (reply: HttpReply, what: string) => isPage(reply, 400, '400 Bad Request', what);

/** Asks for a path as it is, where other clients would take `..` out of it. */
const exactly = (gw: FakeGateway, agent: Agent, method: string, path: string) =>
  new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
    const body = method === 'POST' || method === 'PUT' ? picture() : Buffer.alloc(0);
    const headers = { 'content-length': body.length };
    const sent = request({ host: '127.0.0.1', port: gw.port, agent, method, path, headers }, (reply) => {
      const pieces: Buffer[] = [];
      reply.on('data', (piece: Buffer) => pieces.push(piece)).on('error', reject);
      reply.on('end', () =>
        resolve({ status: reply.statusCode!, text: Buffer.concat(pieces).toString('latin1') }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });

describe('the REST interface of TFS', (test) => {
  test('is not there without an appkey, and not where it is switched off', async (t) => {
    const paths = ['/tfs.list', V1, `${V1}/T19aETByJT1RCvBVdK`, `/v2/${APPKEY}/appid`, '/v3/x'];
    for (const without of [{ tokens: [TEST_TOKEN] }, { tfsRest: undefined as never }]) {
      const gw = await open(t, without);
      for (const path of paths) {
        const reply = await gw.get(path);
        assert.is(reply.status, 404, path);
        assert.is(reply.json['code'], 'NOT_FOUND', 'an error of the rest of the gateway');
      }
    }
    const gw = await open(t);
    const other = await gw.get('/v1x/y');
    assert.is(other.json['code'], 'NOT_FOUND', 'what is beside it stays as it was');
  });

  test('answers an upload exactly as nginx-tfs does', async (t) => {
    const gw = await open(t);
    const reply = await put(gw, picture(), '?suffix=.png');
    assert.is(reply.status, 200);
    assert.is(reply.headers['content-type'], 'application/json');
    assert.match(reply.body.toString(), /^\{\n {4}"TFS_FILE_NAME": "T1[A-Za-z0-9._]{16}\.png"\n\}\n$/);
    assert.ok(reply.headers['x-request-id']);
    const bare = await put(gw, picture());
    assert.match(bare.body.toString(), /^\{\n {4}"TFS_FILE_NAME": "T1[A-Za-z0-9._]{16}"\n\}\n$/);
  });

  test('answers a read with the bytes and no kind, whole whatever Range says', async (t) => {
    const gw = await open(t);
    const body = picture();
    const name = await nameOf(gw, body, '?suffix=.png');
    const reply = await gw.get(`${V1}/${name}`, { range: 'bytes=1-3', 'if-none-match': '*' });
    assert.is(reply.status, 200);
    assert.ok(reply.body.equals(body));
    for (const absent of ['content-type', 'last-modified', 'etag', 'content-range', 'accept-ranges'])
      assert.is(reply.headers[absent], undefined, absent);
    assert.is(reply.headers['content-length'], String(body.length));
    assert.is(reply.headers['x-content-type-options'], 'nosniff');
    assert.is((await gw.http('HEAD', `${V1}/${name}`)).status, 400);
    assert.is((await gw.http('HEAD', `${V1}/metadata/${name}`)).status, 400);
  });

  test('a suffix: with the name or as a parameter, the stored one or none', async (t) => {
    const gw = await open(t);
    const name = (await nameOf(gw, picture(), '?suffix=.png&simple_name=1')).slice(0, 18);
    const bare = await nameOf(gw, picture());
    const odd = await nameOf(gw, picture(), '?suffix=_!!0-item+pic.jpg');
    assert.is(odd.slice(18), '_!!0-item+pic.jpg');
    for (const [path, status] of [
      [`${name}.png`, 200],
      [`${name}?suffix=.png`, 200],
      [`${name}.png?suffix=.png`, 200],
      [name, 200],
      [`${name}.jpg`, 404],
      [`${name}.PNG`, 404],
      [`${name}?suffix=.jpg`, 404],
      [`${name}.png?suffix=.jpg`, 400],
      [`${name}.jpg?suffix=.png`, 400],
      [bare, 200],
      [`${bare}.png`, 404],
      [`${bare}?suffix=.png`, 404],
      [odd, 200],
      [`${odd.slice(0, 18)}?suffix=_!!0-item+pic.jpg`, 200],
    ] as const) {
      assert.is((await gw.get(`${V1}/${path}`)).status, status, path);
      assert.is((await gw.get(`${V1}/metadata/${path}`)).status, status, `metadata of ${path}`);
      // Hides what is there and nothing else.
      const query = path.includes('?') ? '&' : '?';
      assert.is((await gw.http('DELETE', `${V1}/${path}${query}type=4`)).status, status, `DELETE ${path}`);
      if (status === 200) await gw.http('DELETE', `${V1}/${path}${query}type=6`);
      assert.is((await gw.get(`${V1}/${name}`)).status, 200);
    }
  });

  test('the bytes are kept as they come, also where they are said to be a form', async (t) => {
    const gw = await open(t);
    const body = picture();
    for (const type of [
      'multipart/form-data; boundary=x',
      'application/x-www-form-urlencoded',
      'text/plain',
    ]) {
      const reply = await put(gw, body, '', { 'content-type': type });
      assert.is(reply.status, 200, type);
      assert.ok((await gw.get(`${V1}/${reply.json['TFS_FILE_NAME']}`)).body.equals(body), type);
    }
  });

  test('no_dedup=1 keeps a copy of its own', async (t) => {
    const gw = await open(t);
    const body = picture();
    const isAlias = async (query: string) => {
      const { block, fileId } = gw.client.parse(await nameOf(gw, body, query));
      return gw.cluster.blocks.get(block)!.records.get(fileId)!.alias;
    };
    assert.is(await isAlias(''), false);
    assert.is(await isAlias('?no_dedup=0'), true);
    assert.is(await isAlias('?no_dedup=1'), false);
  });

  test('an upload that cannot be: empty, too large, no picture, in segments', async (t) => {
    const gw = await open(t);
    isBad(await put(gw, Buffer.alloc(0)), 'empty');
    isPage(await put(gw, Buffer.from('no picture')), 415, '415 Unsupported Media Type', 'no picture');
    for (const query of ['', '?large_file=1'])
      isPage(await put(gw, png(randomBytes(16), 5 << 20), query), 413, '413 Request Entity Too Large', query);
    for (const query of [
      '?meta_segment=1',
      '?simple_name=2',
      '?simple_name=',
      '?large_file=yes',
      '?no_dedup=-1',
      '?meta_segment=x',
      '?suffix=.jpg&suffix=.png',
      '?suffix=%',
      '?suffix=/../x',
      '?suffix=%00',
      `?suffix=${'a'.repeat(65)}`,
    ])
      isBad(await put(gw, picture(), query), query);
    for (const server of gw.cluster.servers) assert.is(server.count(Op.PUT), 0);
    assert.match(await nameOf(gw, png(randomBytes(16), 3 << 20), '?large_file=1'), /^T1/);
  });

  test('no update: a name means one content for ever', async (t) => {
    const gw = await open(t);
    const body = picture();
    const name = await nameOf(gw, body);
    const reply = await gw.http('PUT', `${V1}/${name}`, { body: picture() });
    isBad(reply, 'PUT');
    assert.match(reply.body.toString(), 'never changes');
    isBad(await gw.http('PUT', `${V1}/${name}`, { body: png(randomBytes(16), 9 << 20) }), 'a large PUT');
    assert.ok((await gw.get(`${V1}/${name}`)).body.equals(body));
  });

  test('the matrix of bad reads and commands', async (t) => {
    const gw = await open(t);
    const name = await nameOf(gw, picture());
    const key = gw.client.parse(name);
    for (const path of [
      `${name}?offset=-1`,
      `${name}?offset=x`,
      `${name}?offset=5000000000`,
      `${name}?offset=99999999999999999999`,
      `${name}?size=0`,
      `${name}?size=-5`,
      `${name}?size=`,
      `${name}?type=2`,
      `${name}?type=00`,
      `${name}?type=0&type=1`,
      'T1short',
      'metadata',
      'metadata/',
      'metadata/T1short',
      `metadata/${name}?type=4`,
      `metadata/${name}/more`,
      `${name}/more`,
      'nonsensenonsensenonsense',
      `T1${'%00'.repeat(16)}`,
      '%zz',
      '',
      `${name}${'x'.repeat(300)}`,
    ])
      isBad(await gw.get(`${V1}/${path}`), path);
    for (const [path, what] of [
      [gw.client.nameOf({ ...key, cookie: (key.cookie ^ 1) as typeof key.cookie }), 'another secret number'],
      [gw.client.nameOf({ ...key, block: 77 as typeof key.block }), 'a block that is not there'],
      [`T2${name.slice(2)}`, 'another cluster'],
      [`L1${name.slice(2)}`, 'a large file'],
    ] as const) {
      isPage(await gw.get(`${V1}/${path}`), 404, '404 Not Found', what);
      isPage(await gw.get(`${V1}/metadata/${path}`), 404, '404 Not Found', what);
      isPage(await gw.http('DELETE', `${V1}/${path}`), 404, '404 Not Found', what);
    }
    for (const query of [
      'hide=2',
      'hide=',
      'type=1',
      'type=3',
      'hide=1&type=0',
      'hide=0&type=4',
      'hide=1&hide=1',
    ])
      isBad(await gw.http('DELETE', `${V1}/${name}?${query}`), query);
    assert.is((await gw.http('DELETE', `${V1}/${name}?hide=1&type=4`)).status, 200, 'the same said twice');
    await gw.http('DELETE', `${V1}/${name}?hide=0`);
    isBad(await gw.http('DELETE', `${V1}/metadata/${name}`), 'DELETE of metadata');
    isBad(await gw.http('POST', `${V1}/${name}`, { body: picture() }), 'POST to a name');
    isBad(await gw.http('POST', `${V1}/`, { body: picture() }), 'POST with a slash at the end');
    isBad(await gw.http('PATCH', `${V1}/${name}`), 'PATCH');
    isBad(await gw.http('OPTIONS', `${V1}/${name}`), 'OPTIONS');
    isBad(await gw.get('/v1'), 'no appkey');
    isBad(await gw.get('/v1//x'), 'an empty appkey');
    isPage(await gw.get(`${V1}/${'a'.repeat(2100)}`), 414, '414 Request-URI Too Large', 'a long URL');
    assert.is((await gw.get(`${V1}/${name}`)).status, 200, 'nothing of it changed anything');
  });

  test('what an appkey may do is what its policy says', async (t) => {
    const shy = { actions: ['upload'], types: ['png'], requestsPerSecond: 0.001, burst: 2 };
    const policies = policiesOf(zUploads.parse({ policies: { shy } }));
    const gw = await open(t, {
      tokens: [TEST_TOKEN, tokenOf(APPKEY, { kind: 'appkey', policy: policies.get('shy')! })],
    });
    const name = await nameOf(gw, picture());
    isPage(await gw.http('DELETE', `${V1}/${name}`), 403, '403 Forbidden', 'delete');
    isPage(await gw.http('DELETE', `${V1}/${name}?hide=1`), 403, '403 Forbidden', 'hide');
    isPage(await put(gw, Buffer.from('GIF89a and more')), 415, '415 Unsupported Media Type', 'a GIF');
    const third = await put(gw, picture());
    isPage(third, 429, '429 Too Many Requests', 'a third picture');
    assert.ok(Number(third.headers['retry-after']) > 1);
    assert.is((await gw.get(`${V1}/${name}`)).status, 200);
  });

  test('trouble in the store is 503 or 500 with a page that names the gateway, never 404', async (t) => {
    const gw = await open(t);
    const name = await nameOf(gw, picture());
    for (const server of gw.cluster.servers) server.damage = 'told';
    const damaged = await gw.get(`${V1}/${name}`);
    isPage(damaged, 500, '500 Internal Server Error', 'damaged');
    assert.match(damaged.body.toString(), /<td>Server:<\/td>[^<]+<td>gateway-0<\/td>/);
    for (const server of gw.cluster.servers) {
      server.damage = 'none';
      server.mode = 'unsure';
    }
    const key = gw.client.parse(name);
    const wrong = gw.client.nameOf({ ...key, cookie: (key.cookie ^ 1) as typeof key.cookie });
    const unsure = await gw.get(`${V1}/${wrong}`);
    isPage(unsure, 503, '503 Service Temporarily Unavailable', 'unsure');
    assert.ok(Number(unsure.headers['retry-after']) >= 1);
  });

  test('a large file is sent in verified pieces, and cut where the rest is damaged', async (t) => {
    const gw = await open(t);
    const body = png(randomBytes(1 << 16), (7 << 19) + 5);
    const name = await nameOf(gw, body);
    assert.ok((await gw.get(`${V1}/${name}`)).body.equals(body));
    const part = await gw.get(`${V1}/${name}?offset=1000001&size=2000003`);
    assert.ok(part.body.equals(body.subarray(1000001, 3000004)));
    let reads = 0;
    for (const server of gw.cluster.servers)
      server.before = (op) => {
        if (op === Op.READ && ++reads === 3) for (const each of gw.cluster.servers) each.damage = 'untold';
      };
    const cut = await gw.get(`${V1}/${name}`).then(
      () => 'whole',
      (error: NodeJS.ErrnoException) => error.code,
    );
    assert.is(cut, 'UND_ERR_SOCKET');
  });

  test('the list of servers: as configured, else the address that was asked', async (t) => {
    const gw = await open(t, {
      tfsRest: { list: ['10.0.0.5:7500', '10.0.0.6:7500'], requestsPerRefresh: 7 },
    });
    const listed = await gw.get('/tfs.list');
    assert.is(listed.status, 200);
    assert.is(listed.body.toString(), '7\n10.0.0.5:7500\n10.0.0.6:7500\n');
    assert.match(String(listed.headers['content-type']), 'text/plain');
    assert.is(listed.headers['cache-control'], 'no-store');

    const other = await open(t);
    const asked = async (host: string) => {
      const raw = await other.raw([`GET /tfs.list HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`]);
      return raw.slice(raw.indexOf('\r\n\r\n') + 4);
    };
    const here = `1000\n127.0.0.1:${other.port}\n`;
    assert.is(await asked(`127.0.0.1:${other.port}`), here);
    assert.is(await asked('10.1.2.3:80'), '1000\n10.1.2.3:80\n');
    for (const host of [
      'store.example',
      'localhost:7500',
      '999.1.1.1:80',
      '1.2.3.4:99999',
      '1.2.3.4',
      '[::1]:80',
    ])
      assert.is(await asked(host), here, host);
    assert.is((await other.http('HEAD', '/tfs.list')).status, 200);
    isBad(await other.http('POST', '/tfs.list', { body: Buffer.from('x') }), 'POST');
  });

  test('over IPv6 without a list there is none, and it says what to do', async (t) => {
    const gw = await open(t, { address: { host: '::1', port: 0 } });
    const reply = await fetch(`http://[::1]:${gw.port}/tfs.list`);
    assert.is(reply.status, 404);
    assert.match(await reply.text(), 'set tfsRest.list in config.json');
  });

  test('whatever is asked is answered, and never with a 500', async (t) => {
    const gw = await open(t);
    const name = await nameOf(gw, picture(), '?suffix=.png');
    const word = fc.oneof(
      fc.constantFrom(
        'v1',
        'v2',
        'v3',
        'v',
        'metadata',
        'appid',
        APPKEY,
        name,
        name.slice(0, 18),
        'tfs.list',
        '..',
        '.',
      ),
      fc.constantFrom(
        '',
        '%',
        '%00',
        '%2f',
        '%ff',
        '*',
        ':name',
        '(.*)',
        '{x}',
        'T1',
        'L1',
        '__proto__',
        '☃',
      ),
      fc.string({ maxLength: 30 }),
    );
    const key = fc.oneof(
      fc.constantFrom('suffix', 'offset', 'size', 'type', 'hide', 'simple_name', 'large_file', 'no_dedup'),
      fc.constantFrom('meta_segment', '__proto__', 'constructor', ''),
      fc.string({ maxLength: 10 }),
    );
    const value = fc.oneof(
      fc.constantFrom(
        '0',
        '1',
        '2',
        '4',
        '6',
        '.png',
        '-1',
        '4294967296',
        '1e9',
        'NaN',
        '%',
        '%e4',
        '',
        '9007199254740993',
      ),
      fc.string({ maxLength: 20 }),
    );
    const raw = (text: string) =>
      encodeURI(text)
        .replace(/%25/g, '%')
        .replace(/[#\r\n ]/g, '_');
    const target = fc
      .tuple(
        fc.constantFrom('/v1', '/v2', '/v1', '/v7', ''),
        fc.array(word, { maxLength: 5 }),
        fc.array(fc.tuple(key, value), { maxLength: 4 }),
      )
      .map(([start, words, pairs]) => {
        const query = pairs.map(([k, v]) => `${raw(k)}=${raw(v)}`).join('&');
        return `${start}/${words.map((w) => raw(w).replace(/\?/g, '')).join('/')}${query === '' ? '' : `?${query}`}`;
      });
    const method = fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS');
    const agent = new Agent({ keepAlive: true });
    t.defer(() => agent.destroy());
    await fc.assert(
      fc.asyncProperty(method, target, async (verb, path) => {
        const reply = await exactly(gw, agent, verb, path);
        const strangerAppId = /^\/v2\/[^/?]+\/appid(?:\?|$)/.test(path);
        assert.ok(reply.status < 500 || strangerAppId, `${verb} ${path}: ${reply.status} ${reply.text}`);
        if (reply.status >= 400 && verb !== 'HEAD' && /^\/v\d+(?:[/?]|$)/.test(path))
          assert.match(reply.text, /<title>[45]\d\d [A-Z]/, `${verb} ${path}`);
      }),
      { numRuns: 400 },
    );
    assert.is((await gw.http('DELETE', `${V1}/${name}?type=2`)).status, 200, 'and it still works');
  });

  test('a client that does not read holds up its own answer, and no memory for it', async (t) => {
    const gw = await open(t, { pictureBytesMax: 40 << 20 });
    const body = png(randomBytes(1 << 16), 38 << 20);
    const name = await nameOf(gw, body);
    const reads = () => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.READ), 0);
    const before = reads();
    const reply = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', port: gw.port, path: `${V1}/${name}` }, resolve);
      asked.on('error', reject);
      asked.end();
    });
    reply.pause();
    let seen = -1;
    // Until nothing more is read: what has been is in the buffers of the two sockets.
    while (seen !== reads()) {
      seen = reads();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    assert.ok(seen - before < 30, `${seen - before} of 38 pieces were read`);
    const pieces: Buffer[] = [];
    for await (const piece of reply) pieces.push(piece as Buffer);
    assert.ok(Buffer.concat(pieces).equals(body));
  });

  test('a client that leaves half way leaves nothing behind', async (t) => {
    const gw = await open(t);
    const name = await nameOf(gw, png(randomBytes(1 << 16), 7 << 19));
    const closed: unknown[] = [];
    for (let i = 0; i < 5; i++) {
      const aborted = new AbortController();
      const reply = await fetch(`${gw.url}${V1}/${name}`, { signal: aborted.signal });
      const reader = reply.body!.getReader();
      await reader.read();
      aborted.abort();
      closed.push(await reader.closed.catch((error: Error) => error.name));
    }
    assert.equal(closed, Array(5).fill('AbortError'));
    assert.is((await gw.get(`${V1}/${name}`)).status, 200);
    assert.is((await gw.http('GET', '/metrics', { headers: AUTH })).status, 200);
  });
});
