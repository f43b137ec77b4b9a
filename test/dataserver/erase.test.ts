import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import type { Slot } from '../../common/ids.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { type ErasedSlot, zFoundContent } from '../../common/wire/erase.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import { findContent } from '../../dataserver/erase/content.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { filesWith } from '../kit/raw-bytes.ts';
import { describe, type TestContext } from '../kit/suite.ts';

/** A cluster with a picture in an open block, between others. */
async function stored(t: TestContext) {
  const cluster = await LocalCluster.start(t);
  const pattern = randomBytes(64);
  const body = Buffer.concat([randomBytes(5_000), pattern, randomBytes(5_000)]);
  const others = Array.from({ length: 6 }, () => randomBytes(9_000));
  for (const other of others.slice(0, 3)) await cluster.client.put(other);
  const picture = await cluster.client.put(body);
  for (const other of others.slice(3)) await cluster.client.put(other);
  const { block, fileId } = picture.key;
  const sha1 = createHash('sha1').update(body).digest('hex');
  const slot = fileId as number as Slot;
  return { cluster, pattern, body, picture, block, slot, sha1 };
}
type Stored = Awaited<ReturnType<typeof stored>>;

const found = async ({ cluster, sha1 }: Stored, server: number) => {
  const { store } = cluster.servers.get(server)!;
  const header = encodeControl({ sha1, from: 0 });
  const reply = await findContent({ store, clock: nodeClock }, { header } as never);
  return decodeControl(zFoundContent, reply.payload![0]!, 'a test');
};

/** As the tool orders it: again, as long as it may succeed later. */
async function erased({ cluster, block }: Stored, slots: ErasedSlot[], tries = 1200): Promise<Slot[]> {
  for (;;) {
    try {
      return (await cluster.nameserver.erasure.erase({ block, slots })).kept;
    } catch (error) {
      if (!isTfsError(error) || !error.retryable || tries-- === 0) throw error;
      await sleep(50);
    }
  }
}

const cleared = async ({ cluster, sha1, block, slot }: Stored) => {
  const { servers } = await cluster.nameserver.erasure.clearTraces({
    sha1,
    blocks: [{ block, slots: [slot] }],
  });
  return servers.map(({ server, cleared: one, failure }) => [server, one?.holds, one?.left, failure]);
};

const holders = ({ cluster, pattern }: Stored): string[] =>
  [1, 2, 3].flatMap((id) => filesWith(cluster.mountPath(id), pattern).map((file) => `${id}: ${file}`));

const ALL_CLEAR = [1, 2, 3].map((server) => [server, [], [], undefined]);

describe('erasing in a cluster', (test) => {
  test('a record with a name that nobody agreed to is kept; with all of them it leaves every file', async (t) => {
    const world = await stored(t);
    const { cluster, picture, body, block, slot } = world;
    const alias = await cluster.client.put(body);
    assert.ok(alias.deduplicated);
    for (const { name } of [picture, alias]) await cluster.client.remove(name);
    assert.equal(
      (await found(world, 2)).records.map(({ names }) => names.map(({ flags }) => flags)),
      [[NameFlag.DELETED, NameFlag.DELETED]],
    );
    assert.equal(await erased(world, [{ slot, aliases: 0 }]), [slot]);
    await cluster.client.undelete(alias.name);
    assert.equal(await erased(world, [{ slot, aliases: 1 }]), [slot], 'one of its names lives');
    assert.is(holders(world).length, 3);
    await cluster.client.remove(alias.name);
    assert.equal(await erased(world, [{ slot, aliases: 1 }]), []);
    // Earlier generations are kept for a grace time, which is not for these.
    assert.is(holders(world).length, 3);
    assert.equal(await cleared(world), ALL_CLEAR);
    assert.equal(holders(world), []);
    assert.equal((await found(world, 1)).records, []);
    for (const { index } of cluster.servers.values())
      assert.is((await index.lookup(picture.sha1, Buffer.alloc(16))).byContent, undefined);
    assert.equal(await erased(world, [{ slot, aliases: 1 }]), [], 'again');
    assert.equal(await cleared(world), ALL_CLEAR);
    assert.ok([...cluster.servers.values()].every(({ store }) => store.info(block)?.generation === 1));
  });

  test('stopped half way, by a member that fails and a leader that goes, it goes on from there', async (t) => {
    const world = await stored(t);
    const { cluster, picture, block, slot } = world;
    await cluster.client.remove(picture.name);
    const { store } = cluster.servers.get(3)!;
    const prepare = store.prepareCompaction.bind(store);
    let refused = 0;
    store.prepareCompaction = async () => {
      refused++;
      throw new TfsError('IO', 'planted');
    };
    // Until then its block is being sealed.
    for (let i = 0; i < 1200 && refused === 0; i++) {
      const failed = await erased(world, [{ slot, aliases: 0 }], 0).catch((error: unknown) => error);
      assert.ok(isTfsError(failed) && failed.retryable, String(failed));
      await sleep(50);
    }
    assert.ok(refused > 0);
    assert.is(holders(world).length, 3);
    // Purged it is, so no name leads to it; and its bytes are there, so it is found.
    for (const id of [1, 2, 3])
      assert.equal(
        (await found(world, id)).records.map((record) => [record.block, record.slot, record.names[0]!.flags]),
        [[block, slot, NameFlag.DELETED | NameFlag.PURGED]],
      );
    assert.equal(
      (await cleared(world)).map(([, holds]) => holds),
      [[block], [block], [block]],
    );
    await cluster.stopNameServer();
    await cluster.startNameServer();
    store.prepareCompaction = prepare;
    assert.equal(await erased(world, [{ slot, aliases: 0 }]), []);
    assert.equal(await cleared(world), ALL_CLEAR);
    assert.equal(holders(world), []);
  });

  test('what could not be done is done by the leader itself, when it can be', async (t) => {
    const world = await stored(t);
    const { cluster, picture, slot } = world;
    await cluster.client.remove(picture.name);
    const { store } = cluster.servers.get(2)!;
    const commit = store.commitGeneration.bind(store);
    let failures = 0;
    store.commitGeneration = async (block, order) => {
      if (failures++ === 0) throw new TfsError('DISK_FULL', 'planted');
      return commit(block, order);
    };
    await erased(world, [{ slot, aliases: 0 }], 0).catch(() => undefined);
    for (let i = 0; i < 1500 && (failures === 0 || (await found(world, 2)).records.length > 0); i++)
      await sleep(20);
    assert.ok(failures > 0);
    // Its file may just be taking the place of the one before.
    let left = await cleared(world);
    for (let i = 0; i < 100 && JSON.stringify(left) !== JSON.stringify(ALL_CLEAR); i++) {
      await sleep(100);
      left = await cleared(world);
    }
    assert.equal(left, ALL_CLEAR);
    assert.equal(holders(world), []);
  });
}, 120_000);
