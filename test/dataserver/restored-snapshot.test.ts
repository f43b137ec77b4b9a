import { randomBytes } from 'node:crypto';
import { cpSync, renameSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { TfsError } from '../../common/errors.ts';
import { serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { Nonces } from '../../dataserver/nonces.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { RecordingDisk } from '../kit/recording-disk.ts';
import { describe, type TestContext } from '../kit/suite.ts';

async function until(what: string, condition: () => boolean, timeoutMs = 15_000): Promise<void> {
  for (const startedAt = performance.now(); !condition(); await sleep(20)) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
  }
}

const isUp = (cluster: LocalCluster, id: number): boolean =>
  cluster.nameserver.members.infos().some((server) => server.id === id && server.state === 'up');

/**
 * The disk of server 3 as it was before the last pictures, put back under a process that is started anew. Its incarnation
 * and its promise are those of now, as they are where no NameServer was elected since the copy was made.
 */
async function setBack(t: TestContext) {
  const cluster = await LocalCluster.start(t);
  await cluster.client.put(randomBytes(2000));
  const mount = cluster.mountPath(3);
  const copy = `${mount}.copy`;
  cpSync(mount, copy, { recursive: true });
  const now = `${mount}.now`;
  // It registers again with a NameServer that was restarted, as after any outage.
  for (let i = 0; i < 2; i++) {
    await cluster.stopNameServer();
    await cluster.startNameServer();
    await until('server 3 is heard', () => isUp(cluster, 3));
    await cluster.client.put(randomBytes(2000));
  }
  await cluster.stopServer(3);
  renameSync(mount, now);
  cpSync(copy, mount, { recursive: true });
  for (const file of ['incarnation.tfs', 'promise.tfs']) cpSync(`${now}/${file}`, `${mount}/${file}`);
  const refusals: TfsError[] = [];
  const restart = () => cluster.startServer(3, { onRefused: (error) => refusals.push(error) });
  return { cluster, refusals, restart };
}

describe('a disk that was restored from an older copy', (test) => {
  test('is not let in: its incarnation looks new, the nonce of its last registration does not', async (t) => {
    const { cluster, refusals, restart } = await setBack(t);
    await restart();
    await until('a refusal', () => refusals.length > 0);
    assert.is(refusals[0]!.code, 'REFUSED');
    assert.match(
      refusals[0]!.message,
      /set back to an older copy.*give the mount a new id and format it empty/,
    );
    assert.is(isUp(cluster, 3), false);
  });

  test('is not let in where it has not registered since: its disk was in service for longer', async (t) => {
    const cluster = await LocalCluster.start(t);
    const mount = cluster.mountPath(3);
    const age = () => cluster.servers.get(3)!.probe.age;
    await until('its disk has an age', () => age() >= 1);
    await cluster.client.put(randomBytes(2000));
    cpSync(mount, `${mount}.copy`, { recursive: true });
    const copied = age();
    await cluster.client.put(randomBytes(2000));
    const told = () => cluster.nameserver.members.get(serverId(3))?.diskAge ?? 0;
    await until('its NameServer has heard of a greater age', () => told() > copied);
    await cluster.stopServer(3);
    renameSync(mount, `${mount}.now`);
    renameSync(`${mount}.copy`, mount);
    const refusals: TfsError[] = [];
    const onRefused = (error: TfsError) => refusals.push(error);
    for (let start = 1; start <= 2; start++) {
      const copy = await cluster.startServer(3, { onRefused });
      await until('a refusal', () => refusals.length === start);
      assert.is(refusals.at(-1)!.code, 'REFUSED');
      assert.match(refusals.at(-1)!.message, /in service for \d+ s.*set back to an older copy/);
      await sleep(1500);
      assert.is(copy.probe.age, copied, 'it does not catch up');
      await cluster.stopServer(3);
      // It remembers what it heard.
      if (start === 1) await cluster.stopNameServer().then(() => cluster.startNameServer());
    }
    rmSync(mount, { recursive: true });
    renameSync(`${mount}.now`, mount);
    await cluster.startServer(3);
    await until('the disk of now is let in', () => isUp(cluster, 3));
  });

  test('would be let in by a NameServer without its nonces: nothing else tells it from the disk it was', async (t) => {
    const { cluster, refusals, restart } = await setBack(t);
    await cluster.stopNameServer();
    rmSync(`${cluster.root}/ns`, { recursive: true });
    await cluster.startNameServer();
    await restart();
    await until('server 3 is heard', () => isUp(cluster, 3));
    assert.equal(refusals, []);
  });

  test('blocks that a server had reported and does not report any more are counted', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { key, members } = await cluster.client.put(randomBytes(2000));
    const id = members[1]!;
    await cluster.stopServer(id);
    rmSync(`${cluster.mountPath(id)}/blocks/${key.block}.0.blk`);
    rmSync(`${cluster.mountPath(id)}/blocks/${key.block}.1.ops`, { force: true });
    for (const n of [0, 2, 3])
      rmSync(`${cluster.mountPath(id)}/blocks/${key.block}.${n}.ops`, { force: true });
    rmSync(`${cluster.mountPath(id)}/blocks/${key.block}.0.idx`, { force: true });
    await cluster.startServer(id);
    await until('it is counted', () => cluster.nameserver.registry.stats.lostReplicas === 1);
  });
}, 60_000);

describe('nonces of a DataServer', (test) => {
  test('are there for each NameServer after a restart', async () => {
    const disk = new RecordingDisk();
    const nonces = await Nonces.open(disk, silentLog);
    assert.is(nonces.of(0), undefined);
    await Promise.all([nonces.keep(0, 'a'), nonces.keep(1, 'b'), nonces.keep(0, 'c')]);
    const again = await Nonces.open(
      disk.crashPoint().image(() => false),
      silentLog,
    );
    assert.equal([again.of(0), again.of(1)], ['c', 'b']);
  });

  test('a disk that takes no writes goes on showing the last it took', async () => {
    const disk = new RecordingDisk();
    const nonces = await Nonces.open(disk, silentLog);
    await nonces.keep(0, 'a');
    disk.failure = { nth: 1, code: 'READ_ONLY', kinds: ['write', 'open'], sticky: true };
    await nonces.keep(0, 'b');
    assert.is(nonces.of(0), 'a');
  });

  test('a damaged file is refused with what to do', async () => {
    const disk = new RecordingDisk();
    disk.plant('nonces.tfs', Buffer.from('00000000 {"byNameserver":{}}\n'));
    const error = await Nonces.open(disk, silentLog).catch((thrown: unknown) => thrown as TfsError);
    assert.is((error as TfsError).code, 'REFUSED');
  });
});
