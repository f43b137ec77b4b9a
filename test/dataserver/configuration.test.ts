import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { OpType } from '../../common/format/ops.ts';
import type { BlockId, Millis, ServerId } from '../../common/ids.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { describe } from '../kit/suite.ts';

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ok',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );

async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  for (const startedAt = performance.now(); !(await condition()); await sleep(30))
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
}

/** The client's budget may end before a member that is away has become harmless: a client repeats. */
async function insist(work: () => Promise<unknown>): Promise<void> {
  await until('an operation to succeed', async () => {
    const code = await codeOf(work());
    if (code !== 'ok' && code !== 'UNAVAILABLE' && code !== 'DONT_KNOW')
      throw new Error(`it failed with ${code}`);
    return code === 'ok';
  });
}

const seqs = (cluster: LocalCluster, block: BlockId, members: readonly ServerId[]): number[] =>
  members.map((id) => cluster.servers.get(id)!.store.info(block)!.seq);

async function equalOn(cluster: LocalCluster, block: BlockId, members: readonly ServerId[]): Promise<void> {
  await until('one state on every member', () => {
    const infos = members.map((id) => cluster.servers.get(id)?.store.info(block));
    const first = infos[0];
    return infos.every(
      (info) =>
        info?.seq === first?.seq &&
        info?.version.n === first?.version.n &&
        info?.version.epoch === first?.version.epoch &&
        info?.members.length === members.length,
    );
  });
}

describe('configuration of a block', (test) => {
  test('what it puts together is dated no earlier than the time of the leader, whatever time it is here', async (t) => {
    const cluster = await LocalCluster.start(t);
    const clock: Clock = { ...nodeClock, now: () => 0 as Millis };
    for (const id of [1, 2, 3]) {
      await cluster.stopServer(id);
      await cluster.startServer(id, { clock });
    }
    await cluster.confirmed();
    const sinceMs = Date.now() - 60_000;
    // Blocks that were opened while one of them was away have two members.
    let stored = await cluster.client.put(randomBytes(4000));
    await until('a block on all three', async () => {
      stored = await cluster.client.put(randomBytes(4000));
      return stored.members.length === 3;
    });
    const { name, key, members } = stored;
    await cluster.stopServer(members[1]!);
    await insist(() => cluster.client.remove(name));
    const { store } = cluster.servers.get(members[0]!)!;
    const ops = (await store.opsAfter(key.block, 1)).filter(({ type }) => type !== OpType.SEAL);
    assert.ok(ops.some(({ type }) => type === OpType.CFG));
    for (const { type, atMs } of ops) assert.ok(atMs >= sinceMs, `${type} at ${atMs}`);
  });

  test('a delete goes on without a dead member, and is not undone when that one comes back', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { name, key, members } = await cluster.client.put(randomBytes(4000));
    const kept = await cluster.client.put(randomBytes(4000));
    const [primary, other] = members as [ServerId, ServerId];
    await cluster.stopServer(other);
    await insist(() => cluster.client.remove(name));
    assert.is(await codeOf(cluster.client.get(name)), 'NOT_FOUND');
    assert.equal([...cluster.servers.get(primary)!.store.info(key.block)!.members].includes(other), false);
    const back = await cluster.startServer(other);
    // Its log knows nothing of the delete: whatever it says before it has caught up must not count.
    for (let i = 0; i < 20; i++) {
      assert.is(await codeOf(cluster.client.get(name)), 'NOT_FOUND');
      await sleep(20);
    }
    await equalOn(cluster, key.block, members);
    assert.is((await back.store.check(key.block, key.fileId)) & NameFlag.DELETED, NameFlag.DELETED);
    await cluster.client.undelete(name);
    await cluster.client.hide(kept.name);
    assert.is(await codeOf(cluster.client.get(kept.name)), 'NOT_FOUND');
    assert.ok((await cluster.client.get(name)).isWhole);
  });

  test('when the sequencer is dead another member takes its place; what it logged alone counts once it is back', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { name, key, members } = await cluster.client.put(randomBytes(4000));
    const second = await cluster.client.put(randomBytes(4000));
    const [primary, ...others] = members as [ServerId, ServerId, ServerId];
    await cluster.stopServer(primary);
    await insist(() => cluster.client.remove(name));
    const successor = cluster.servers.get(others[0]!)!.store.info(key.block)!.opsPrimary;
    assert.ok(others.includes(successor), 'a living member orders operations now');
    await cluster.startServer(primary);
    await equalOn(cluster, key.block, members);
    assert.is(await codeOf(cluster.client.get(name)), 'NOT_FOUND');
    await insist(() => cluster.client.hide(second.name));
    for (const id of members)
      assert.is(
        (await cluster.servers.get(id)!.store.check(second.key.block, second.key.fileId)) & NameFlag.HIDDEN,
        NameFlag.HIDDEN,
        `server ${id}`,
      );
  });

  test('one member of three is not enough, and what it could not do is done once there are two', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { name, key, members } = await cluster.client.put(randomBytes(4000));
    const [primary, ...others] = members as [ServerId, ServerId, ServerId];
    for (const id of others) await cluster.stopServer(id);
    const opId = randomBytes(16);
    assert.is(await codeOf(cluster.client.remove(name, opId)), 'UNAVAILABLE');
    await cluster.startServer(others[0]!);
    await insist(() => cluster.client.remove(name, opId));
    await cluster.startServer(others[1]!);
    await equalOn(cluster, key.block, members);
    assert.is(new Set(seqs(cluster, key.block, members)).size, 1);
    assert.is(await codeOf(cluster.client.get(name)), 'NOT_FOUND');
    assert.ok(cluster.servers.get(primary)!.store.info(key.block)!.members.length === 3);
  });

  test('a member that is cut off in the middle of a change does not end with half of it', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { name, key, members } = await cluster.client.put(randomBytes(4000));
    const [, other, third] = members as [ServerId, ServerId, ServerId];
    // The log of one member fails while the new version begins: the disk is read-only from then on.
    cluster.disks.get(third)!.failing = { path: /ops/, error: new TfsError('IO', 'planted: EIO') };
    await cluster.stopServer(other);
    assert.is.not(await codeOf(cluster.client.remove(name)), 'ok');
    await cluster.startServer(other);
    await insist(() => cluster.client.remove(name));
    assert.is(await codeOf(cluster.client.get(name)), 'NOT_FOUND');
    const holders = members.filter((id) => id !== third);
    await until('the two that can', () => {
      const info = cluster.servers.get(holders[0]!)!.store.info(key.block)!;
      return info.members.length === 2 && !info.members.includes(third);
    });
  });

  test('uploads of known content do not wait for a dead member', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(3000);
    const first = await cluster.client.put(body);
    const other = first.members[1]!;
    await cluster.stopServer(other);
    for (let i = 0; i < 3; i++) {
      const again = await cluster.client.put(body);
      assert.is.not(again.name, first.name);
      assert.not(again.members.includes(other));
      assert.ok((await (await cluster.client.get(again.name)).bytes()).equals(body));
    }
  });
}, 90_000);
