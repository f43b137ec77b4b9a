import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { ClusterMap } from '../../../common/wire/control.ts';
import { isRunning } from '../../../tools/cluster/leftovers.ts';
import { ManagedCluster } from '../../kit/managed-cluster.ts';
import { runTfs } from '../../kit/run-tfs.ts';
import { describe } from '../../kit/suite.ts';

interface Told {
  readonly code: number | null;
  readonly verdict: string;
  readonly codes: readonly string[];
}

async function doctor(home: string): Promise<Told> {
  const end = await runTfs(['doctor', '--json'], { env: { TFS_HOME: home } });
  const { verdict, findings } = end.json[0] as {
    verdict: string;
    findings: { code: string; level: string }[];
  };
  const codes = findings.filter(({ level }) => level !== 'note').map(({ code }) => code);
  return { code: end.code, verdict, codes };
}

async function until(home: string, isSo: (told: Told) => boolean): Promise<Told> {
  let told = await doctor(home);
  for (let tries = 0; !isSo(told) && tries < 25; tries++) {
    await sleep(500);
    told = await doctor(home);
  }
  return told;
}

describe('tfs doctor and status', (test) => {
  test('tell a healthy cluster, one that misses a server, one at risk, and one that is stopped', async (t) => {
    const cluster = await ManagedCluster.create(t);
    cluster.configure();
    const { home } = cluster;
    const started = await cluster.tool('start');
    assert.is(started.code, 0, started.stderr);
    assert.equal(await until(home, ({ code }) => code === 0), { code: 0, verdict: 'healthy', codes: [] });

    const json = await runTfs(['status', '--json'], { env: { TFS_HOME: home } });
    const { blocks, servers } = (json.json[0]!['cluster'] as { map: ClusterMap }).map;
    assert.is(blocks.byCopies.length, 4);
    assert.is(blocks.byCopies[3], blocks.total, JSON.stringify(blocks));
    assert.is(servers.length, 3);
    const text = (await runTfs(['status'], { env: { TFS_HOME: home } })).stdout.toString();
    assert.match(text, /^nameserver +0 +\d+ +\S+ +up +(primary|standby)/m);
    assert.match(text, /^3 +up +d3 +\d\.\d s ago +\d+ MiB .* healthy, \d+ ms/m);
    assert.match(text, 'The cluster takes uploads. Redis is up. It is healthy.');

    const servers3 = (await cluster.status()).processes.filter(({ kind }) => kind === 'dataserver');
    const [, second, third] = servers3.map(({ pid }) => pid!);
    t.defer(() => {
      for (const pid of [second!, third!].filter(isRunning)) process.kill(pid, 'SIGCONT');
    });
    process.kill(third!, 'SIGSTOP');
    const one = await until(home, ({ codes }) => codes.includes('fewer-copies-than-wanted'));
    assert.equal([one.code, one.verdict], [1, 'degraded']);
    assert.ok(one.codes.includes('server-down'), one.codes.join());

    process.kill(second!, 'SIGSTOP');
    const two = await until(home, ({ codes }) => codes.includes('one-copy'));
    assert.equal([two.code, two.verdict], [2, 'at risk']);
    assert.ok(two.codes.includes('not-writable'), two.codes.join());

    for (const pid of [second!, third!]) process.kill(pid, 'SIGCONT');
    const back = await until(home, ({ verdict }) => verdict !== 'at risk');
    assert.is.not(back.verdict, 'at risk', back.codes.join());

    // One is lost for good.
    const alive = await runTfs(['remove-server', '3'], { env: { TFS_HOME: home } });
    assert.is(alive.code, 1);
    assert.match(alive.stderr, 'server 3 is alive');
    assert.match((await cluster.tool('stop', ['dataserver-3'])).stdout, 'stopped dataserver-3');
    await until(home, ({ codes }) => codes.includes('server-down'));
    const removed = await runTfs(['remove-server', '3', '--json'], { env: { TFS_HOME: home } });
    assert.is(removed.code, 0, removed.stderr);
    assert.equal(removed.json, [{ server: 3, removed: [3], onBoth: true }]);
    const without = await doctor(home);
    assert.ok(without.codes.includes('server-unknown'), without.codes.join());
    assert.not.ok(without.codes.includes('server-down'), without.codes.join());

    assert.is((await cluster.tool('stop')).code, 0);
    assert.equal(await doctor(home), { code: 2, verdict: 'at risk', codes: ['not-running'] });
  });
}, 230_000);
