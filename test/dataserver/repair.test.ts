import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { isTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import { BlockFlag, BlockState } from '../../common/wire/messages.ts';
import { LocalCluster } from '../kit/local-cluster.ts';
import { describe, type TestContext } from '../kit/suite.ts';

interface Picture {
  readonly stored: Stored;
  readonly body: Buffer;
}

/** A cluster with some sealed blocks and some OPEN ones. */
async function filled(t: TestContext) {
  const cluster = await LocalCluster.start(t);
  const pictures: Picture[] = [];
  const { counts } = cluster.nameserver.map;
  // How many blocks are open at a time, and so how much it takes, depends on how busy the machine is.
  for (let i = 0; i < 10 || (counts.sealed < 2 && i < 60); i++) {
    const bodies = Array.from({ length: 40 }, () => randomBytes(3000 + Math.floor(Math.random() * 20_000)));
    const stored = await Promise.all(bodies.map((body) => cluster.client.put(body)));
    pictures.push(...stored.map((one, k) => ({ stored: one, body: bodies[k]! })));
  }
  await until('some blocks are sealed everywhere', () => counts.sealed >= 2);
  return new Filled(cluster, pictures);
}

class Filled {
  readonly cluster: LocalCluster;
  readonly pictures: readonly Picture[];

  constructor(cluster: LocalCluster, pictures: readonly Picture[]) {
    this.cluster = cluster;
    this.pictures = pictures;
  }

  /** A block in this state on all three servers, and what is in it. */
  block(state: BlockState): { id: BlockId; pictures: Picture[] } {
    const { servers } = this.cluster;
    for (const { stored } of this.pictures) {
      const id = stored.key.block;
      const states = [...servers.values()].map((server) => server.store.info(id)?.state);
      if (!states.every((one) => one === state)) continue;
      return { id, pictures: this.pictures.filter((picture) => picture.stored.key.block === id) };
    }
    throw new Error(`no block is ${state} on every server`);
  }

  path(server: number, id: BlockId, kind: 'blk' | 'ops' | 'idx' = 'blk'): string {
    return join(this.cluster.mountPath(server), 'blocks', `${id}.0.${kind}`);
  }

  flip(server: number, id: BlockId, offset: number): void {
    flipByte(this.path(server, id), offset);
  }

  async readAll(pictures = this.pictures): Promise<void> {
    for (const { stored, body } of pictures) {
      const picture = await this.cluster.client.get(stored.name);
      const pieces: Buffer[] = [];
      for await (const piece of picture.pieces()) pieces.push(piece);
      assert.ok(Buffer.concat(pieces).equals(body), stored.name);
    }
  }

  /** All replicas are sealed, whole, and the same bytes. */
  async alike(id: BlockId): Promise<void> {
    const { servers } = this.cluster;
    await until(`block ${id} is whole everywhere`, () =>
      [1, 2, 3].every((n) => {
        const info = servers.get(n)!.store.info(id);
        return info?.state === BlockState.SEALED && info.flags === 0;
      }),
    );
    for (const server of servers.values()) assert.equal((await server.store.verify(id)).problems, []);
    const [a, b, c] = [1, 2, 3].map((n) => readFileSync(this.path(n, id)));
    assert.ok(a!.equals(b!) && a!.equals(c!), 'the same bytes');
    await until('the map knows', () => this.cluster.nameserver.map.counts.suspect === 0);
  }

  trash(server: number): string[] {
    return readdirSync(join(this.cluster.mountPath(server), 'trash'));
  }
}

function flipByte(path: string, offset: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  writeSync(fd, Buffer.from([byte[0]! ^ 0x20]), 0, 1, offset);
  closeSync(fd);
}

async function until(what: string, done: () => boolean, timeoutMs = 20_000): Promise<void> {
  const startedAt = performance.now();
  while (!done()) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited in vain until ${what}`);
    await sleep(20);
  }
}

describe('repair in a cluster', (test) => {
  test('a damaged picture is answered from another replica, and its replica is whole a little later', async (t) => {
    const world = await filled(t);
    const { id, pictures } = world.block(BlockState.SEALED);
    // About every other record of the block, on one server.
    const file = readFileSync(world.path(2, id));
    for (let at = 4096 + 200; at < file.length; at += 3000) world.flip(2, id, at);
    await world.readAll(pictures);
    await world.readAll(pictures);
    await world.alike(id);
    await world.readAll(pictures);
    const kept = world.trash(2);
    assert.is(kept.length, 1);
    assert.match(kept[0]!, new RegExp(`^${id}\\.0\\.blk\\.\\d+$`));
    assert.ok(world.cluster.nameserver.repairer.stats.repaired >= 1);
  });

  test('what a verification finds is repaired: sealed and OPEN blocks, headers, superblocks, cut files', async (t) => {
    const world = await filled(t);
    const sealed = world.block(BlockState.SEALED);
    const open = world.block(BlockState.OPEN);
    const server = world.cluster.servers.get(3)!;
    for (const { id } of [sealed, open]) {
      world.flip(3, id, 4096 + 9);
      world.flip(3, id, 77);
      assert.ok((await server.store.verify(id)).problems.length >= 2);
    }
    // Uploads go on; the OPEN block is sealed to be repaired.
    await world.cluster.client.put(randomBytes(100));
    for (const { id } of [sealed, open]) await world.alike(id);
    await world.readAll();
  });

  test('a server that starts with a damaged superblock, a damaged ops log and a lost block has all of it again', async (t) => {
    const world = await filled(t);
    const ids = [...new Set(world.pictures.map(({ stored }) => stored.key.block))].filter((id) =>
      [...world.cluster.servers.values()].every((s) => s.store.info(id)?.state === BlockState.SEALED),
    );
    assert.ok(ids.length >= 2);
    const [first, second] = ids as [BlockId, BlockId];
    const third = ids[2];
    const deleted = world.pictures.find(({ stored }) => stored.key.block === second)!;
    await world.cluster.client.remove(deleted.stored.name);
    await world.cluster.stopServer(1);
    flipByte(world.path(1, first), 50);
    flipByte(world.path(1, second, 'ops'), 90);
    if (third !== undefined)
      for (const kind of ['blk', 'ops', 'idx'] as const) rmSync(world.path(1, third, kind));
    await world.cluster.startServer(1);
    for (const id of ids) await world.alike(id);
    if (third !== undefined) assert.ok(existsSync(world.path(1, third)));
    const info = world.cluster.servers.get(1)!.store.info(second)!;
    assert.is(info.seq, world.cluster.servers.get(2)!.store.info(second)!.seq);
    const gone = await world.cluster.client.get(deleted.stored.name).catch((error: unknown) => error);
    assert.ok(isTfsError(gone, 'NOT_FOUND'), 'deleted stays deleted');
    await world.readAll(world.pictures.filter((picture) => picture !== deleted));
  });

  test('a picture that is damaged everywhere is CORRUPT, never NOT_FOUND, and counted as lost', async (t) => {
    const world = await filled(t);
    const { id, pictures } = world.block(BlockState.SEALED);
    const [first] = pictures;
    const { store } = world.cluster.servers.get(1)!;
    const read = await store.read(
      id,
      first!.stored.key.fileId,
      first!.stored.key.cookie,
      { offset: 0, length: 10 },
      false,
    );
    const file = readFileSync(world.path(1, id));
    const at = file.indexOf(read.payload.subarray(0, 10));
    for (const n of [1, 2, 3]) world.flip(n, id, at + 3);
    const code = async () => {
      const error = await world.cluster.client.get(first!.stored.name).catch((thrown: unknown) => thrown);
      return isTfsError(error) ? error.code : undefined;
    };
    assert.is(await code(), 'CORRUPT');
    await until('the loss is known', () => world.cluster.nameserver.repairer.lostRecords === 1);
    assert.is(await code(), 'CORRUPT');
    await world.readAll(pictures.slice(1));
  });

  test('a restart knows of the damage that was found before it, and that it was repaired', async (t) => {
    const world = await filled(t);
    const { cluster } = world;
    const { id } = world.block(BlockState.SEALED);
    // Nobody is there to have it repaired.
    await cluster.stopNameServer();
    world.flip(2, id, 4096 + 200);
    const { problems } = await cluster.servers.get(2)!.store.verify(id);
    assert.is(problems.length, 1);
    await cluster.stopServer(2);
    const { store } = await cluster.startServer(2);
    assert.is(store.info(id)!.flags, BlockFlag.SUSPECT);
    assert.is(store.totals().suspects, 1);
    await cluster.startNameServer();
    await world.alike(id);
    await cluster.stopServer(2);
    const again = await cluster.startServer(2);
    assert.is(again.store.info(id)!.flags, 0);
  });
}, 90_000);
