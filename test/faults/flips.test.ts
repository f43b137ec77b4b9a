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
import { type Acked, UploadLoad, verifyAcked } from '../kit/upload-load.ts';

const FLIPS = Number(process.env['TFS_FLIPS'] ?? 60);
const FLIPS_A_ROUND = Math.max(20, Math.ceil(FLIPS / 20));
const SEED = Number(process.env['TFS_FLIPS_SEED'] ?? Date.now() & 0xffff);
const SERVERS = [1, 2, 3];
const UPLOADS_A_ROUND = 120;
/** Until a deletion that is under way has read what it deletes. */
const QUIET_MS = 300;
const SAMPLE = 600;
const READ_AT_END_MAX = 10_000;
const TIMEOUT_MS = Number(process.env['TFS_FLIPS_MS'] ?? 240_000);
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

async function verify(cluster: ProcessCluster, waitS = 60): Promise<Verified> {
  const end = await runTfs(['verify', '--all-replicas', '--repair-wait', String(waitS), '--json'], {
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

const blockOf = ({ path }: Flip): BlockId => parseBlockFileName(path.slice(path.lastIndexOf('/') + 1))!.block;

/** Blocks of which a DataServer has said in its log that they do not verify. */
function complaintsOf(log: string): Set<number> {
  const lines = log.split('\n').filter((line) => /do not verify|does not read back/.test(line));
  return new Set(lines.map((line) => Number(/"block":(\d+)/.exec(line)?.[1])));
}

function isReported(one: Flip, server: number, findings: readonly Finding[]): boolean {
  const { offset } = one;
  const block = blockOf(one);
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

/** What a campaign has done so far. */
class Sum {
  flips = 0;
  inOpenBlocks = 0;
  reported = 0;
  /** Found, and mended, by a read or a seal before the verification came to it. */
  foundBefore = 0;
  slowestMs = 0;
  readonly kinds = new Map<FlipKind, number>();

  add({ kind }: Flip, isOpen: boolean): void {
    this.flips++;
    if (isOpen) this.inOpenBlocks++;
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
  }

  get text(): string {
    const kinds = [...this.kinds].map(([kind, n]) => `${n} ${kind}`).join(', ');
    return (
      `${this.flips} flips (${kinds}; ${this.inOpenBlocks} in OPEN blocks), ${this.reported} reported by tfs verify, ` +
      `${this.foundBefore} found before it by reads and seals, found and repaired within ${Math.round(this.slowestMs)} ms`
    );
  }
}

interface Round {
  readonly server: number;
  readonly withReaders: boolean;
  readonly count: number;
  readonly random: SeededRandom;
}

/** What is new, and as much of the rest. */
const sampleOf = (acked: readonly Acked[], random: SeededRandom): Acked[] => [
  ...acked.slice(-SAMPLE),
  ...someOf(acked, SAMPLE, random),
];

const someOf = (acked: readonly Acked[], count: number, random: SeededRandom): Acked[] =>
  Array.from({ length: count }, () => random.pick(acked));

/** Damages one server, verifies, and sees all of it found and made good. */
async function runRound(cluster: ProcessCluster, load: UploadLoad, sum: Sum, how: Round): Promise<void> {
  const { server, withReaders, count, random } = how;
  load.deleting = withReaders;
  await sleep(QUIET_MS);
  const table = (await tables(cluster)).get(server)!;
  const open = new Set(table.flatMap(({ block, state }) => (state === BlockState.OPEN ? [block] : [])));
  const logPath = join(cluster.home, 'logs', `ds${server}.log`);
  const logged = readFileSync(logPath, 'utf8').length;
  const startedAt = performance.now();
  const flips = await damage(cluster, server, { count, random });
  for (const one of flips) sum.add(one, open.has(blockOf(one)));
  const readers = withReaders ? verifyAcked(cluster, sampleOf(load.acked, random), 6) : Promise.resolve([]);
  const found = await verify(cluster);
  sum.slowestMs = Math.max(sum.slowestMs, performance.now() - startedAt);
  const trouble = () => `seed ${SEED}, server ${server}\n${JSON.stringify(found.totals)}\n${cluster.logs()}`;
  assert.equal(await readers, [], trouble());
  assert.is(found.code, 0, trouble());
  assert.equal(flips.filter(isFlipped), [], `what was damaged is made good: ${trouble()}`);
  const complaints = complaintsOf(readFileSync(logPath, 'utf8').slice(logged));
  for (const one of flips) {
    if (isReported(one, server, found.findings)) sum.reported++;
    else if (complaints.has(blockOf(one))) sum.foundBefore++;
    else assert.unreachable(`${JSON.stringify(one)} was found by nobody: ${trouble()}`);
  }
  assert.equal(await verifyAcked(cluster, load.acked.slice(-200), 6), [], trouble());
}

describe(
  'bytes that change on a disk while the cluster runs',
  (test) => {
    test(`${FLIPS} of them: each is found, none is served, all are made good`, async (t) => {
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
      const sum = new Sum();
      for (let n = 0; sum.flips < FLIPS; n++) {
        const until = load.acked.length + UPLOADS_A_ROUND;
        while (load.acked.length < until) await sleep(50);
        const count = Math.min(FLIPS_A_ROUND, FLIPS - sum.flips);
        // Every other round readers and deletions come upon the damage at the same time.
        const how = { server: SERVERS[n % SERVERS.length]!, withReaders: n % 2 === 1, count, random };
        await runRound(cluster, load, sum, how);
        console.log(
          `round ${n}: ${sum.flips} flips, ${load.acked.length} pictures, at most ${Math.round(sum.slowestMs)} ms`,
        );
      }
      await load.stop();
      const read =
        load.acked.length <= READ_AT_END_MAX ? load.acked : someOf(load.acked, READ_AT_END_MAX, random);
      assert.equal(await verifyAcked(cluster, read, 8), [], `seed ${SEED}\n${cluster.logs()}`);
      const last = await verify(cluster);
      assert.equal([last.code, last.findings], [0, []], cluster.logs());
      const { sealed, different } = await compareFiles(cluster);
      assert.equal(different, []);
      if (FLIPS >= 60) {
        assert.ok(sum.inOpenBlocks > 0 && sum.inOpenBlocks < sum.flips, 'in OPEN and in sealed blocks');
        assert.is(sum.kinds.size, FLIP_KINDS.length, 'of every kind');
        assert.ok(sum.reported > sum.flips / 4);
      }
      console.log(
        `\nFIGURE ${sum.text}; ${read.length} of ${load.acked.length} pictures read and right, ${sealed.length} sealed blocks alike, seed ${SEED}`,
      );
      // A server that cannot be asked is no good news.
      await cluster.stopOne('ds3', 'SIGTERM');
      const without = await verify(cluster, 0);
      assert.equal([without.code, without.totals['unreadServers']], [1, [3]]);
    });
  },
  TIMEOUT_MS,
);
