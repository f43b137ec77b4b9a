import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import * as assert from 'uvu/assert';
import { recordSpan } from '../../../../common/format/record.ts';
import { tokenOf } from '../../../../common/secrets.ts';
import { NameFlag } from '../../../../common/wire/messages.ts';
import { FakeGateway, png, TEST_TOKEN } from '../../../kit/fake-gateway.ts';
import { NginxTfsClient, TfsRequestError } from '../../../kit/nginx-tfs-client.ts';
import { describe, type TestContext } from '../../../kit/suite.ts';

const APPKEY = 'tfscom';
const picture = () => png(randomBytes(16));

async function open(t: TestContext): Promise<{ gw: FakeGateway; client: NginxTfsClient }> {
  const gw = await FakeGateway.open(t, {
    tokens: [TEST_TOKEN, tokenOf(APPKEY, { kind: 'appkey', name: 'shop' })],
    tfsRest: { list: [], requestsPerRefresh: 50 },
  });
  const client = new NginxTfsClient(`127.0.0.1:${gw.port}`, APPKEY);
  t.defer(() => client.close());
  await client.connect();
  return { gw, client };
}

const failureOf = async (promise: Promise<unknown>): Promise<TfsRequestError> => {
  try {
    await promise;
  } catch (error) {
    if (error instanceof TfsRequestError) return error;
    throw error;
  }
  throw new Error('it succeeded');
};

const failsWith = async (promise: Promise<unknown>, status: number, title: string): Promise<void> => {
  const failure = await failureOf(promise);
  assert.is(failure.status, status);
  assert.match(failure.data, title);
};

describe('a session of a client of nginx-tfs', (test) => {
  test('finds its servers and its number, and fetches the list again when it has asked often enough', async (t) => {
    const { gw, client } = await open(t);
    assert.equal(client.servers, [`127.0.0.1:${gw.port}`]);
    assert.match(client.appid, /^[1-9]\d*$/);
    assert.is(client.refreshCounter, 49);
    for (let i = 0; i < 48; i++) await failureOf(client.download('nonsense'));
    assert.is(client.refreshCounter, 1);
    await failureOf(client.download('nonsense'));
    assert.is(client.refreshCounter, 50);
    const again = new NginxTfsClient(`127.0.0.1:${gw.port}`, APPKEY);
    t.defer(() => again.close());
    await again.connect();
    assert.is(again.appid, client.appid, 'it stays the same');
  });

  test('uploads, downloads all and parts, and reads the facts', async (t) => {
    const { gw, client } = await open(t);
    const body = picture();
    const { name } = await client.upload(body, 'png');
    assert.match(name, /^T1[A-Za-z0-9._]{16}\.png$/);
    assert.ok((await client.download(name)).equals(body));
    assert.ok((await client.download(name, { offset: 0 })).equals(body));
    assert.ok((await client.download(name, { offset: 5, size: 7 })).equals(body.subarray(5, 12)));
    assert.ok((await client.download(name, { offset: 5 })).equals(body.subarray(5)));
    assert.ok((await client.download(name, { offset: 5, size: 1000 })).equals(body.subarray(5)));
    assert.is((await client.download(name, { offset: body.length })).length, 0);
    await failsWith(client.download(name, { offset: body.length + 1 }), 400, '400 Bad Request');

    const key = gw.client.parse(name);
    const meta = await client.getMeta(name);
    assert.equal(Object.keys(meta), [
      'FILE_NAME',
      'BLOCK_ID',
      'FILE_ID',
      'OFFSET',
      'SIZE',
      'OCCUPY_SIZE',
      'MODIFY_TIME',
      'CREATE_TIME',
      'STATUS',
      'CRC',
    ]);
    assert.is(meta['FILE_NAME'], name.slice(0, 18));
    assert.is(meta['BLOCK_ID'], key.block);
    assert.is(meta['SIZE'], body.length);
    assert.is(meta['OCCUPY_SIZE'], recordSpan(body.length));
    assert.is(meta['OFFSET'], 0);
    assert.is(meta['STATUS'], 0);
    assert.is(meta['CRC'], ~crc32(body, 0xffff_ffff) >>> 0);
    assert.match(
      String(meta['MODIFY_TIME']),
      /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} UTC\+0800$/,
    );
    assert.is(meta['CREATE_TIME'], meta['MODIFY_TIME']);
    const fileId = (BigInt(key.cookie) << 32n) | BigInt(key.fileId);
    assert.match(await client.getMetaText(name), `\n    "FILE_ID": ${fileId},\n`);
  });

  test('hides, reveals, removes twice and undeletes; force reads what is not shown', async (t) => {
    const { gw, client } = await open(t);
    const body = picture();
    const { name } = await client.upload(body, '.png');
    const plain = name.slice(0, 18);
    const seen = async (shown: boolean, status: number) => {
      if (shown) assert.ok((await client.download(name)).equals(body));
      else {
        await failsWith(client.download(name), 404, '404 Not Found');
        await failsWith(client.getMeta(name, { type: 0 }), 404, '404 Not Found');
      }
      assert.is((await client.getMeta(name, { type: 1 }))['STATUS'], status);
      const forced = await gw.get(`/v1/${APPKEY}/${name}?type=1`);
      assert.ok(forced.status === 200 && forced.body.equals(body));
      // The rest of the gateway has the same to say at once, also of a picture that is in its memory.
      assert.is((await gw.get(`/images/${plain}`)).status, shown ? 200 : 404);
    };
    const unlink = async (query: string) => {
      const reply = await gw.http('DELETE', `/v1/${APPKEY}/${name}${query}`);
      assert.is(reply.status, 200, query);
      assert.is(reply.body.length, 0);
      assert.is(reply.headers['content-length'], '0');
    };
    await seen(true, 0);
    assert.is((await client.remove(name, { hide: 1 })).length, 0);
    await seen(false, 4);
    await client.remove(name, { hide: 0 });
    await seen(true, 0);
    await client.remove(name);
    await seen(false, 1);
    await client.remove(name);
    await seen(false, 1);
    await unlink('?type=4');
    await seen(false, 5);
    await unlink('?type=2');
    await seen(false, 4);
    await unlink('?type=2');
    await unlink('?type=6');
    await seen(true, 0);
    await unlink('?type=0');
    await seen(false, 1);
    await unlink('?type=2&suffix=.png');
    await seen(true, 0);
  });

  test('removes what is not there: fine with it, and a 404 of the gateway', async (t) => {
    const { gw, client } = await open(t);
    const { name } = await client.upload(picture(), 'png');
    const key = gw.client.parse(name);
    const wrong = gw.client.nameOf({ ...key, cookie: (key.cookie ^ 1) as typeof key.cookie });
    assert.match((await client.remove(wrong)).toString(), '404 Not Found');
    // After its bytes were purged a delete still succeeds, and an undelete finds nothing.
    gw.cluster.blocks.get(key.block)!.records.get(key.fileId)!.flags = NameFlag.DELETED | NameFlag.PURGED;
    const undelete = await gw.http('DELETE', `/v1/${APPKEY}/${name.slice(0, 18)}?type=2`);
    assert.is(undelete.status, 404);
    assert.match(undelete.body.toString(), '<title>404 Not Found</title>');
    assert.is((await gw.get(`/v1/${APPKEY}/${name}?type=1`)).status, 404);
  });

  test('uploads in private: the suffix of TFS comes back, and reads with the appkey', async (t) => {
    const { gw, client } = await open(t);
    const body = picture();
    for (const extension of ['png', '']) {
      const { name } = await client.uploadPrivate(body, extension);
      assert.is(name.slice(18), extension === '' ? '.tfsprivate' : '.tfsprivate.png');
      assert.ok((await client.download(name)).equals(body));
      assert.ok((await client.download(name.slice(0, 18))).equals(body));
      assert.is((await gw.get(`/images/${name.slice(0, 18)}/metadata`)).status, 403, 'not for everybody');
    }
  });

  test('an appkey that is not known: 500 for its number, as clients expect, and 400 for the rest', async (t) => {
    const { gw, client } = await open(t);
    const { name } = await client.upload(picture());
    for (const appkey of ['other', TEST_TOKEN.text]) {
      const stranger = new NginxTfsClient(`127.0.0.1:${gw.port}`, appkey);
      t.defer(() => stranger.close());
      const failure = await failureOf(stranger.connect());
      assert.is(failure.name, 'TFSServerError');
      assert.is(failure.message, '500 Internal Server Error (gateway-0)');
      await failsWith(stranger.download(name), 400, '400 Bad Request');
      await failsWith(stranger.upload(picture()), 400, '400 Bad Request');
      await failsWith(stranger.remove(name), 400, '400 Bad Request');
      await failsWith(stranger.getMeta(name), 400, '400 Bad Request');
    }
    const asBearer = await gw.post(picture(), { headers: { authorization: `Bearer ${APPKEY}` } });
    assert.is(asBearer.status, 401, 'an appkey is no token');
    assert.is((await client.download(name)).length > 0, true);
  });

  test('custom file names are 400, as without meta servers', async (t) => {
    const { gw, client } = await open(t);
    await failsWith(client.createFile(320, 'foo.jpg'), 400, '400 Bad Request');
    await failsWith(client.createFile('wrongid', 'foo.jpg'), 400, '400 Bad Request');
    const base = `/v2/${APPKEY}/${client.appid}/320`;
    for (const [method, path] of [
      ['GET', `/v2/${APPKEY}/metadata/${client.appid}/320/file/foo.jpg`],
      ['GET', `${base}/file/foo.jpg`],
      ['PUT', `${base}/file/foo.jpg`],
      ['DELETE', `${base}/file/foo.jpg`],
      ['HEAD', `${base}/file/foo.jpg`],
      ['POST', `${base}/dir/a`],
      ['POST', `/v2/${APPKEY}/appid`],
      ['GET', `/v2/${APPKEY}`],
      ['GET', '/v2'],
      ['GET', '/v3/tfscom/x'],
      ['POST', '/v12/tfscom'],
    ] as const) {
      const reply = await gw.http(method, path, method === 'PUT' ? { body: Buffer.from('x') } : {});
      assert.is(reply.status, 400, `${method} ${path}`);
      if (method !== 'HEAD') assert.match(reply.body.toString(), '<title>400 Bad Request</title>');
    }
  });
});
