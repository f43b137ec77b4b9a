import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import type { ConfigInput } from '../../common/config.ts';
import { parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import { type BlockEntry, BlockState } from '../../common/wire/messages.ts';
import { withOperator } from '../../tools/cli/operator.ts';
import {
  FLIP_KINDS,
  type Flip,
  type FlipKind,
  flip,
  isFlipped,
  type Layout,
  layoutOf,
} from '../kit/block-flips.ts';
import { ProcessCluster } from '../kit/process-cluster.ts';
import { ensureBuilt, runTfs } from '../kit/run-tfs.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { describe } from '../kit/suite.ts';
import { UploadLoad, verifyAcked } from '../kit/upload-load.ts';

const FLIPS = Number(process.env['TFS_FLIPS'] ?? 60);
const FLIPS_A_ROUND = 20;
const SEED = Number(process.env['TFS_FLIPS_SEED'] ?? Date.now() & 0xffff);
const SERVERS = [1, 2, 3];
const UPLOADS_A_ROUND = 120;
/** Each as often as it stands here. */
const DRAWN_FROM: readonly FlipKind[] = [
  ...['header', 'header', 'header', 'payload', 'payload', 'payload', 'payload'],
  ...['padding', 'padding', 'superblock'],
] as FlipKind[];

interface Finding {
  readonly server: number;
  readonly block: number;
  readonly problem: string;
}

interface Verified {
  readonly code: number | null;
  readonly findings: readonly Finding[];
  readonly totals: Record<string, unknown>;
}

async function verify(cluster: ProcessCluster): Promise<Verified> {
  const end = await runTfs(['verify', '--all-replicas', '--repair-wait', '60', '--json'], {
    env: { TFS_HOME: cluster.home },
  });
  const totals = end.json.at(-1);
  assert.ok(totals !== undefined && 'records' in totals, end.stderr);
  return { code: end.code, findings: end.json.slice(0, -1) as unknown as Finding[], totals };
}

const blocksDir = (cluster: ProcessCluster, server: number): string =>
  join(cluster.mountPath(server), 'blocks');

/** Damages one server's replicas. */
async function damage(
  cluster: ProcessCluster,
  server: number,
  { count, random }: { readonly count: number; readonly random: SeededRandom },
): Promise<Flip[]> {
  const layouts: Layout[] = [];
  for (const name of readdirSync(blocksDir(cluster, server))) {
    if (parseBlockFileName(name)?.kind !== 'blk') continue;
    const path = join(blocksDir(cluster, server), name);
    const layout = await layoutOf(path, readFileSync(path));
    if (layout !== undefined && layout.records.length > 0) layouts.push(layout);
  }
  const flips: Flip[] = [];
  const taken = new Set<string>();
  while (flips.length < count) {
    const one = flip(random.pick(layouts), random.pick(DRAWN_FROM), { random, taken });
    if (one !== undefined) flips.push(one);
  }
  return flips;
}

function isReported({ path, offset }: Flip, server: number, findings: readonly Finding[]): boolean {
  const block = parseBlockFileName(path.slice(path.lastIndexOf('/') + 1))!.block;
  return findings.some((finding) => {
    const span = /^bytes (\d+) to (\d+)/.exec(finding.problem);
    if (finding.server !== server || finding.block !== block || span === null) return false;
    return Number(span[1]) <= offset && offset < Number(span[2]);
  });
}

const tables = (cluster: ProcessCluster): Promise<Map<number, BlockEntry[]>> =>
  withOperator(cluster.home, async (operator) => {
    const { servers } = await operator.map();
    const lists = servers.map(async (server) => [server.id as number, await operator.list(server)] as const);
    return new Map(await Promise.all(lists));
  });

/** @returns blocks that are sealed everywhere, and a line for each whose replicas are not the same bytes */
async function compareFiles(cluster: ProcessCluster): Promise<{ sealed: BlockId[]; different: string[] }> {
  const byServer = await tables(cluster);
  const isSealed = (server: number, block: BlockId) =>
    byServer.get(server)!.some((entry) => entry.block === block && entry.state === BlockState.SEALED);
  const sealed = byServer
    .get(1)!
    .map(({ block }) => block)
    .filter((block) => SERVERS.every((server) => isSealed(server, block)));
  const different = sealed.filter((block) => {
    const sums = SERVERS.map((server) =>
      createHash('sha256')
        .update(readFileSync(join(blocksDir(cluster, server), `${block}.0.blk`)))
        .digest('hex'),
    );
    return new Set(sums).size > 1;
  });
  return { sealed, different: different.map((block) => `block ${block} differs`) };
}

describe(
  'bytes that change on a disk while the cluster runs',
  (test) => {
    test(`${FLIPS} of them: each is reported, none is served, all are made good`, async (t) => {
      await ensureBuilt();
      const cluster = await ProcessCluster.start({
        config: {
          dataserver: { blockBytes: 1 << 20, spareBlocks: 0 },
          gateway: { maxPictureBytes: 256 << 10 } as ConfigInput['gateway'],
        },
      });
      t.defer(() => cluster.destroy());
      const load = new UploadLoad(cluster, 3, 16_000);
      t.defer(() => load.stop());
      const random = new SeededRandom(SEED);
      const kinds = new Map<string, number>();
      const seen = { flips: 0, toReport: 0, healedBefore: 0, inOpenBlocks: 0, records: 0 };
      let slowestRepairMs = 0;
      for (let round = 0; seen.flips < FLIPS; round++) {
        const until = load.acked.length + UPLOADS_A_ROUND;
        while (load.acked.length < until) await sleep(50);
        const server = SERVERS[round % SERVERS.length]!;
        const open = new Set(
          (await tables(cluster))
            .get(server)!
            .flatMap((entry) => (entry.state === BlockState.OPEN ? [entry.block] : [])),
        );
        const flips = await damage(cluster, server, {
          count: Math.min(FLIPS_A_ROUND, FLIPS - seen.flips),
          random,
        });
        seen.flips += flips.length;
        for (const { path, kind } of flips) {
          kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
          if (open.has(parseBlockFileName(path.slice(path.lastIndexOf('/') + 1))!.block)) seen.inOpenBlocks++;
        }
        // Every other round readers come upon the damage before the verification does.
        const withReaders = round % 2 === 1;
        const readers = withReaders ? verifyAcked(cluster, load.acked.slice(), 6) : Promise.resolve([]);
        // A seal in between may have found and mended some.
        const left = flips.filter(isFlipped);
        seen.healedBefore += flips.length - left.length;
        const startedAt = performance.now();
        const found = await verify(cluster);
        slowestRepairMs = Math.max(slowestRepairMs, performance.now() - startedAt);
        const trouble = () =>
          `seed ${SEED}, round ${round}, server ${server}\n${JSON.stringify(found.totals)}\n${cluster.logs()}`;
        assert.equal(await readers, [], trouble());
        if (!withReaders) {
          seen.toReport += left.length;
          const missed = left.filter((one) => !isReported(one, server, found.findings));
          assert.equal(missed, [], trouble());
        }
        assert.is(found.code, 0, trouble());
        assert.equal(flips.filter(isFlipped), [], `what was damaged is made good: ${trouble()}`);
        const wrong = await verifyAcked(cluster, load.acked.slice(-200), 6);
        assert.equal(wrong, [], trouble());
        seen.records = Number(found.totals['records']);
      }
      await load.stop();
      const wrong = await verifyAcked(cluster, load.acked, 8);
      assert.equal(wrong, [], `seed ${SEED}\n${cluster.logs()}`);
      const last = await verify(cluster);
      assert.equal([last.code, last.findings], [0, []], cluster.logs());
      const { sealed, different } = await compareFiles(cluster);
      assert.equal(different, []);
      if (FLIPS >= 60)
        assert.ok(
          seen.inOpenBlocks > 0 && kinds.size === FLIP_KINDS.length,
          'of every kind, open and sealed',
        );
      console.log(
        `\nFIGURE ${seen.flips} flips (${[...kinds].map(([kind, n]) => `${n} ${kind}`).join(', ')}; ${seen.inOpenBlocks} in OPEN blocks), ` +
          `${seen.toReport} of ${seen.toReport} reported, ${load.acked.length} pictures right, ${sealed.length} sealed blocks alike, ` +
          `verified and repaired within ${Math.round(slowestRepairMs)} ms, seed ${SEED}`,
      );
    });
  },
  Number(process.env['TFS_FLIPS_MS'] ?? 240_000),
);
