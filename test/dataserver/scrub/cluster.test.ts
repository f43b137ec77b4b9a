import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { OpType } from '../../../common/format/ops.ts';
import type { BlockId } from '../../../common/ids.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import { type Flip, flip, isFlipped, type Layout, layoutOf } from '../../kit/block-flips.ts';
import { LocalCluster } from '../../kit/local-cluster.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { describe, type TestContext } from '../../kit/suite.ts';

const FLIPS = 24;

async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  for (const startedAt = performance.now(); !condition(); await sleep(20))
    if (performance.now() - startedAt > timeoutMs) throw new Error(`waited ${timeoutMs} ms for: ${what}`);
}

/** Sealed blocks of a megabyte on three servers, and what was put into them. */
async function filled(t: TestContext, blocks = 4) {
  const cluster = await LocalCluster.start(t);
  const names: { name: string; body: Buffer }[] = [];
  const sealed = (): BlockId[] => {
    const of = (id: number) => {
      const { store } = cluster.servers.get(id)!;
      return store.blocks.filter((block) => store.info(block)?.state === BlockState.SEALED);
    };
    return of(1).filter((block) => of(2).includes(block) && of(3).includes(block));
  };
  while (sealed().length < blocks) {
    const body = randomBytes(20_000);
    names.push({ name: (await cluster.client.put(body)).name, body });
  }
  return { cluster, names, sealed: sealed() };
}

async function layoutsOf(cluster: LocalCluster, id: number, sealed: readonly BlockId[]): Promise<Layout[]> {
  const directory = join(cluster.mountPath(id), 'blocks');
  const layouts: Layout[] = [];
  for (const name of readdirSync(directory)) {
    const file = parseBlockFileName(name);
    if (file?.kind !== 'blk' || !sealed.includes(file.block)) continue;
    const path = join(directory, name);
    const layout = await layoutOf(path, readFileSync(path));
    if (layout !== undefined && layout.records.length > 0) layouts.push(layout);
  }
  return layouts;
}

describe('a scrub in a cluster', (test) => {
  test('finds every bit that was turned over in sealed blocks, and all of it is made good', async (t) => {
    const { cluster, names, sealed } = await filled(t);
    const random = new SeededRandom(7);
    const taken = new Set<string>();
    const flips: Flip[] = [];
    // Of each record one replica at the most: there is a good one for everything.
    for (const id of [1, 2, 3]) {
      const layouts = (await layoutsOf(cluster, id, sealed)).filter((_, i) => i % 3 === id - 1);
      while (flips.length < (FLIPS * id) / 3) {
        const one = flip(random.pick(layouts), random.pick(['header', 'payload', 'padding', 'superblock']), {
          random,
          taken,
        });
        if (one !== undefined) flips.push(one);
      }
    }
    for (const server of cluster.servers.values()) await server.scrubber.begin('full-speed');
    const isOver = () =>
      [...cluster.servers.values()].every(({ scrubber }) => scrubber.figures.pass?.endedAtMs !== undefined);
    await until('the scrubs', isOver);
    const found = [...cluster.servers.values()].map(({ scrubber }) => scrubber.figures.pass!);
    assert.ok(
      found.every(({ damaged }) => damaged > 0),
      JSON.stringify(found),
    );
    const damagedFiles = new Set(flips.map(({ path }) => path)).size;
    assert.is(
      found.reduce((sum, { damaged }) => sum + damaged, 0),
      damagedFiles,
    );
    await until('the repairs', () => flips.every((one) => !isFlipped(one)));
    await until('nothing is suspect', () =>
      [...cluster.servers.values()].every(({ store }) => store.totals().suspects === 0),
    );
    for (const { name, body } of names)
      assert.ok((await (await cluster.client.get(name)).bytes()).equals(body), name);
  });

  test('how it stands, and which blocks were compared, reaches the leader', async (t) => {
    const { cluster, sealed } = await filled(t, 2);
    await cluster.servers.get(1)!.scrubber.begin('full-speed');
    const scrub = () => cluster.nameserver.members.figures().find(({ id }) => id === 1)!.scrub;
    await until('the figures', () => scrub()?.last !== undefined);
    assert.ok(scrub()!.last!.replicas >= sealed.length);
    await until('the comparison', () => cluster.nameserver.digests.stats.checked >= sealed.length);
    assert.is(cluster.nameserver.digests.disagreeing, 0);
    assert.is(cluster.nameserver.digests.stats.disagreements, 0);
  });

  test('operations that two replicas have differently are put together', async (t) => {
    const { cluster, sealed } = await filled(t, 1);
    const [block] = sealed as [BlockId];
    const stores = [1, 2, 3].map((id) => cluster.servers.get(id)!.store);
    const { version, seq } = stores[0]!.info(block)!;
    // What no sequencer does: two operations in one place.
    for (const [i, store] of stores.entries()) {
      const place = {
        version,
        seq: seq + 1,
        atMs: 1,
        opId: Buffer.alloc(16, i === 2 ? 8 : 7),
      };
      await store.appendOps(block, [{ type: OpType.DELETE, fileId: (i === 2 ? 1 : 0) as never, ...place }]);
    }
    const { digests } = cluster.nameserver;
    await until('the leader to know', () => {
      const facts = cluster.nameserver.map.facts(block);
      return facts?.seq === seq + 1 && facts.replicas.every(({ behind }) => !behind);
    });
    await cluster.servers.get(2)!.scrubber.begin('full-speed');
    await until('the disagreement', () => digests.stats.disagreements === 1);
    const flags = () =>
      stores.map((store) => [store.check(block, 0 as never), store.check(block, 1 as never)]);
    await until('both are deleted on all', () => JSON.stringify(flags()) === '[[1,1],[1,1],[1,1]]');
  });
}, 60_000);
