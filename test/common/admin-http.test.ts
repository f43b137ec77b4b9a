import { request } from 'undici';
import * as assert from 'uvu/assert';
import { AdminHttp, type AdminHttpOptions } from '../../common/admin-http.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { openMetrics } from '../../common/metrics.ts';
import type { Status } from '../../common/wire/control.ts';
import { captureLog } from '../kit/capture-log.ts';
import { describe, type TestContext } from '../kit/suite.ts';

const status: Status = {
  kind: 'dataserver',
  id: '3',
  pid: 42,
  address: '127.0.0.1:7526',
  mount: '/m3',
  state: 'up',
  startedAtMs: 1,
  version: '0.1.0',
};

async function listen(t: TestContext, more: Partial<AdminHttpOptions> = {}) {
  const log = captureLog();
  const metrics = openMetrics({ kind: 'dataserver', id: '3', processMetrics: false });
  const http = await AdminHttp.listen({
    address: { host: '127.0.0.1', port: 0 },
    setting: 'mounts[2].adminPort',
    health: () => ({ ok: true, status }),
    metrics,
    log,
    ...more,
  });
  t.defer(() => http.close());
  const get = async (path: string) => {
    const reply = await request(`http://127.0.0.1:${http.address.port}${path}`);
    const text = await reply.body.text();
    return { code: reply.statusCode, text, headers: reply.headers };
  };
  return { http, get, log, metrics };
}

describe('admin HTTP', (test) => {
  test('tells the health as 200 or 503 with the status of the server', async (t) => {
    let ok = true;
    const { get } = await listen(t, { health: async () => ({ ok, status }) });
    const good = await get('/healthz');
    assert.is(good.code, 200);
    assert.equal(JSON.parse(good.text), { ok: true, ...status });
    ok = false;
    const bad = await get('/healthz');
    assert.is(bad.code, 503);
    assert.is(JSON.parse(bad.text).ok, false);
  });

  test('gives metrics as Prometheus reads them', async (t) => {
    const { get, metrics } = await listen(t);
    metrics.counter('tfs_things_total', 'things').inc(3);
    const reply = await get('/metrics');
    assert.is(reply.code, 200);
    assert.match(String(reply.headers['content-type']), 'text/plain');
    assert.match(reply.text, 'tfs_things_total{kind="dataserver",id="3"} 3');
  });

  test('errors are {code, message, requestId}, and only bugs are logged', async (t) => {
    const { get, log } = await listen(t, {
      routes: (router) => {
        router.get('/fine', (ctx) => {
          ctx.body = 'fine';
        });
        router.get('/gone', () => {
          throw new TfsError('GONE', 'no longer');
        });
        router.get('/bug', () => {
          throw new TypeError('oops');
        });
      },
    });
    assert.is((await get('/fine')).text, 'fine');
    const gone = await get('/gone');
    assert.is(gone.code, 410);
    const body = JSON.parse(gone.text);
    assert.equal([body.code, body.message], ['GONE', 'no longer']);
    assert.is(body.requestId, gone.headers['x-request-id']);
    const missing = await get('/nothing');
    assert.is(missing.code, 404);
    assert.is(JSON.parse(missing.text).code, 'NOT_FOUND');
    assert.is(log.lines.length, 0);
    assert.is((await get('/bug')).code, 500);
    assert.equal(
      log.lines.map((line) => line.level),
      ['error'],
    );
  });

  test('a taken port is named with the setting that chose it', async (t) => {
    const { http } = await listen(t);
    try {
      await listen(t, { address: http.address });
    } catch (error) {
      assert.ok(isTfsError(error, 'CONFLICT'), String(error));
      assert.match(error.message, `127.0.0.1:${http.address.port}`);
      assert.match(error.message, 'mounts[2].adminPort');
      return;
    }
    throw new Error('two servers listen on one port');
  });

  test('close ends idle connections too', async (t) => {
    const { http, get } = await listen(t);
    await get('/healthz');
    await http.close();
    let refused = false;
    await get('/healthz').catch(() => {
      refused = true;
    });
    assert.is(refused, true);
  });
});
