import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { HOT_PICTURE_CHECK_MS } from '../../../common/limits.ts';
import { NameFlag, Op } from '../../../common/wire/messages.ts';
import { AUTH, FakeGateway, png } from '../../kit/fake-gateway.ts';
import { describe } from '../../kit/suite.ts';

const sha1 = (b: Buffer) => createHash('sha1').update(b).digest('hex');
const picture = (size = 0) => png(randomBytes(16), size);

/** One picture, read twice: the first time from the servers, the second time from memory. */
const TIMES = ['cold', 'hot'] as const;

describe('GET of a picture', (test) => {
  test('the exact bytes with all headers, cold and hot', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = await sharp({ create: { width: 40, height: 30, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    const name = await gw.store(body);
    for (const time of TIMES) {
      const got = await gw.get(`/images/${name}`);
      assert.is(got.status, 200, time);
      assert.ok(got.body.equals(body), time);
      assert.is(got.headers['content-type'], 'image/jpeg');
      assert.is(got.headers['content-length'], String(body.length));
      assert.is(got.headers['etag'], `"${sha1(body)}"`);
      assert.is(got.headers['cache-control'], 'public, max-age=31536000, immutable');
      assert.is(got.headers['accept-ranges'], 'bytes');
      assert.is(got.headers['x-content-type-options'], 'nosniff');
      assert.ok(Date.parse(String(got.headers['last-modified'])) > Date.now() - 60_000);
      assert.ok(got.headers['x-request-id']);
      assert.is(got.headers['content-security-policy'], undefined);
    }
    const reads = gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.READ), 0);
    assert.is(reads, 1, 'the second one came from memory');
  });

  test('a picture that is damaged on every replica is a 500 that an alarm can be set on, never a 404', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    for (const server of gw.cluster.servers) server.damage = 'told';
    const got = await gw.get(`/images/${name}`);
    assert.is(got.status, 500);
    assert.is(JSON.parse(got.body.toString()).code, 'CORRUPT');
    assert.is(got.headers['cache-control'], 'no-store');
    const metrics = (await gw.get('/metrics')).body.toString('utf8');
    assert.match(metrics, /^tfs_gateway_damaged_answers_total\{.*\} 1$/m);
    // One good one is enough.
    gw.cluster.servers[0]!.damage = 'none';
    assert.is((await gw.get(`/images/${name}`)).status, 200);
  });

  test('an answer that no replica confirms is not for a cache to keep, cold or hot', async (t) => {
    const gw = await FakeGateway.open(t);
    const [cold, hot] = [await gw.store(picture()), await gw.store(picture())];
    const cacheControl = async (name: string, headers = {}) => {
      const got = await gw.get(`/images/${name}`, headers);
      assert.ok(got.status === 200 || got.status === 304);
      return { etag: String(got.headers['etag']), cacheControl: got.headers['cache-control'] };
    };
    const kept = await cacheControl(hot);
    for (const server of gw.cluster.servers) server.mode = 'provisional';
    await sleep(HOT_PICTURE_CHECK_MS + 10);
    const asked = () => gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.CHECK), 0);
    for (let i = 0; i < 2; i++) {
      const before = asked();
      assert.is((await cacheControl(cold)).cacheControl, 'no-store');
      assert.is((await cacheControl(hot)).cacheControl, 'no-store');
      assert.is((await cacheControl(hot, { 'if-none-match': kept.etag })).cacheControl, 'no-store');
      assert.ok(asked() > before, 'what was not confirmed is asked for again');
    }
    for (const server of gw.cluster.servers) server.mode = 'current';
    for (const name of [cold, hot])
      assert.is((await cacheControl(name)).cacheControl, 'public, max-age=31536000, immutable');
  });

  test('HEAD has the headers of GET and no body', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(5000);
    const name = await gw.store(body);
    const cold = await gw.http('HEAD', `/images/${name}`);
    await gw.get(`/images/${name}`);
    const hot = await gw.http('HEAD', `/images/${name}`);
    for (const got of [cold, hot]) {
      assert.is(got.status, 200);
      assert.is(got.body.length, 0);
      assert.is(got.headers['content-length'], '5000');
      assert.is(got.headers['etag'], `"${sha1(body)}"`);
    }
    assert.is((await gw.http('HEAD', '/images/T19aETByJT1RCvBVdK')).status, 404);
  });

  test("a client's own request id comes back; otherwise each answer has another", async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    assert.is(
      (await gw.get(`/images/${name}`, { 'x-request-id': 'abc.1' })).headers['x-request-id'],
      'abc.1',
    );
    const [a, b] = [await gw.get(`/images/${name}`), await gw.get(`/images/${name}`)];
    assert.is.not(a.headers['x-request-id'], b.headers['x-request-id']);
    const odd = await gw.get(`/images/${name}`, { 'x-request-id': 'a b;c' });
    assert.is.not(odd.headers['x-request-id'], 'a b;c');
  });

  test('a large picture streams, whole and in part', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(3_300_000);
    const name = await gw.store(body);
    const got = await gw.get(`/images/${name}`);
    assert.is(got.status, 200);
    assert.is(got.headers['content-length'], '3300000');
    assert.ok(got.body.equals(body));
    const part = await gw.get(`/images/${name}`, { range: 'bytes=1000000-2999999' });
    assert.is(part.status, 206);
    assert.is(part.headers['content-range'], 'bytes 1000000-2999999/3300000');
    assert.ok(part.body.equals(body.subarray(1_000_000, 3_000_000)));
  });

  test('a large picture whose replicas die half-way is cut, not shortened', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture(4_000_000));
    let reads = 0;
    for (const server of gw.cluster.servers)
      server.before = (op) => {
        if (op === Op.READ && ++reads > 2) for (const each of gw.cluster.servers) each.down = true;
      };
    let failed = false;
    try {
      await gw.get(`/images/${name}`);
    } catch {
      failed = true;
    }
    assert.ok(failed, 'the connection broke before Content-Length was reached');
  });

  test('extensions: a stored suffix, else the usual ones of the kind', async (t) => {
    const gw = await FakeGateway.open(t);
    const plain = await gw.store(picture());
    const suffixed = await gw.store(picture(), '_big.png');
    for (const time of TIMES) {
      for (const tail of ['', '.png', '.PNG'])
        assert.is((await gw.get(`/images/${plain}${tail}`)).status, 200, time);
      for (const tail of ['.jpg', '.', '.png.exe', 'x', '%00'])
        assert.is((await gw.get(`/images/${plain}${tail}`)).status, 404, `${time} ${tail}`);
      for (const tail of ['', '_big.png', '%5Fbig.png'])
        assert.is((await gw.get(`/images/${suffixed}${tail}`)).status, 200, `${time} ${tail}`);
      for (const tail of ['.png', '_big.jpg'])
        assert.is((await gw.get(`/images/${suffixed}${tail}`)).status, 404, `${time} ${tail}`);
    }
  });

  test('a percent-encoded name is the same name', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    const encoded = `%${name.charCodeAt(0).toString(16)}${name.slice(1)}`;
    assert.is((await gw.get(`/images/${encoded}`)).status, 200);
    assert.is((await gw.http('DELETE', `/images/${encoded}`, { headers: AUTH })).status, 204);
    assert.is((await gw.get(`/images/${encoded}`)).status, 404);
    assert.is((await gw.get(`/images/${name}`)).status, 404);
  });

  test('a query with what is no option is refused by its name', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    const got = await gw.get(`/images/${name}?v=2&x=/../`);
    assert.is(got.status, 400);
    assert.match(String(got.json['message']), /"v"/);
    assert.is(got.headers['cache-control'], 'no-store');
    assert.is((await gw.get(`/images/${name}?`)).status, 200);
  });

  test('SVG and unknown kinds are served in a sandbox', async (t) => {
    const gw = await FakeGateway.open(t, { anyType: true });
    const svg = await gw.store(
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'),
    );
    const got = await gw.get(`/images/${svg}.svg`);
    assert.is(got.headers['content-type'], 'image/svg+xml');
    assert.match(String(got.headers['content-security-policy']), /sandbox/);
    const html = await gw.store(Buffer.from('<html><script>1</script></html>'));
    const page = await gw.get(`/images/${html}`);
    assert.is(page.headers['content-type'], 'application/octet-stream');
    assert.match(String(page.headers['content-security-policy']), /sandbox/);
  });
});

describe('conditional and range requests', (test) => {
  test('revalidation by ETag and by date', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture();
    const name = await gw.store(body);
    const etag = `"${sha1(body)}"`;
    for (const time of TIMES) {
      const fresh = await gw.get(`/images/${name}`, { 'if-none-match': `"other", ${etag}` });
      assert.is(fresh.status, 304, time);
      assert.is(fresh.headers['etag'], etag);
      assert.is(fresh.body.length, 0);
      assert.is((await gw.get(`/images/${name}`, { 'if-none-match': `W/${etag}` })).status, 304);
      assert.is((await gw.get(`/images/${name}`, { 'if-none-match': '*' })).status, 304);
      assert.is((await gw.get(`/images/${name}`, { 'if-none-match': '"other"' })).status, 200);
      const later = new Date(Date.now() + 5000).toUTCString();
      assert.is((await gw.get(`/images/${name}`, { 'if-modified-since': later })).status, 304);
      const before = new Date(Date.now() - 3_600_000).toUTCString();
      assert.is((await gw.get(`/images/${name}`, { 'if-modified-since': before })).status, 200);
      // If-None-Match decides alone where both are sent.
      const both = { 'if-none-match': '"other"', 'if-modified-since': later };
      assert.is((await gw.get(`/images/${name}`, both)).status, 200);
      assert.is(
        (await gw.http('HEAD', `/images/${name}`, { headers: { 'if-none-match': etag } })).status,
        304,
      );
    }
  });

  test('a single range', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(1000);
    const name = await gw.store(body);
    const cases: [string, number, number][] = [
      ['bytes=0-0', 0, 0],
      ['bytes=10-29', 10, 29],
      ['bytes=990-', 990, 999],
      ['bytes=-5', 995, 999],
      ['bytes=-5000', 0, 999],
      ['bytes=900-5000', 900, 999],
    ];
    for (const time of TIMES) {
      for (const [range, start, end] of cases) {
        const got = await gw.get(`/images/${name}`, { range });
        assert.is(got.status, 206, `${time} ${range}`);
        assert.is(got.headers['content-range'], `bytes ${start}-${end}/1000`);
        assert.is(got.headers['content-length'], String(end - start + 1));
        assert.ok(got.body.equals(body.subarray(start, end + 1)));
        assert.is(got.headers['etag'], `"${sha1(body)}"`);
      }
      for (const range of ['bytes=1000-', 'bytes=5000-6000', 'bytes=-0']) {
        const got = await gw.get(`/images/${name}`, { range });
        assert.is(got.status, 416, range);
        assert.is(got.headers['content-range'], 'bytes */1000');
        assert.is(got.json['code'], 'RANGE_NOT_SATISFIABLE');
      }
      for (const range of ['bytes=0-1,5-6', 'items=0-1', 'bytes=5-2', 'bytes=a-b', 'bytes=-', 'bytes'])
        assert.is((await gw.get(`/images/${name}`, { range })).status, 200, range);
      const head = await gw.http('HEAD', `/images/${name}`, { headers: { range: 'bytes=0-1' } });
      assert.is(head.headers['content-length'], '1000');
    }
  });

  test('If-Range: the part only of the same picture', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(100);
    const name = await gw.store(body);
    const range = 'bytes=0-9';
    const modified = String((await gw.get(`/images/${name}`)).headers['last-modified']);
    const of = async (ifRange: string) =>
      (await gw.get(`/images/${name}`, { range, 'if-range': ifRange })).status;
    assert.is(await of(`"${sha1(body)}"`), 206);
    assert.is(await of(modified), 206);
    assert.is(await of(`W/"${sha1(body)}"`), 200);
    assert.is(await of('"other"'), 200);
    assert.is(await of('Thu, 01 Jan 2015 00:00:00 GMT'), 200);
  });
});

describe('what is not there', (test) => {
  test('unknown, wrong cookie, deleted, hidden and purged look the same', async (t) => {
    const gw = await FakeGateway.open(t, { hotBytesMax: 0 });
    const name = await gw.store(picture());
    const key = gw.client.parse(name);
    const bodies = new Set<string>();
    const expect404 = async (path: string) => {
      const got = await gw.get(path, { 'x-request-id': 'same' });
      assert.is(got.status, 404, path);
      bodies.add(got.body.toString('utf8'));
    };
    await expect404(`/images/${gw.client.nameOf({ ...key, block: 0x9_0000 as typeof key.block })}`);
    await expect404(`/images/${gw.client.nameOf({ ...key, fileId: 77 as typeof key.fileId })}`);
    await expect404(`/images/${gw.client.nameOf({ ...key, cookie: (key.cookie ^ 4) as typeof key.cookie })}`);
    await expect404(`/images/T2${name.slice(2)}`);
    await expect404(`/images/${name}.gif`);
    const record = gw.cluster.blocks.get(key.block)!.records.get(key.fileId)!;
    for (const flags of [NameFlag.DELETED, NameFlag.HIDDEN, NameFlag.PURGED]) {
      record.flags = flags;
      await expect404(`/images/${name}`);
    }
    assert.is(bodies.size, 1, [...bodies].join());
    const missing = await gw.get(`/images/${name}`);
    // Briefly, and under the tag of the name: it may be undeleted.
    assert.is(missing.headers['cache-control'], 'public, max-age=5');
    assert.is(missing.headers['surrogate-key'], name);
  });

  test('malformed names are 400, and no path leads anywhere else', async (t) => {
    const gw = await FakeGateway.open(t);
    for (const path of [
      '/images/hello',
      '/images/T1',
      '/images/%00',
      '/images/..%2f..%2fetc%2fpasswd',
      '/images/%zz',
    ])
      assert.is((await gw.get(path)).json['code'], 'BAD_NAME', path);
    for (const path of ['/', '/image', '/images/a/b/c', '/favicon.ico', '/imagesX'])
      assert.is((await gw.get(path)).json['code'], 'NOT_FOUND', path);
    const traversal = await gw.raw([
      'GET /images/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    ]);
    assert.match(traversal, /^HTTP\/1\.1 404 /);
  });

  test('a picture that was hot is gone at most a second after another gateway deleted it', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    assert.is((await gw.get(`/images/${name}`)).status, 200);
    const key = gw.client.parse(name);
    gw.cluster.blocks.get(key.block)!.records.get(key.fileId)!.flags = NameFlag.DELETED;
    await new Promise((resolve) => setTimeout(resolve, 1050));
    assert.is((await gw.get(`/images/${name}`)).status, 404);
  });

  test('a hot picture that nobody can vouch for is 503, and 200 again afterwards', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    assert.is((await gw.get(`/images/${name}`)).status, 200);
    await new Promise((resolve) => setTimeout(resolve, 1050));
    for (const server of gw.cluster.servers) server.down = true;
    const got = await gw.get(`/images/${name}`);
    assert.is(got.status, 503);
    assert.ok(Number(got.headers['retry-after']) >= 1);
    for (const server of gw.cluster.servers) server.down = false;
    assert.is((await gw.get(`/images/${name}`)).status, 200);
  });

  test('servers that cannot be reached are 503 with Retry-After and tell nothing about themselves', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    for (const server of gw.cluster.servers) server.down = true;
    const got = await gw.get(`/images/${name}`);
    assert.is(got.status, 503);
    assert.ok(Number(got.headers['retry-after']) >= 1);
    assert.is(got.json['code'], 'UNAVAILABLE');
    assert.not.match(String(got.json['message']), /127\.0\.0\.1|server \d/);
    assert.is(typeof got.json['requestId'], 'string');
  });

  test('concurrent misses of one picture are one read', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture(5000);
    const name = await gw.store(body);
    for (const server of gw.cluster.servers)
      server.before = (op) =>
        op === Op.READ ? new Promise((resolve) => setTimeout(resolve, 50)) : undefined;
    const all = await Promise.all(Array.from({ length: 20 }, () => gw.get(`/images/${name}`)));
    for (const got of all) assert.ok(got.body.equals(body));
    assert.is(
      gw.cluster.servers.reduce((sum, server) => sum + server.count(Op.READ), 0),
      1,
    );
  });

  test('the cache holds what fits and no more', async (t) => {
    const gw = await FakeGateway.open(t, { hotBytesMax: 100_000 });
    const names: string[] = [];
    for (let i = 0; i < 30; i++) names.push(await gw.store(picture(10_000)));
    for (const name of names) assert.is((await gw.get(`/images/${name}`)).status, 200);
    const metrics = (await gw.get('/metrics')).body.toString('utf8');
    const held = Number(/^tfs_gateway_cache_bytes\{.*\} (\d+)$/m.exec(metrics)![1]);
    assert.ok(held > 50_000 && held <= 100_000, `${held} bytes`);
  });
});
