import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../../client/client.ts';
import { isTfsError } from '../../../common/errors.ts';
import { type ServerId, serverId } from '../../../common/ids.ts';
import { CHANGES_PER_ANSWER_MAX } from '../../../common/limits.ts';
import type { Change } from '../../../common/wire/changes.ts';
import { FilledCluster, until } from '../../kit/filled-cluster.ts';
import { LocalCluster } from '../../kit/local-cluster.ts';
import { describe } from '../../kit/suite.ts';

/** All that one DataServer has to tell, with its answers counted. */
async function allOf(cluster: LocalCluster, server: ServerId) {
  const changes: Change[] = [];
  let answers = 0;
  let from = 0;
  for (;;) {
    const incarnation = cluster.servers.get(server)!.incarnation;
    const answer = await cluster.client.changesOn(server, answers === 0 ? { from } : { incarnation, from });
    answers++;
    changes.push(...answer.changes);
    assert.is(answer.unread, 0);
    from = answer.next;
    if (!answer.more) return { changes, answers, next: from, incarnation: answer.incarnation };
  }
}

const toldBy = async (cluster: LocalCluster, server: number): Promise<string[]> => {
  const { changes } = await allOf(cluster, serverId(server));
  return changes.map((change) => `${change.kind} ${cluster.client.nameOf(change)}`);
};

const picture = () => randomBytes(5000);

describe('CHANGES', (test) => {
  test('every replica tells of every change, with whole names, also of a second name; and again after a restart', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { client } = cluster;
    const body = picture();
    const first = await client.put(body);
    const second = await client.put(body);
    const other = await client.put(picture());
    assert.ok(second.deduplicated && second.name !== first.name);
    await client.remove(second.name);
    await client.hide(other.name);
    await client.reveal(other.name);
    await client.remove(first.name);
    await client.undelete(first.name);
    const all = [
      `delete ${second.name}`,
      `hide ${other.name}`,
      `reveal ${other.name}`,
      `delete ${first.name}`,
      `undelete ${first.name}`,
    ].sort();
    for (const id of [1, 2, 3]) assert.equal((await toldBy(cluster, id)).sort(), all, `server ${id}`);
    for (const id of [1, 2, 3]) {
      const before = cluster.servers.get(id)!.incarnation;
      const { next } = await allOf(cluster, serverId(id));
      await cluster.stopServer(id);
      await cluster.startServer(id);
      // Numbers of the process before mean nothing to this one.
      const answer = await client.changesOn(serverId(id), { incarnation: before, from: next });
      assert.is.not(answer.incarnation, before);
      assert.equal((await toldBy(cluster, id)).sort(), all, `server ${id}, started again`);
    }
  });

  test('whoever goes on where he was is told what is new, and nothing twice; in bounded answers', async (t) => {
    const cluster = await LocalCluster.start(t, { replicas: 2, minWrite: 1, mounts: 1 });
    const { client } = cluster;
    const stored: Stored[] = [];
    for (let i = 0; i < 8; i++) stored.push(await client.put(picture()));
    await client.remove(stored[0]!.name);
    const { next, incarnation } = await allOf(cluster, serverId(1));
    await client.remove(stored[1]!.name);
    const answer = await client.changesOn(serverId(1), { incarnation, from: next });
    assert.equal(
      answer.changes.map((change) => client.nameOf(change)),
      [stored[1]!.name],
    );
    for (let i = 0; i < 70; i++)
      await Promise.all(stored.flatMap(({ name }) => [client.hide(name), client.reveal(name)]));
    const { changes, answers } = await allOf(cluster, serverId(1));
    assert.ok(changes.length > 500, String(changes.length));
    assert.ok(answers >= changes.length / CHANGES_PER_ANSWER_MAX);
    assert.is(new Set(changes.map((c) => `${c.fileId} ${c.kind} ${c.atMs}`)).size > 8, true);
  });

  test('a replica that was made on another server tells what the one that is lost would have told', async (t) => {
    const world = await FilledCluster.start(t);
    const { cluster } = world;
    await world.untilSealed(2);
    const hidden = world.pictures[0]!.stored.name;
    await cluster.client.hide(hidden);
    const { block } = world.pictures[0]!.stored.key;
    const holders = () => [...cluster.servers].filter(([, { store }]) => store.info(block) !== undefined);
    const before = holders().map(([id]) => id);
    const [lost] = before;
    await cluster.stopServer(lost!);
    await until('there is a third replica', () => holders().some(([id]) => !before.includes(id)), 45_000);
    const fresh = holders().find(([id]) => !before.includes(id))![0];
    assert.ok((await toldBy(cluster, fresh)).includes(`hide ${hidden}`), `server ${fresh}`);
    // And after its own restart, from the log that it was given.
    await cluster.stopServer(fresh);
    await cluster.startServer(fresh);
    assert.ok((await toldBy(cluster, fresh)).includes(`hide ${hidden}`));
  });

  test('a picture that is erased is still told, though its record is gone from the disk', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { client } = cluster;
    const erased = await client.put(picture());
    await client.put(picture());
    await client.remove(erased.name);
    const { block, fileId } = erased.key;
    const slots = [{ slot: fileId as never, aliases: 0 }];
    for (let tries = 400; ; tries--) {
      try {
        await cluster.nameserver.erasure.erase({ block, slots });
        break;
      } catch (error) {
        // It waits for the seal of the block.
        if (!isTfsError(error) || !error.retryable || tries === 0) throw error;
        await sleep(50);
      }
    }
    for (const id of [1, 2, 3]) {
      const cookies = await cluster.servers.get(id)!.store.records.cookiesOf(block, [fileId as never]);
      assert.is(cookies.size, 0, 'its record is gone');
      assert.equal(await toldBy(cluster, id), [`delete ${erased.name}`]);
    }
  });
}, 90_000);
