import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { blockId, serverId } from '../../common/ids.ts';
import { encodeName } from '../../common/name.ts';
import type { ClusterMap } from '../../common/wire/control.ts';
import { ClusterProbe, keyOf } from '../kit/cluster-probe.ts';
import { ProcessCluster, type ProcessName, tinyPng } from '../kit/process-cluster.ts';
import { runTfs } from '../kit/run-tfs.ts';
import { describe, type TestContext } from '../kit/suite.ts';

interface World {
  readonly cluster: ProcessCluster;
  readonly probe: ClusterProbe;
  /** Resolves when another one leads, or the same one again, and commands. @returns who, and after how long */
  next(since: ClusterMap, withinMs: number): Promise<{ name: ProcessName; map: ClusterMap; tookMs: number }>;
}

async function pair(t: TestContext): Promise<World> {
  const cluster = await ProcessCluster.start({ nameservers: 2, redis: true });
  t.defer(() => cluster.destroy());
  const probe = await ClusterProbe.open(cluster);
  t.defer(() => probe.close());
  await both(probe);
  return {
    cluster,
    probe,
    next: async (since, withinMs) => {
      const begun = performance.now();
      const { name, map } = await probe.untilLed(withinMs, ({ reign }) => reign.epoch > since.reign.epoch);
      for (;;) {
        try {
          await probe.openBlock(name, serverId(1), map);
          return { name, map, tookMs: performance.now() - begun };
        } catch (error) {
          if (performance.now() - begun > withinMs) throw error;
          await sleep(20);
        }
      }
    },
  };
}

/** Both NameServers know exactly what every DataServer holds. */
async function both(probe: ClusterProbe): Promise<void> {
  // One that was just started may not have been dialled again yet: a failed dial counts for a moment.
  const inStep = (name: ProcessName) =>
    probe.mapOf(name).then(
      (map) => map.inStep,
      () => 0,
    );
  for (const name of ['ns0', 'ns1'] as const) while ((await inStep(name)) < 3) await sleep(50);
}

/** Reads a picture again and again until told to stop. @returns the answers that were not the picture */
function reading(cluster: ProcessCluster, name: string): { stop(): Promise<string[]> } {
  const failures: string[] = [];
  let stopped = false;
  const run = (async () => {
    while (!stopped) {
      try {
        const reply = await cluster.get(name);
        if (reply.status !== 200) failures.push(`${reply.status} ${reply.body.toString('utf8')}`);
      } catch (error) {
        failures.push(String(error));
      }
      await sleep(5);
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await run;
      return failures;
    },
  };
}

describe('two NameServers as processes', (test) => {
  test('killed, stopped, told to stop: another one commands soon, no read fails, a name nobody stored is not found', async (t) => {
    const { cluster, probe, next } = await pair(t);
    const { name } = await cluster.put(tinyPng(randomBytes(8)));
    // Of a series that no NameServer has drawn.
    const nobody = encodeName({ ...keyOf(name), block: blockId(0x7ff0_0000) });
    const reads = reading(cluster, name);
    t.defer(() => reads.stop());
    const figures: string[] = [];
    for (const signal of ['SIGKILL', 'SIGSTOP', 'SIGTERM'] as const) {
      const { name: leader, map } = await probe.untilLed(5000);
      if (signal === 'SIGSTOP') cluster.signal(leader, signal);
      else void cluster.stopOne(leader, signal);
      const after = await next(map, 10_000);
      figures.push(`${signal} ${Math.round(after.tookMs)} ms`);
      assert.is.not(after.name, leader);
      await cluster.writable(5000);
      while ((await cluster.get(nobody)).status !== 404) await sleep(50);
      if (signal === 'SIGSTOP') cluster.signal(leader, 'SIGCONT');
      else await cluster.startOne(leader);
      await both(probe);
      assert.equal((await probe.untilLed(5000)).map.reign, after.map.reign, 'who comes back disturbs nobody');
    }
    assert.equal(await reads.stop(), []);
    process.stdout.write(`\nFIGURE commands again after ${figures.join(', ')}\n`);
    for (const one of ['ns0', 'ns1'] as const) assert.not.match(cluster.log(one), /is not what it reported/);
  });

  test('Redis gone, back, empty: the leader leads on; without Redis and leader the other one takes over', async (t) => {
    const { cluster, probe, next } = await pair(t);
    const { name, map } = await probe.untilLed(5000);
    await cluster.stopOne('redis', 'SIGKILL');
    await sleep(2500);
    await cluster.writable(5000);
    assert.equal((await probe.untilLed(1000)).map.reign, map.reign);
    await cluster.startOne('redis');
    await sleep(1500);
    assert.equal((await probe.untilLed(1000)).map.reign, map.reign, 'a Redis that forgot who leads');
    cluster.signal('redis', 'SIGSTOP');
    await sleep(2500);
    assert.equal((await probe.untilLed(1000)).map.reign, map.reign, 'a Redis that hangs');
    await cluster.stopOne(name, 'SIGKILL');
    const after = await next(map, 15_000);
    assert.is.not(after.name, name);
    await cluster.writable(5000);
    cluster.signal('redis', 'SIGCONT');
    await cluster.startOne(name);
    await both(probe);
    assert.equal((await probe.untilLed(1000)).map.reign, after.map.reign);
  });

  test('tfs promote moves the lead, and says why it does not', async (t) => {
    const { cluster, probe } = await pair(t);
    const env = { TFS_HOME: cluster.home };
    const { name } = await probe.untilLed(5000);
    const [first, second] = name === 'ns0' ? ['0', '1'] : ['1', '0'];
    const moved = await runTfs(['promote', second], { env });
    assert.is(moved.code, 0, moved.stderr);
    assert.match(moved.stdout.toString(), /^NameServer \d leads, epoch \d+$/m);
    assert.is((await probe.untilLed(2000)).name, `ns${second}`);
    await cluster.writable(5000);
    await cluster.stopOne(`ns${Number(second)}`, 'SIGKILL');
    const refused = await runTfs(['promote', second], { env });
    assert.is(refused.code, 5, refused.stderr);
    const forced = await runTfs(['promote', first, '--force', '--json'], { env });
    assert.is(forced.code, 0, forced.stderr);
    assert.is(forced.json[0]?.['nameserver'], Number(first));
    assert.is((await runTfs(['promote', '2'], { env })).code, 2);
  });
}, 120_000);
