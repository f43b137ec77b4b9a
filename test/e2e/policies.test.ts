import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { request } from 'undici';
import * as assert from 'uvu/assert';
import { exifBlock, GPS, GPS_TAGS, ORIENTATION, withExif } from '../kit/exif-block.ts';
import { ProcessCluster } from '../kit/process-cluster.ts';
import { runTfs } from '../kit/run-tfs.ts';
import { describe } from '../kit/suite.ts';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Buffer;
  readonly json: Record<string, unknown>;
}

async function http(
  method: 'GET' | 'HEAD' | 'POST',
  url: string,
  more: { headers?: Record<string, string>; body?: Buffer } = {},
): Promise<Answer> {
  const reply = await request(url, { method, ...more });
  const body = Buffer.from(await reply.body.arrayBuffer());
  const isJson = String(reply.headers['content-type']).startsWith('application/json') && body.length > 0;
  return {
    status: reply.statusCode,
    headers: reply.headers,
    body,
    json: isJson ? JSON.parse(body.toString()) : {},
  };
}

const photo = () =>
  sharp(randomBytes(90 * 60 * 3), { raw: { width: 90, height: 60, channels: 3 } })
    .jpeg()
    .toBuffer();

const POLICIES = {
  counted: { quotaBytes: 200_000, quotaPeriod: 'month', requestsPerSecond: 0.05, burst: 5 },
  clean: { types: ['jpeg' as const], stripLocation: true, orient: true, actions: ['upload' as const] },
} as const;

describe('tokens, policies and private pictures in a cluster of processes', (test) => {
  test('what "tfs token" made is known after a restart, and two gateways count together', async (t) => {
    const uploads = {
      policies: {
        ...POLICIES,
        clean: { ...POLICIES.clean, types: [...POLICIES.clean.types], actions: [...POLICIES.clean.actions] },
      },
    };
    const cluster = await ProcessCluster.create({ gateways: 2, redis: true, config: { uploads } });
    t.defer(() => cluster.destroy());
    const tfs = (...args: string[]) => runTfs(['--home', cluster.home, ...args]);
    const add = async (...args: string[]) => {
      const end = await tfs('token', 'add', ...args);
      assert.is(end.code, 0, end.stderr);
      return end.stdout.toString().trim();
    };
    const counted = await add('counted-client', '--policy', 'counted');
    const clean = await add('phone', '--policy', 'clean');
    const appkey = await add('old', '--policy', 'clean', '--appkey');
    await cluster.startAll();
    await cluster.writable();
    const post = (gateway: number, token: string, body: Buffer) =>
      http('POST', `${cluster.urls[gateway]}/images`, {
        headers: { authorization: `Bearer ${token}` },
        body,
      });

    const codes: unknown[] = [];
    for (let i = 0; i < 8; i++) codes.push((await post(i % 2, counted, await photo())).status);
    assert.equal(codes, [201, 201, 201, 201, 201, 429, 429, 429]);
    // Redis is gone: uploads go on, and what each gateway knew counts.
    await cluster.stopOne('redis', 'SIGKILL');
    assert.is((await post(0, counted, await photo())).status, 429);
    assert.is((await post(0, clean, await photo())).status, 201);

    const tags = { [ORIENTATION]: { short: 6 }, [GPS]: { directory: GPS_TAGS } };
    const body = withExif(await photo(), exifBlock(tags, { order: 'II' }));
    const reply = await post(1, clean, body);
    assert.is(reply.status, 201, reply.body.toString());
    assert.equal(reply.json['changed'], ['orientation', 'location']);
    const got = await http('GET', `${cluster.urls[0]}/images/${reply.json['name']}`);
    assert.is(got.body.includes('SECRETPLACE'), false);
    const { width, height } = await sharp(got.body).metadata();
    assert.equal([width, height], [60, 90]);
    assert.is((await post(0, clean, await sharp(body).png().toBuffer())).status, 415);
    assert.is((await post(0, appkey, body)).status, 401);
    const rest = await http('POST', `${cluster.urls[0]}/v1/${appkey}?suffix=.jpg`, { body });
    assert.is(rest.status, 200, rest.body.toString());
    assert.match(String(rest.json['TFS_FILE_NAME']), /^T.{17}\.jpg$/);
    assert.is((await http('POST', `${cluster.urls[0]}/v1/${clean}`, { body })).status >= 400, true);

    assert.is((await tfs('token', 'remove', 'phone')).code, 0);
    await cluster.stopOne('gw0', 'SIGTERM');
    await cluster.startOne('gw0');
    assert.is((await post(0, clean, body)).status, 401);
  });

  test('a private picture is served to those alone who have a signature, in every way of asking', async (t) => {
    const cluster = await ProcessCluster.start({ gateways: 1 });
    t.defer(() => cluster.destroy());
    const tfs = (...args: string[]) => runTfs(['--home', cluster.home, ...args]);
    const body = await photo();
    const open = await cluster.put(body);
    const secret = await cluster.put(body, { query: '?private=1&suffix=.jpg' });
    assert.is(secret.status, 201, secret.text);
    assert.is(secret.json['private'], true);
    assert.is(secret.json['deduplicated'], false);
    const again = await cluster.put(body);
    const { name } = secret;
    const at = (path: string) => `${cluster.url}/images/${path}`;
    const etag = `"${String(secret.json['sha1'])}"`;
    const asked: readonly (readonly ['GET' | 'HEAD', string, Record<string, string>?])[] = [
      ['GET', name],
      ['HEAD', name],
      ['GET', `${name}.jpg`],
      ['GET', name, { 'if-none-match': etag }],
      ['HEAD', name, { 'if-none-match': etag }],
      ['GET', name, { range: 'bytes=0-9' }],
      ['GET', name, { authorization: 'Bearer not-a-token-of-this-cluster' }],
      ['GET', `${name}.jpg_100x100.jpg`],
      ['GET', `${name}?w=100`],
      ['GET', `${name}?fm=auto`],
      ['GET', `${name}?exp=1&kid=x&sig=y`],
      ['GET', `${name}/metadata`],
    ];
    const refuse = async () => {
      for (const [method, path, headers = {}] of asked) {
        const reply = await http(method, at(path), { headers });
        assert.is(reply.status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
        assert.is(reply.body.includes(body.subarray(100, 200)), false);
        assert.match(String(reply.headers['cache-control']), /no-store|private/);
      }
    };
    await refuse();
    const urls = [];
    for (const picture of [name, `${name}.jpg_100x100.jpg`, `${name}?w=50&fm=webp`]) {
      const end = await tfs('sign', picture, '--expires', '1h');
      assert.is(end.code, 0, end.stderr);
      urls.push(end.stdout.toString().trim());
    }
    const whole = await http('GET', urls[0]!);
    assert.is(whole.status, 200, whole.body.toString());
    assert.ok(whole.body.equals(body));
    assert.match(String(whole.headers['cache-control']), 'private');
    assert.is((await http('HEAD', urls[0]!)).status, 200);
    for (const url of urls.slice(1)) {
      const rendition = await http('GET', url);
      assert.is(rendition.status, 200, rendition.body.toString());
      assert.match(String(rendition.headers['cache-control']), 'private');
    }
    // What a signed request has left in the memory of the gateway is for nobody else.
    await refuse();
    const tampered = urls[0]!.replace(/sig=./, (found) => (found.endsWith('A') ? 'sig=B' : 'sig=A'));
    assert.is((await http('GET', tampered)).status, 403);
    assert.is((await http('GET', urls[0]!.replace(name, open.name))).status, 403);
    const brief = await tfs('sign', name, '--expires', '1s');
    await sleep(1500);
    assert.is((await http('GET', brief.stdout.toString().trim())).status, 403);

    // The public ones of the same bytes are public.
    for (const other of [open.name, again.name]) assert.is((await http('GET', at(other))).status, 200);
    const put = await runTfs(['--home', cluster.home, '--json', 'put', '--private', '-'], { stdin: body });
    assert.is(put.json[0]?.['private'], true, put.stderr);
    assert.is((await http('GET', at(String(put.json[0]?.['name'])))).status, 403);
    const stat = await tfs('--json', 'stat', name);
    assert.is(stat.json[0]?.['private'], true, stat.stderr);
    const direct = await tfs('--json', 'stat', '--direct', name, open.name);
    assert.equal(
      direct.json.map((facts) => facts['private']),
      [true, false],
    );
  });
}, 180_000);
