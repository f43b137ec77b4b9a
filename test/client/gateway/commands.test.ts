import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import { NameFlag, Op } from '../../../common/wire/messages.ts';
import { AUTH, FakeGateway, png } from '../../kit/fake-gateway.ts';
import { describe } from '../../kit/suite.ts';

const picture = () => png(randomBytes(16));
const act = (gw: FakeGateway, method: string, path: string, headers: Record<string, string> = AUTH) =>
  gw.http(method, `/images/${path}`, { headers });

describe('DELETE, undelete, hide, reveal', (test) => {
  test('take effect at once on this gateway, also on a hot picture', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    const status = async () => (await gw.get(`/images/${name}`)).status;
    assert.is(await status(), 200);
    for (const [method, path, after] of [
      ['DELETE', name, 404],
      ['DELETE', name, 404],
      ['POST', `${name}/undelete`, 200],
      ['POST', `${name}/undelete`, 200],
      ['POST', `${name}/hide`, 404],
      ['POST', `${name}/hide`, 404],
      ['POST', `${name}/reveal`, 200],
    ] as const) {
      const got = await act(gw, method, path);
      assert.is(got.status, 204, `${method} ${path}`);
      assert.is(got.body.length, 0);
      assert.is(await status(), after, `after ${method} ${path}`);
    }
  });

  test('need a token, and tell nothing without one', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    for (const path of [name, `${name}/hide`, 'T19aETByJT1RCvBVdK', 'nonsense']) {
      const method = path.includes('/') ? 'POST' : 'DELETE';
      assert.is((await act(gw, method, path, {})).status, 401, path);
      assert.is((await act(gw, method, path, { authorization: 'Bearer no' })).status, 401, path);
    }
    assert.is((await gw.get(`/images/${name}`)).status, 200);
  });

  test('of what is not there: 404, malformed 400, after a purge 410', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    const key = gw.client.parse(name);
    const wrong = gw.client.nameOf({ ...key, cookie: (key.cookie ^ 1) as typeof key.cookie });
    assert.is((await act(gw, 'DELETE', wrong)).status, 404);
    assert.is((await act(gw, 'DELETE', 'nonsense')).status, 400);
    assert.is((await act(gw, 'DELETE', `T2${name.slice(2)}`)).status, 404);
    assert.is((await act(gw, 'DELETE', `${name}.gif`)).status, 404);
    assert.is((await act(gw, 'POST', `${name}/explode`)).status, 404);
    gw.cluster.blocks.get(key.block)!.records.get(key.fileId)!.flags = NameFlag.DELETED | NameFlag.PURGED;
    const gone = await act(gw, 'POST', `${name}/undelete`);
    assert.is(gone.status, 410);
    assert.is(gone.json['code'], 'GONE');
    assert.is((await act(gw, 'DELETE', name)).status, 204);
  });

  test('an extension that matches is as good as none', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    assert.is((await act(gw, 'DELETE', `${name}.png`)).status, 204);
    assert.is((await act(gw, 'POST', `${name}.png/undelete`)).status, 204);
    assert.is((await gw.get(`/images/${name}.png`)).status, 200);
  });

  test('the order server gone is 503, and the answer does not come from memory afterwards', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    assert.is((await gw.get(`/images/${name}`)).status, 200);
    const primary = gw.cluster.blocks.get(gw.client.parse(name).block)!.opsPrimary;
    gw.cluster.server(primary).down = true;
    const deleting = act(gw, 'DELETE', name);
    await new Promise((resolve) => setTimeout(resolve, 100));
    gw.cluster.server(primary).down = false;
    assert.is((await deleting).status, 204);
    assert.is((await gw.get(`/images/${name}`)).status, 404);
  });

  test('carry a key to the operation id: the same for a repeat, another for another name', async (t) => {
    const gw = await FakeGateway.open(t);
    const names = [await gw.store(picture()), await gw.store(picture())];
    const opIds: string[] = [];
    const mutate = gw.client.remove.bind(gw.client);
    gw.client.remove = (name, opId) => {
      opIds.push(opId?.toString('hex') ?? 'none');
      return mutate(name, opId);
    };
    const headers = { ...AUTH, 'idempotency-key': 'k' };
    for (const name of [names[0]!, names[0]!, names[1]!])
      assert.is((await act(gw, 'DELETE', name, headers)).status, 204);
    await act(gw, 'DELETE', names[0]!);
    assert.is(opIds[0], opIds[1]);
    assert.is.not(opIds[0], opIds[2]);
    assert.is(opIds[0]!.length, 32);
    assert.is(opIds[3], 'none');
  });
});

describe('metadata', (test) => {
  test('is public while the picture is; with a token it shows the state', async (t) => {
    const gw = await FakeGateway.open(t);
    const body = picture();
    const name = await gw.store(body);
    const pub = await gw.get(`/images/${name}/metadata`);
    assert.is(pub.status, 200);
    assert.is(pub.json['size'], body.length);
    assert.is(pub.json['mediaType'], 'image/png');
    assert.is(pub.json['width'], 3);
    assert.is(pub.json['state'], undefined);
    await act(gw, 'DELETE', name);
    assert.is((await gw.get(`/images/${name}/metadata`)).status, 404);
    assert.is((await gw.get(`/images/${name}/metadata`, { authorization: 'Bearer no' })).status, 401);
    assert.is((await gw.get(`/images/${name}/metadata`, AUTH)).json['state'], 'deleted');
    await act(gw, 'POST', `${name}/undelete`);
    await act(gw, 'POST', `${name}/hide`);
    assert.is((await gw.get(`/images/${name}/metadata`, AUTH)).json['state'], 'hidden');
    await act(gw, 'POST', `${name}/reveal`);
    assert.is((await gw.get(`/images/${name}.png/metadata`, AUTH)).json['state'], 'live');
    assert.is((await gw.get(`/images/${name}.gif/metadata`, AUTH)).status, 404);
    const head = await gw.http('HEAD', `/images/${name}/metadata`);
    assert.is(head.status, 200);
    assert.is(head.body.length, 0);
  });
});

describe('the gateway about itself', (test) => {
  test('healthz and metrics', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    await gw.get(`/images/${name}`);
    await gw.get(`/images/${name}`);
    const health = await gw.get('/healthz');
    assert.is(health.status, 200);
    assert.is(health.json['state'], 'ready');
    assert.equal(health.json['details'], { ready: true, writable: true, servers: 3 });
    const metrics = (await gw.get('/metrics')).body.toString('utf8');
    assert.match(metrics, /^tfs_gateway_picture_requests_total\{status="200",kind="gateway",id="0"\} 2$/m);
    assert.match(metrics, /^tfs_gateway_cache_lookups_total\{result="hit",.*\} 1$/m);
    assert.match(metrics, /^tfs_gateway_uploads_total\{code="OK",.*\} 1$/m);
  });

  test('without a NameServer it is alive, not ready, and answers 503', async (t) => {
    const gw = await FakeGateway.open(t);
    const health = await gw.get('/healthz');
    assert.is(health.json['ok'], true);
    for (const ns of gw.cluster.nameservers) ns.down = true;
    // A name whose block nobody has asked for yet.
    const got = await gw.get('/images/T19aETByJT1RCvBVdK');
    assert.is(got.status, 503);
    assert.ok(got.headers['retry-after']);
  });

  test('a drain finishes what is under way and closes idle connections', async (t) => {
    const gw = await FakeGateway.open(t);
    const name = await gw.store(picture());
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    for (const server of gw.cluster.servers) server.before = (op) => (op === Op.READ ? held : undefined);
    const reading = gw.get(`/images/${name}`);
    while (gw.cluster.servers.every((server) => server.count(Op.READ) === 0))
      await new Promise((resolve) => setTimeout(resolve, 5));
    const closing = gw.gateway.close();
    release();
    const got = await reading;
    assert.is(got.status, 200);
    await closing;
    let refused = false;
    await gw.get(`/images/${name}`).catch(() => {
      refused = true;
    });
    assert.ok(refused);
  });
});
