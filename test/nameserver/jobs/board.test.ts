import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { BullQueues } from '../../../common/adapters/bull-queues.ts';
import { AdminHttp } from '../../../common/admin-http.ts';
import { serverId } from '../../../common/ids.ts';
import { silentLog } from '../../../common/log.ts';
import { openMetrics } from '../../../common/metrics.ts';
import { jobBoard } from '../../../nameserver/jobs/board.ts';
import { findRedisServer } from '../../../tools/cluster/redis.ts';
import { RedisOfTest } from '../../kit/redis-of-test.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const REDIS = findRedisServer(process.env);
const TOKEN = 'a-token-of-some-length';
const SERVER = serverId(3);
const bearer = { authorization: `Bearer ${TOKEN}` };
const basic = (password: string) => ({
  authorization: `Basic ${Buffer.from(`anyone:${password}`).toString('base64')}`,
});

/** An admin port with the board, over the queues of a Redis with one job in them. */
async function open(t: TestContext): Promise<{ url: string; queues: BullQueues; kill: () => Promise<void> }> {
  const redis = await RedisOfTest.open(t);
  redis.start();
  const queues = BullQueues.open({
    url: redis.url,
    clusterUuid: 'ab'.repeat(16),
    log: silentLog,
  });
  t.defer(() => queues.close());
  while (
    !(await queues.check().then(
      () => true,
      () => false,
    ))
  )
    await sleep(20);
  await queues.add(SERVER, [{ id: 'replicate-7-1-1', priority: 10, payload: { block: 7 } }]);
  const metrics = openMetrics({ kind: 'nameserver', id: '0', processMetrics: false });
  const admin = await AdminHttp.listen({
    address: { host: '127.0.0.1', port: 0 },
    setting: 'test',
    health: () => ({
      ok: true,
      status: {
        kind: 'nameserver',
        id: '0',
        pid: 1,
        address: 'x:1',
        state: 'ok',
        startedAtMs: 0,
        version: '0',
      },
    }),
    metrics,
    log: silentLog,
    middleware: jobBoard({ queues: () => queues.native([SERVER]), token: TOKEN }),
  });
  t.defer(() => admin.close());
  return { url: `http://127.0.0.1:${admin.address.port}`, queues, kill: () => redis.kill() };
}

describe('the board of jobs', (test) => {
  const withServer = REDIS === undefined ? test.skip : test;

  withServer(
    'is shown to whoever has the token, and to nobody else; health and metrics stay open',
    async (t) => {
      const { url } = await open(t);
      for (const headers of [
        {},
        basic('wrong'),
        { authorization: 'Bearer wrong' },
        { authorization: 'Basic !' },
        basic(''),
      ]) {
        for (const path of ['/jobs', '/jobs/', '/jobs/api/queues', '/jobs/static/x.js']) {
          const refused = await fetch(url + path, { headers });
          assert.is(refused.status, 401, path);
          assert.match(refused.headers.get('www-authenticate')!, /^Basic realm=/);
          assert.not.match(await refused.text(), /dataserver-3/);
        }
      }
      assert.is((await fetch(`${url}/healthz`)).status, 200);
      assert.is((await fetch(`${url}/metrics`)).status, 200);
      for (const headers of [bearer, basic(TOKEN)]) {
        const page = await fetch(`${url}/jobs`, { headers });
        assert.is(page.status, 200);
        assert.match(await page.text(), /<html/i);
        const api = await fetch(
          `${url}/jobs/api/queues?activeQueue=dataserver-3&status=prioritized&page=1&jobsPerPage=10`,
          { headers },
        );
        assert.is(api.status, 200);
        const { queues } = (await api.json()) as { queues: { name: string; readOnlyMode: boolean }[] };
        assert.equal(
          queues.map(({ name, readOnlyMode }) => [name, readOnlyMode]),
          [['dataserver-3', true]],
        );
      }
    },
  );

  withServer('changes nothing, and leads nowhere else', async (t) => {
    const { url, queues } = await open(t);
    for (const path of ['pause', 'empty', 'clean/wait', 'obliterate', 'replicate-7-1-1/clean'])
      for (const method of ['PUT', 'POST']) {
        const { status } = await fetch(`${url}/jobs/api/queues/dataserver-3/${path}`, {
          method,
          headers: bearer,
        });
        assert.ok(status >= 400, `${method} ${path}: ${status}`);
      }
    assert.is((await queues.counts(SERVER)).waiting, 1);
    for (const path of [
      'static/../../package.json',
      'static/%2e%2e/%2e%2e/package.json',
      'static/..%2f..%2fpackage.json',
    ]) {
      const answer = await fetch(`${url}/jobs/${path}`, { headers: bearer });
      assert.not.match(await answer.text(), /"dependencies"/, path);
    }
  });

  withServer('without Redis it says so', async (t) => {
    const { url, kill } = await open(t);
    await kill();
    await sleep(300);
    const answer = await fetch(`${url}/jobs`, { headers: bearer });
    assert.is(answer.status, 503);
    assert.match(await answer.text(), /Redis does not answer/);
  });
}, 30_000);
