import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { History } from '../kit/history.ts';
import { checkHistory } from '../kit/history-checker.ts';
import { ManagedCluster } from '../kit/managed-cluster.ts';
import { describe } from '../kit/suite.ts';
import { VerifyingLoad } from '../kit/verifying-load.ts';

describe('npm run reload', (test) => {
  test('replaces every process under load, and a client that retries once sees no failure', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure();
    const started = await cluster.tool('start');
    assert.is(started.code, 0, `${started.stdout}${started.stderr}`);
    const token = readFileSync(join(cluster.home, 'secrets', 'token'), 'utf8').trim();
    const load = VerifyingLoad.start({
      urls: [cluster.url],
      token,
      history: new History(),
      putsPerSecond: 40,
      getsPerSecond: 80,
      seed: 7,
    });
    await sleep(2_000);
    const before = await cluster.status();
    const startedAt = performance.now();
    const reloaded = await cluster.tool('reload');
    const seconds = (performance.now() - startedAt) / 1000;
    await sleep(1_000);
    await load.stop();
    assert.is(reloaded.code, 0, `${reloaded.stdout}${reloaded.stderr}`);

    const after = await cluster.status();
    assert.ok(after.processes.every(({ state }) => state === 'up'));
    const pids = new Map(before.processes.map(({ kind, id, pid }) => [`${kind} ${id}`, pid]));
    const kept = after.processes.filter(({ kind, id, pid }) => pids.get(`${kind} ${id}`) === pid);
    assert.equal(
      kept.map(({ kind }) => kind),
      ['redis'],
      'all others are new processes',
    );

    const { puts, gets, deletedGets, mutations } = load;
    const figures = Object.entries({ puts, gets, deletedGets, mutations })
      .map(
        ([what, { asked, retried, failed, slowestMs }]) =>
          `${what} ${asked}, ${retried} retried, ${failed} failed, slowest ${slowestMs.toFixed(0)} ms`,
      )
      .join('; ');
    process.stdout.write(`\nFIGURE reload ${seconds.toFixed(0)} s: ${figures}\n`);
    const failures = [...load.failures].map(([what, count]) => `${count} × ${what}`).join(', ');
    for (const tally of [puts, gets, deletedGets, mutations])
      assert.is(tally.failed, 0, `${figures}; ${failures}`);
    assert.equal(load.unexpected, []);
    assert.equal(checkHistory(load.history, { faults: [] }), []);

    // With one DataServer away no other is touched; naming it brings it back.
    assert.match((await cluster.tool('stop', ['dataserver-3'])).stdout, 'stopped dataserver-3');
    const refused = await cluster.tool('reload', ['dataserver-1']);
    assert.is(refused.code, 1);
    assert.match(refused.stderr, 'dataserver-1 is left as it is, because DataServer 3 is down');
    const back = await cluster.tool('reload', ['dataserver-3']);
    assert.is(back.code, 0, `${back.stdout}${back.stderr}`);
    const unknown = await cluster.tool('reload', ['dataserver-9']);
    assert.match(unknown.stderr, 'no process is called dataserver-9');
  });
}, 230_000);
