import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { request } from 'undici';
import * as assert from 'uvu/assert';
import { configPath } from '../../common/config.ts';
import { NginxTfsClient, TfsRequestError } from '../kit/nginx-tfs-client.ts';
import { ProcessCluster } from '../kit/process-cluster.ts';
import { ROOT } from '../kit/run-from.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const run = promisify(execFile);
const APPKEY = 'tfscom';
const photo = (): Promise<Buffer> =>
  sharp(randomBytes(320 * 240 * 3), { raw: { width: 320, height: 240, channels: 3 } })
    .jpeg({ quality: 90 })
    .toBuffer();

const hostOf = (url: string): string => new URL(url).host;

async function start(t: TestContext): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.create({ gateways: 2 });
  t.defer(() => cluster.destroy());
  await run(
    process.execPath,
    [
      ...['--import', 'tsx', join(ROOT, 'tools', 'tfs.ts')],
      ...['token', 'add', 'shop', '--policy', 'unlimited', '--appkey', APPKEY],
    ],
    { cwd: ROOT, env: { ...process.env, TFS_HOME: cluster.home } },
  );
  const file = configPath(cluster.home);
  const config = JSON.parse(readFileSync(file, 'utf8'));
  config.tfsRest = { list: cluster.urls.map(hostOf), requestsPerRefresh: 40 };
  writeFileSync(file, JSON.stringify(config));
  await cluster.startAll();
  await cluster.writable();
  return cluster;
}

const statusOf = async (promise: Promise<unknown>): Promise<number> => {
  try {
    await promise;
    return 200;
  } catch (error) {
    if (error instanceof TfsRequestError) return error.status;
    throw error;
  }
};

/** Of `/images`, where the other gateway may have it in its memory for a moment. */
async function untilImageIs(url: string, name: string, status: number): Promise<void> {
  for (let i = 0; ; i++) {
    const reply = await request(`${url}/images/${name}`);
    await reply.body.dump();
    if (reply.statusCode === status) return;
    if (i === 100) throw new Error(`${url}: ${reply.statusCode} and not ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe('an old client of nginx-tfs before a cluster of two gateways', (test) => {
  test('its whole session, each request to the next gateway', async (t) => {
    const cluster = await start(t);
    const client = new NginxTfsClient(hostOf(cluster.urls[0]!), APPKEY);
    t.defer(() => client.close());
    await client.connect();
    assert.equal(client.servers, cluster.urls.map(hostOf));
    assert.match(client.appid, /^[1-9]\d*$/);

    const body = await photo();
    const { name, size } = await client.upload(body, 'jpg');
    assert.match(name, /^T1[A-Za-z0-9._]{16}\.jpg$/);
    assert.is(size, body.length);
    for (let i = 0; i < 2; i++) assert.ok((await client.download(name)).equals(body), 'from each gateway');
    assert.ok((await client.download(name, { offset: 1000, size: 5000 })).equals(body.subarray(1000, 6000)));
    assert.is((await client.download(name, { offset: body.length })).length, 0);
    assert.is(await statusOf(client.download(name, { offset: body.length + 1 })), 400);
    assert.is(await statusOf(client.download(name.replace('.jpg', '.png'))), 404);

    const texts = [await client.getMetaText(name), await client.getMetaText(name)];
    assert.is(texts[0], texts[1], 'both say the same');
    const meta = await client.getMeta(name);
    assert.is(meta['FILE_NAME'], name.slice(0, 18));
    assert.is(meta['SIZE'], body.length);
    assert.is(meta['CRC'], ~crc32(body, 0xffff_ffff) >>> 0);
    assert.is(meta['STATUS'], 0);

    // The same bytes once more: another name, and each lives and dies on its own.
    const second = await client.upload(body, 'jpg');
    assert.is.not(second.name, name);

    for (const url of cluster.urls) await untilImageIs(url, name, 200);
    const shown = async (yes: boolean, status: number) => {
      for (let i = 0; i < 2; i++) {
        assert.is(await statusOf(client.download(name)), yes ? 200 : 404);
        assert.is(await statusOf(client.getMeta(name)), yes ? 200 : 404);
        assert.is((await client.getMeta(name, { type: 1 }))['STATUS'], status);
      }
      for (const url of cluster.urls) await untilImageIs(url, name, yes ? 200 : 404);
    };
    await client.remove(name, { hide: 1 });
    await shown(false, 4);
    await client.remove(name, { hide: 0 });
    await shown(true, 0);
    await client.remove(name);
    await client.remove(name);
    await shown(false, 1);
    const forced = await request(`${cluster.urls[1]}/v1/${APPKEY}/${name}?type=1`);
    assert.ok(Buffer.from(await forced.body.arrayBuffer()).equals(body));
    const undelete = await request(`${cluster.urls[1]}/v1/${APPKEY}/${name}?type=2`, { method: 'DELETE' });
    assert.is(undelete.statusCode, 200);
    assert.is(undelete.headers['content-length'], '0');
    await undelete.body.dump();
    await shown(true, 0);
    assert.ok((await client.download(second.name)).equals(body));

    // What is not there is as good as removed, and everything else of it is a page of 404.
    const decoy = `${name.slice(0, 17)}${name[17] === '0' ? 'J' : '0'}`;
    assert.match((await client.remove(decoy)).toString(), '404 Not Found');
    assert.is(await statusOf(client.createFile(320, 'foo.jpg')), 400);

    // All of it is in the store, not in a gateway.
    const { name: last } = await client.uploadPrivate(body, 'jpg');
    assert.match(last, /\.tfsprivate\.jpg$/);
    await client.remove(second.name);
    await cluster.stopAll();
    await cluster.startAll();
    await cluster.writable();
    const after = new NginxTfsClient(hostOf(cluster.urls[0]!), APPKEY);
    t.defer(() => after.close());
    await after.connect();
    assert.is(after.appid, client.appid);
    for (const each of [name, last])
      assert.ok((await settled(() => after.download(each))).equals(body), each);
    assert.is(await statusOf(settled(() => after.download(second.name))), 404);
  });
}, 180_000);

/** Asks until the answer is not "cannot tell yet". */
async function settled(ask: () => Promise<Buffer>): Promise<Buffer> {
  for (let i = 0; ; i++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof TfsRequestError) || error.status !== 503 || i === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
