import { createHash, randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { OpType } from '../../common/format/ops.ts';
import { type Cookie, epochOf, type FileId, type Slot } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { staleLeader } from '../kit/stale-leader.ts';
import { describe } from '../kit/suite.ts';

async function whole(cluster: LocalCluster, name: string): Promise<Buffer> {
  const picture = await cluster.client.get(name);
  const pieces: Buffer[] = [];
  for await (const piece of picture.pieces()) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: unknown) => (isTfsError(error) ? error.code : String(error)),
  );
}

async function until(what: string, condition: () => boolean, timeoutMs = 8000): Promise<void> {
  for (const startedAt = performance.now(); !condition(); await sleep(20)) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
  }
}

describe('data server', (test) => {
  test('pictures of every size come back, from every replica', async (t) => {
    const cluster = await LocalCluster.start(t);
    const bodies = [1, 7, 8, 4096, 65_535, 65_536, 65_537, 200_000, 500_000].map((n) => randomBytes(n));
    const stored = await Promise.all(bodies.map((body) => cluster.client.put(body)));
    for (const [i, { name, members }] of stored.entries()) {
      assert.equal([...members].sort(), [1, 2, 3]);
      assert.ok((await whole(cluster, name)).equals(bodies[i]!), `${bodies[i]!.length} bytes`);
    }
    const { block, fileId, cookie } = stored[7]!.key;
    for (const server of cluster.servers.values()) {
      const { payload } = await server.store.read(
        block,
        fileId,
        cookie,
        { offset: 70_000, length: 1000 },
        false,
      );
      assert.ok(payload.equals(bodies[7]!.subarray(70_000, 71_000)));
    }
    assert.is(
      await codeOf(cluster.client.get({ block, fileId, cookie: (cookie ^ 1) as typeof cookie })),
      'NOT_FOUND',
    );
  });

  test('the same request gets the same name, one after the other and at the same time', async (t) => {
    const cluster = await LocalCluster.start(t);
    const opId = randomBytes(16);
    const body = randomBytes(5000);
    const [a, b] = await Promise.all([
      cluster.client.put(body, { opId }),
      cluster.client.put(body, { opId }),
    ]);
    const c = await cluster.client.put(body, { opId });
    assert.equal([b.name, c.name], [a.name, a.name]);
    assert.is(c.replayed, true);
    assert.is(c.mtimeMs, a.mtimeMs);
    const [x, y] = [randomBytes(400), randomBytes(400)];
    const [forX, forY] = await Promise.all([x, y].map((bytes) => cluster.client.put(bytes, { opId })));
    assert.ok((await whole(cluster, forX!.name)).equals(x), 'one opId for two contents');
    assert.ok((await whole(cluster, forY!.name)).equals(y));
    const alias = randomBytes(16);
    const d = await cluster.client.put(body, { opId: alias });
    const e = await cluster.client.put(body, { opId: alias });
    assert.is(d.deduplicated, true);
    assert.is.not(d.name, a.name);
    assert.is(e.name, d.name);
    assert.is(e.replayed, true);
    assert.is(e.deduplicated, true);
  });

  test('a second name whose first try was never answered: the repeat is told the name that is in the log', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(5000);
    const { key, members } = await cluster.client.put(body);
    const { store } = cluster.servers.get(members[0]!)!;
    const { version, seq } = store.info(key.block)!;
    const opId = randomBytes(16);
    // The first try reached the log of the sequencer alone.
    const aliasId = 0x8000_0123 as FileId;
    const names = { aliasId, cookie: 77 as Cookie, target: key.fileId as number as Slot };
    await store.appendOps(key.block, [
      { type: OpType.ALIAS, version, seq: seq + 1, atMs: 0, opId, ...names },
    ]);
    const told = await cluster.client.put(body, { opId });
    assert.equal(told.key, { block: key.block, fileId: aliasId, cookie: 77 });
    assert.ok((await whole(cluster, told.name)).equals(body));
    for (const id of members)
      assert.is(await cluster.servers.get(id)!.store.check(key.block, aliasId), 0, `it is on server ${id}`);
    // At the same time: one of them is in the log, and both are told which.
    const twice = randomBytes(16);
    const both = await Promise.all([1, 2].map(() => cluster.client.put(body, { opId: twice })));
    for (const { name } of both) assert.ok((await whole(cluster, name)).equals(body));
    assert.is(both[0]!.name, both[1]!.name);
  });

  test('every record of one content answers a repeat of its own request', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(7000);
    const opIds = Array.from({ length: 4 }, () => randomBytes(16));
    // At the same time: none finds another, so each is stored for itself.
    const together = await Promise.all(
      opIds.map((opId) => cluster.client.put(body, { opId, noDedup: true })),
    );
    const later = randomBytes(16);
    const last = await cluster.client.put(body, { opId: later, noDedup: true });
    assert.is(new Set([...together, last].map(({ name }) => name)).size, 5);
    for (const [i, opId] of opIds.entries()) {
      const again = await cluster.client.put(body, { opId, noDedup: true });
      assert.is(again.name, together[i]!.name);
      assert.is(again.replayed, true);
    }
    assert.is((await cluster.client.put(body, { opId: later })).name, last.name);
  });

  test('a name dies alone, and only a live, equal picture is a target for another name', async (t) => {
    const cluster = await LocalCluster.start(t);
    const body = randomBytes(9000);
    const first = await cluster.client.put(body);
    const second = await cluster.client.put(body);
    assert.is(second.deduplicated, true);
    await cluster.client.remove(first.name);
    assert.is(await codeOf(cluster.client.get(first.name)), 'NOT_FOUND');
    assert.ok((await whole(cluster, second.name)).equals(body));
    const third = await cluster.client.put(body);
    assert.is(third.deduplicated, false, 'a deleted record is no target');
    const withSuffix = await cluster.client.put(body, { suffixHash: 0x80000007 });
    assert.is(withSuffix.deduplicated, false, 'another suffix is another record');
    // The index lies: it names a record with other bytes.
    const other = randomBytes(9000);
    const sha1 = createHash('sha1').update(other).digest();
    for (const server of cluster.servers.values()) {
      server.index.addContent(sha1, { block: third.key.block, fileId: third.key.fileId });
    }
    const own = await cluster.client.put(other);
    assert.is(own.deduplicated, false);
    assert.ok((await whole(cluster, own.name)).equals(other));
  });

  test('a member whose disk fails a write: every acknowledged picture stays, uploads go on without it', async (t) => {
    const cluster = await LocalCluster.start(t);
    const acked: { stored: Stored; body: Buffer }[] = [];
    let stopped = false;
    const upload = async (): Promise<void> => {
      while (!stopped) {
        const body = randomBytes(3000);
        acked.push({ stored: await cluster.client.put(body), body });
      }
    };
    const uploads = [upload(), upload(), upload()];
    await until('some uploads', () => acked.length > 30);
    cluster.disks.get(2)!.failing = { path: /blk/, error: new TfsError('IO', 'planted: EIO') };
    const before = acked.length;
    await until('uploads after the failure', () => acked.length > before + 60);
    stopped = true;
    await Promise.all(uploads);
    assert.ok(cluster.servers.get(2)!.store.readOnly !== undefined, 'it only reads now');
    assert.equal([...acked.at(-1)!.stored.members].sort(), [1, 3]);
    for (const { stored, body } of acked) assert.ok((await whole(cluster, stored.name)).equals(body));
  });

  test('blocks of a server that restarts are sealed alike everywhere, and it serves them', async (t) => {
    const cluster = await LocalCluster.start(t);
    const stored = await Promise.all(
      Array.from({ length: 40 }, () => cluster.client.put(randomBytes(20_000))),
    );
    const primary = stored[0]!.members[0]!;
    const mine = stored.filter(({ members }) => members[0] === primary);
    await cluster.stopServer(primary);
    await cluster.startServer(primary);
    const blocks = new Set(mine.map(({ key }) => key.block));
    await until('all sealed', () =>
      [...blocks].every((block) =>
        [...cluster.servers.values()].every(
          (server) => server.store.info(block)?.state === BlockState.SEALED,
        ),
      ),
    );
    for (const block of blocks) {
      const digests = [...cluster.servers.values()].map((server) =>
        server.store.info(block)!.seal!.digest.toString('hex'),
      );
      assert.is(new Set(digests).size, 1);
    }
    for (const { name } of mine) await whole(cluster, name);
  });

  test('a command of a lower epoch than promised is refused', async (t) => {
    const cluster = await LocalCluster.start(t);
    const { key, members } = await cluster.client.put(randomBytes(100));
    const commands = staleLeader(t);
    const server = cluster.servers.get(members[0]!)!;
    const member = { id: members[0]!, incarnation: server.incarnation, address: server.address };
    const reign = { epoch: epochOf(0), nameserver: 0 };
    assert.is(await codeOf(commands.fence(member, { block: key.block, reign })), 'STALE_EPOCH');
    assert.is(server.store.info(key.block)!.state, BlockState.OPEN);
  });

  test('a NameServer that was wiped learns everything from the DataServers', async (t) => {
    const cluster = await LocalCluster.start(t);
    const stored = await Promise.all(
      Array.from({ length: 20 }, () => cluster.client.put(randomBytes(10_000))),
    );
    await cluster.stopNameServer();
    rmSync(`${cluster.root}/ns`, { recursive: true });
    await cluster.startNameServer();
    for (const { name } of stored) await whole(cluster, name);
    const fresh = await cluster.client.put(randomBytes(10));
    assert.ok(!stored.some(({ name }) => name === fresh.name));
  });
}, 60_000);
