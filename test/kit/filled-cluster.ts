import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { Stored } from '../../client/client.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { isTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import type { JobQueues } from '../../common/seams/job-queue.ts';
import type { BlockFacts } from '../../nameserver/block-facts.ts';
import { Whole } from '../../nameserver/block-page.ts';
import { LocalCluster } from './local-cluster.ts';
import { MemoryQueues } from './memory-queues.ts';
import type { TestContext } from './suite.ts';

interface Picture {
  readonly stored: Stored;
  readonly body: Buffer;
}

export async function until(what: string, done: () => boolean, timeoutMs = 30_000): Promise<void> {
  const startedAt = performance.now();
  while (!done()) {
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited in vain until ${what}`);
    await sleep(20);
  }
}

/** Four DataServers, some pictures, some of them deleted. */
export class FilledCluster {
  readonly cluster: LocalCluster;
  readonly queues: MemoryQueues;
  readonly pictures: Picture[] = [];
  readonly deleted: Picture[] = [];

  private constructor(cluster: LocalCluster, queues: MemoryQueues) {
    this.cluster = cluster;
    this.queues = queues;
  }

  /** @param options other than the queues in memory that a test can play with */
  static async start(
    t: TestContext,
    {
      deadMs = 6_000,
      ...options
    }: {
      readonly deadMs?: number;
      readonly queues?: JobQueues;
      readonly jobBytesPerSecond?: number;
      readonly capacityBytes?: number;
      readonly undeleteWindowMs?: number;
      readonly scrubPassMs?: number;
      readonly clusterBytesPerSecond?: number;
    } = {},
  ): Promise<FilledCluster> {
    const queues = new MemoryQueues(nodeClock);
    const cluster = await LocalCluster.start(t, { mounts: 4, queues, deadMs, ...options });
    const world = new FilledCluster(cluster, queues);
    for (let i = 0; i < 8; i++) await world.store();
    for (let i = 0; i < 5; i++) await world.remove();
    return world;
  }

  async store(): Promise<void> {
    const bodies = Array.from({ length: 40 }, () => randomBytes(3000 + Math.floor(Math.random() * 20_000)));
    const stored = await Promise.all(bodies.map((body) => this.cluster.client.put(body)));
    this.pictures.push(...stored.map((one, k) => ({ stored: one, body: bodies[k]! })));
  }

  /** How many blocks are open at a time, and so how much it takes until one is full, depends on how busy the machine is. */
  async untilSealed(blocks = 1): Promise<void> {
    const { counts } = this.cluster.nameserver.map;
    for (let i = 0; i < 40 && counts.sealed < blocks; i++) {
      await this.store();
      await sleep(100);
    }
    await until(`${blocks} blocks are sealed`, () => counts.sealed >= blocks);
  }

  async remove(picture = this.pictures[Math.floor(Math.random() * this.pictures.length)]): Promise<void> {
    this.pictures.splice(this.pictures.indexOf(picture!), 1);
    await this.cluster.client.remove(picture!.stored.name);
    this.deleted.push(picture!);
  }

  get blocks(): BlockFacts[] {
    const { map } = this.cluster.nameserver;
    const ids = new Set([...this.pictures, ...this.deleted].map(({ stored }) => stored.key.block));
    return [...ids].map((id) => map.facts(id)!);
  }

  /** No block that one of these servers was writing waits for its seal any more. */
  isSealed(without: readonly number[]): boolean {
    return this.blocks.every(
      ({ whole, replicas }) =>
        whole === Whole.SEALED || !replicas.some(({ server }) => without.includes(server)),
    );
  }

  /** Good, up to date copies on members other than these, of each block. */
  copies(without: readonly number[]): number[] {
    return this.blocks.map(
      ({ replicas }) =>
        replicas.filter(
          ({ server, member, state, good, stale }) =>
            member && state !== 0 && good && !stale && !without.includes(server),
        ).length,
    );
  }

  async readAll(): Promise<void> {
    for (const { stored, body } of this.pictures) {
      const picture = await this.cluster.client.get(stored.name);
      const pieces: Buffer[] = [];
      for await (const piece of picture.pieces()) pieces.push(piece);
      assert.ok(Buffer.concat(pieces).equals(body), stored.name);
    }
    for (const { stored } of this.deleted) {
      const gone = await this.cluster.client.get(stored.name).catch((error: unknown) => error);
      assert.ok(isTfsError(gone, 'NOT_FOUND'), 'deleted stays deleted');
    }
  }

  /** All replicas of a block are the same bytes, and verify. */
  async alike(block: BlockId): Promise<void> {
    const holders = [...this.cluster.servers].filter(([, { store }]) => store.info(block) !== undefined);
    for (const [, { store }] of holders) assert.equal((await store.verify(block)).problems, []);
    const [first, ...others] = holders.map(([id]) =>
      readFileSync(join(this.cluster.mountPath(id), 'blocks', `${block}.0.blk`)),
    );
    for (const other of others) assert.ok(other.equals(first!), `block ${block}`);
    const seqs = new Set(holders.map(([, { store }]) => store.info(block)!.seq));
    assert.is(seqs.size, 1, 'and the same operations');
  }
}
