import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { nodeNet } from '../../common/adapters/node-net.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import type { Config } from '../../common/config.ts';
import { isTfsError } from '../../common/errors.ts';
import type { BlockId, Millis } from '../../common/ids.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { zCompactReply, zPurgeReply } from '../../common/wire/compaction.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { Op } from '../../common/wire/messages.ts';
import { Peers } from '../../common/wire/peers.ts';
import type { RpcRequest } from '../../common/wire/rpc-server.ts';
import type { Faults } from '../../dataserver/block/faults.ts';
import { askLeader } from '../../tools/cli/leader.ts';
import { LOCAL_KEYRING, LocalCluster } from '../kit/local-cluster.ts';
import { describe, type TestContext } from '../kit/suite.ts';

interface Picture {
  readonly stored: Stored;
  readonly body: Buffer;
}

/** A cluster with sealed blocks, in which pictures may be purged as soon as they are deleted. */
async function filled(t: TestContext, undeleteWindowMs = 0) {
  const cluster = await LocalCluster.start(t, { undeleteWindowMs });
  const pictures: Picture[] = [];
  const { counts } = cluster.nameserver.map;
  // How many blocks are open at a time, and so how much it takes, depends on how busy the machine is.
  for (let i = 0; i < 8 || (counts.sealed < 2 && i < 60); i++) {
    const bodies = Array.from({ length: 40 }, () => randomBytes(2000 + Math.floor(Math.random() * 20_000)));
    const stored = await Promise.all(bodies.map((body) => cluster.client.put(body)));
    pictures.push(...stored.map((one, k) => ({ stored: one, body: bodies[k]! })));
  }
  await until('some blocks are sealed everywhere', () => counts.sealed >= 2);
  const ids = [...new Set(pictures.map(({ stored }) => stored.key.block))];
  const sealed = ids.filter((id) => [...cluster.servers.values()].every(({ store }) => store.info(id)?.seal));
  return { cluster, pictures, block: sealed[0]! };
}

async function until(what: string, test: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1500; i++) {
    if (await test()) return;
    await sleep(20);
  }
  throw new Error(`never: ${what}`);
}

async function bodyOf(cluster: LocalCluster, name: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of (await cluster.client.get(name)).pieces()) pieces.push(piece);
  return Buffer.concat(pieces);
}

const filesOf = (cluster: LocalCluster, server: number, block: BlockId): string[] =>
  readdirSync(join(cluster.mountPath(server), 'blocks')).filter(
    (name) => name.startsWith(`${block}.`) && !name.endsWith('.ops'),
  );

/** As `tfs compact` asks for it. */
async function ordered(t: TestContext, { nameserver }: LocalCluster, block: BlockId) {
  const [net, clock, random] = [nodeNet, nodeClock, nodeRandom];
  const peers = Peers.open({ net, clock, random, keyring: LOCAL_KEYRING, role: 'operator', id: 'test' });
  t.defer(() => peers.close());
  const config = { nameservers: [nameserver.address] } as unknown as Config;
  return askLeader(peers, config, { op: Op.COMPACT, message: { block }, schema: zCompactReply });
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

/** @returns what came of compactions with DataServers whose clocks are ahead, and of deletions while they were behind */
async function wrongClocks(t: TestContext, faults?: Faults): Promise<{ ahead: string; behind: string }> {
  const { cluster, pictures, block } = await filled(t, 3_600_000);
  const skew = { ms: 0 };
  const clock: Clock = { ...nodeClock, now: () => (nodeClock.now() + skew.ms) as Millis };
  for (const id of [1, 2, 3]) {
    await cluster.stopServer(id);
    await cluster.startServer(id, { clock, ...(faults === undefined ? {} : { faults }) });
  }
  await cluster.confirmed();
  const [one, other] = pictures.filter(({ stored }) => stored.key.block === block) as [Picture, Picture];
  skew.ms = -10 * 365 * 24 * 3_600_000;
  await cluster.client.remove(other.stored.name);
  skew.ms = 0;
  const { freedBytes } = await cluster.nameserver.compaction.request(block);
  const lost = await codeOf(cluster.client.undelete(other.stored.name));
  const behind = lost ?? (freedBytes === 0 ? 'all can be undeleted' : `${freedBytes} bytes purged`);
  await cluster.client.remove(one.stored.name);
  skew.ms = 2 * 3_600_000;
  const ahead = await cluster.nameserver.compaction.request(block).then(
    (reply) => `${reply.freedBytes} bytes purged`,
    (error: unknown) => String(error),
  );
  return { ahead, behind };
}

describe('compaction of a cluster', (test) => {
  test('gives the bytes of deleted pictures back; all others read as before, all the time', async (t) => {
    const { cluster, pictures, block } = await filled(t);
    const here = pictures.filter(({ stored }) => stored.key.block === block);
    const doomed = here.filter((_, i) => i % 2 === 0);
    const kept = here.filter((_, i) => i % 2 === 1);
    // A second name for the bytes of one that goes: they stay.
    const twice = doomed[0]!;
    const second = await cluster.client.put(twice.body);
    for (const { stored } of doomed) await cluster.client.remove(stored.name);
    let done = false;
    let reads = 0;
    const reading = (async () => {
      for (; !done; reads++) {
        const { stored, body } = kept[reads % kept.length]!;
        assert.ok((await bodyOf(cluster, stored.name)).equals(body));
      }
    })();
    t.defer(() => {
      done = true;
      return reading;
    });
    const inStep = () => cluster.nameserver.map.facts(block)!.replicas.every(({ behind }) => !behind);
    await until('all have reported the deletions', inStep);
    const before = statSync(join(cluster.mountPath(1), 'blocks', `${block}.0.blk`)).size;
    const { generation, freedBytes } = await cluster.nameserver.compaction.request(block);
    assert.is(generation, 1);
    const after = statSync(join(cluster.mountPath(1), 'blocks', `${block}.1.blk`)).size;
    assert.is(before - after, freedBytes);
    assert.ok(after < 0.75 * before);
    done = true;
    await reading;
    assert.ok(reads > 0);
    const images = [1, 2, 3].map((id) =>
      readFileSync(join(cluster.mountPath(id), 'blocks', `${block}.1.blk`)),
    );
    assert.ok(images.every((image) => image.equals(images[0]!)));
    for (const { stored, body } of kept) assert.ok((await bodyOf(cluster, stored.name)).equals(body));
    assert.ok((await bodyOf(cluster, second.name)).equals(twice.body));
    for (const { stored } of doomed.slice(1, 6)) {
      assert.is(await codeOf(bodyOf(cluster, stored.name)), 'NOT_FOUND');
      assert.is(await codeOf(cluster.client.undelete(stored.name)), 'GONE');
      assert.is(await codeOf(cluster.client.remove(stored.name)), undefined, 'a repeat succeeds');
    }
    // The same bytes again are stored afresh.
    const again = await cluster.client.put(doomed[1]!.body);
    assert.ok((await bodyOf(cluster, again.name)).equals(doomed[1]!.body));
    await until('the leader knows', () => cluster.nameserver.map.facts(block)?.generation === 1);
    assert.is(cluster.nameserver.map.facts(block)!.length, after);
    assert.is((await cluster.nameserver.compaction.request(block)).freedBytes, 0, 'nothing is left to gain');
  });

  test('leaves alone what may still be undeleted', async (t) => {
    const { cluster, pictures, block } = await filled(t, 3_600_000);
    const [one] = pictures.filter(({ stored }) => stored.key.block === block);
    await cluster.client.remove(one!.stored.name);
    assert.equal(await ordered(t, cluster, block), { generation: 0, freedBytes: 0 });
    assert.is(await codeOf(ordered(t, cluster, 7 as BlockId)), 'DONT_KNOW');
    await cluster.client.undelete(one!.stored.name);
    assert.ok((await bodyOf(cluster, one!.stored.name)).equals(one!.body));
  });

  test('a clock that is wrong purges nothing, and makes no deletion look old', async (t) => {
    const { ahead, behind } = await wrongClocks(t);
    assert.match(ahead, /its clock is 7200 s ahead of the time of the cluster/);
    assert.is(behind, 'all can be undeleted');
  });

  test("a clock that jumps after it was compared with the leader's purges nothing", async (t) => {
    const { cluster, pictures, block } = await filled(t, 3_600_000);
    const skew = { ms: 0 };
    const clock: Clock = { ...nodeClock, now: () => (nodeClock.now() + skew.ms) as Millis };
    for (const id of [1, 2, 3]) {
      await cluster.stopServer(id);
      await cluster.startServer(id, { clock });
    }
    await cluster.confirmed();
    const here = pictures.filter(({ stored }) => stored.key.block === block);
    for (const { stored } of here) await cluster.client.remove(stored.name);
    let asked = 0;
    for (const { store } of cluster.servers.values()) {
      const garbageBytes = store.garbageBytes.bind(store);
      store.garbageBytes = async (...args) => {
        asked++;
        skew.ms = 2 * 3_600_000;
        await garbageBytes(...args);
        // As much as makes a purge worth it.
        return 1 << 30;
      };
    }
    // Not before all have reported the deletions.
    await until('it is asked for', async () => {
      skew.ms = 0;
      await cluster.nameserver.compaction.request(block).catch(() => undefined);
      return asked > 0;
    });
    skew.ms = 0;
    for (const { stored, body } of here) {
      await cluster.client.undelete(stored.name);
      assert.ok((await bodyOf(cluster, stored.name)).equals(body));
    }
  });

  test('PLANTED trust-own-clock is caught', async (t) => {
    const { ahead, behind } = await wrongClocks(t, new Set(['trust-own-clock']));
    assert.match(ahead, /purged/);
    assert.match(behind, /GONE/);
  });

  test('waits for a member that is away, and a member that missed the commit gets the file', async (t) => {
    const { cluster, pictures, block } = await filled(t);
    const here = pictures.filter(({ stored }) => stored.key.block === block);
    for (const { stored } of here.slice(0, 10)) await cluster.client.remove(stored.name);
    await cluster.stopServer(3);
    assert.is(await codeOf(cluster.nameserver.compaction.request(block)), 'UNAVAILABLE');
    assert.equal(filesOf(cluster, 1, block), [`${block}.0.blk`, `${block}.0.idx`]);
    await cluster.startServer(3);
    // One of them has lost what it had prepared when it is told to use it.
    const { store } = cluster.servers.get(3)!;
    const commit = store.commitGeneration.bind(store);
    let lost = 0;
    store.commitGeneration = async (id, order) => {
      if (lost++ === 0) await store.abandonCompaction(id);
      return commit(id, order);
    };
    await until('it is compacted', async () => {
      await cluster.nameserver.compaction.request(block).catch(() => undefined);
      return [...cluster.servers.values()].every((server) => server.store.info(block)?.generation === 1);
    });
    assert.ok(lost > 0);
    for (const [id, server] of cluster.servers) {
      assert.equal((await server.store.verify(block)).problems, [], `server ${id}`);
      assert.ok(server.store.info(block)!.length < here.reduce((sum, { body }) => sum + body.length, 0));
    }
    await until('nothing is left to do', () => cluster.nameserver.map.outdated.size === 0);
    for (const { stored, body } of here.slice(10))
      assert.ok((await bodyOf(cluster, stored.name)).equals(body));
    await cluster.stopServer(2);
    await cluster.startServer(2);
    assert.equal(
      filesOf(cluster, 2, block).sort(),
      [`${block}.1.blk`, `${block}.1.idx`],
      'no orphan after a restart',
    );
  });

  test('a sequencer knows for how long too little is due', async (t) => {
    const windowMs = 64 * 3600_000;
    const { cluster, pictures, block } = await filled(t, windowMs);
    const skew = { ms: 0 };
    const clock: Clock = { ...nodeClock, now: () => (nodeClock.now() + skew.ms) as Millis };
    for (const id of [1, 2, 3]) {
      await cluster.stopServer(id);
      await cluster.startServer(id, { clock });
    }
    await cluster.confirmed();
    const { map, reign } = cluster.nameserver;
    const notBeforeMs = async (bytesMin: number): Promise<number | undefined> => {
      const sequencer = cluster.servers.get(map.facts(block)!.opsPrimary!)!;
      const order = { block, reign, bytesMin, wallMs: clock.now() };
      const { header } = await sequencer.compaction.purge({ header: encodeControl(order) } as RpcRequest);
      return decodeControl(zPurgeReply, header, 'PURGE').notBeforeMs;
    };
    assert.is(await notBeforeMs(1), windowMs, 'nothing is deleted yet');
    await cluster.client.remove(pictures.find(({ stored }) => stored.key.block === block)!.stored.name);
    skew.ms = (5 / 8) * windowMs;
    assert.is(await notBeforeMs(1), windowMs / 4, 'it is due after three eighths more');
    assert.is(await notBeforeMs(1 << 20), windowMs, 'one picture is not enough');
  });
}, 60_000);
