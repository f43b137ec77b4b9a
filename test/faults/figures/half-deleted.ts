import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { blockFileName } from '../../../common/format/file-names.ts';
import type { BlockId } from '../../../common/ids.ts';
import { COMPACT_BYTES_PER_SECOND_DEFAULT, DEAD_UNIT_BYTES } from '../../../common/limits.ts';
import type { ServerFigures } from '../../../common/wire/control.ts';
import { SPACE_PART_NAMES, type SpacePart } from '../../../common/wire/space.ts';
import { ClusterProbe, keyOf } from '../../kit/cluster-probe.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';
import { untilAlike } from '../../kit/replicas-alike.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { SteadyClients } from '../../kit/steady-clients.ts';
import { type Acked, verifyAcked } from '../../kit/upload-load.ts';
import { seconds } from '../cell.ts';
import { type BlockFile, blockFiles } from './copies.ts';
import { type Figure, percentile } from './report.ts';
import {
  bytesOf,
  fill,
  forget,
  inParallel,
  MB,
  metricOf,
  sealAll,
  tfs,
  until,
  withCluster,
} from './stored.ts';

const STORED_MB = 1_000;
const BLOCK_BYTES = 16 << 20;
const WINDOW_MS = 15_000;
const SERVERS = [1, 2, 3];
const READERS = 4;
/** Quiet and beside compactions by turns, each time of other blocks: a machine is not the same for minutes. */
const ROUNDS = 4;
const QUIET_MS = 10_000;
const SETTLE_MS = 500;
const COMPACTED_MS_MAX = 180_000;
/** Until earlier generations are removed and the space is measured again. */
const MEASURED_MS_MAX = 180_000;
const ALIKE_MS_MAX = 60_000;
const CLIENTS = 8;

/** Half of all pictures deleted: their bytes come back, nothing else changes, and what reads notice of it. */
export const halfDeleted: Figure = async ({ megabytes = STORED_MB, keep }) => {
  const dataserver = { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: 0, undeleteWindowMs: WINDOW_MS };
  return withCluster({ redis: true, config: { dataserver }, keep }, async (cluster) => {
    const acked = await fill(cluster, megabytes * MB);
    await sealAll(cluster);
    const before = sizeOf(cluster, acked);
    const turns = await takeTurns(cluster, acked);
    const [quiet, beside] = [percentile(turns.quietMs, 0.99), percentile(turns.besideMs, 0.99)];

    const deleted = acked.filter((picture) => picture.deleted);
    const undeleted = await undeleteAll(cluster, deleted);
    forget(cluster);
    const wrong = [...turns.failures, ...undeleted, ...(await verifyAcked(cluster, acked))];
    const parts = await spaceOf(cluster);
    const after = sizeOf(cluster, acked);
    wrong.push(...(await alike(cluster)));
    const live = parts.get('live')!;
    const over = (bytes: number) => `${((100 * (bytes - live)) / live).toFixed(2)} %`;
    const payload = bytesOf(acked) * SERVERS.length;
    const overhead = [...parts]
      .filter(([part, bytes]) => part !== 'live' && Math.abs(bytes) >= MB / 100)
      .map(([part, bytes]) => `${part} ${(bytes / MB).toFixed(2)}`);
    return {
      wrong,
      line: [
        `${acked.length} pictures, ${deleted.length} of them deleted, undelete window ${seconds(WINDOW_MS)}`,
        `block files ${(before.bytes / MB).toFixed(1)} MB on three servers before, ${(after.bytes / MB).toFixed(1)} MB after (${(after.allocated / MB).toFixed(1)} MB allocated)`,
        `live records ${(live / MB).toFixed(1)} MB, ${(payload / MB).toFixed(1)} MB of them pictures and the rest their headers and padding: block files ${over(after.bytes)} over live, allocated ${over(after.allocated)}`,
        `what else the mounts hold, in MB: ${overhead.join(', ')}`,
        `compaction at up to ${(COMPACT_BYTES_PER_SECOND_DEFAULT / MB).toFixed(0)} MB/s a block took ${seconds(turns.compactedMs)} in ${ROUNDS} turns`,
        `${deleted.length} undeletes tried, ${undeleted.length} of them done; ${acked.length} names asked, ${wrong.length} wrong`,
        `GET p99 quiet ${quiet.toFixed(1)} ms (${turns.quietMs.length} reads), throughout the compactions ${beside.toFixed(1)} ms (${turns.besideMs.length}): ${(beside / quiet).toFixed(2)} x`,
      ].join('; '),
    };
  });
};

async function takeTurns(cluster: ProcessCluster, acked: readonly Acked[]) {
  const random = new SeededRandom(acked.length);
  const clients = new SteadyClients(cluster, acked, { readers: READERS });
  const quietMs: number[] = [];
  const besideMs: number[] = [];
  let compactedMs = 0;
  for (let round = 0; round < ROUNDS; round++) {
    forget(cluster);
    // What waited for that, as everything in this process does, is not counted.
    await sleep(SETTLE_MS);
    clients.take();
    await sleep(QUIET_MS);
    quietMs.push(...clients.take().readMs);
    const doomed = acked.filter(({ name }) => keyOf(name).block % ROUNDS === round && random.float() < 0.5);
    // Block by block, so that the window of a block's pictures ends at about one time.
    doomed.sort((a, b) => keyOf(a.name).block - keyOf(b.name).block);
    await inParallel(CLIENTS, doomed, (picture) => remove(cluster, picture));
    const blocks = worthIt(acked, round);
    forget(cluster);
    const generations = () => blockFiles(cluster, SERVERS);
    const isCompacted = ({ block, generation }: BlockFile) => generation > 0 && block % ROUNDS === round;
    // It may be over between two looks.
    const hasBegun = () => generations().unfinished > 0 || generations().whole.some(isCompacted);
    await until('a compaction begins', hasBegun, COMPACTED_MS_MAX, 20);
    clients.take();
    const beganAt = performance.now();
    const isDone = async () => {
      const done = new Map<number, number>();
      for (const { block, generation } of generations().whole)
        if (generation > 0) done.set(block, (done.get(block) ?? 0) + 1);
      if (!blocks.every((block) => done.get(block) === SERVERS.length)) return false;
      return (await compactionsWaiting(cluster)) === 0;
    };
    await until('all of them are compacted', isDone, COMPACTED_MS_MAX);
    compactedMs += performance.now() - beganAt;
    besideMs.push(...clients.take().readMs);
    console.log(`${round + 1}: ${doomed.length} pictures deleted, ${blocks.length} blocks compacted`);
  }
  await clients.stop();
  return { quietMs, besideMs, compactedMs, failures: clients.failures };
}

async function remove(cluster: ProcessCluster, picture: Acked): Promise<void> {
  // From now on nobody is to read it.
  picture.deleted = true;
  const status = await cluster.act('DELETE', picture.name);
  if (status !== 204) throw new Error(`DELETE ${picture.name}: ${status}`);
}

/** Blocks of that round with clearly more garbage than a compaction needs. */
function worthIt(acked: readonly Acked[], round: number): BlockId[] {
  const sums = new Map<BlockId, { all: number; deleted: number }>();
  for (const { name, bytes, deleted } of acked) {
    const { block } = keyOf(name);
    if (block % ROUNDS !== round) continue;
    const sum = sums.get(block) ?? { all: 0, deleted: 0 };
    sums.set(block, { all: sum.all + bytes, deleted: sum.deleted + (deleted ? bytes : 0) });
  }
  // Less is not counted: such a block is left as it is.
  const isCounted = (bytes: number) => bytes >= 2 * DEAD_UNIT_BYTES;
  return [...sums]
    .filter(([, { all, deleted }]) => deleted > all / 4 && isCounted(deleted))
    .map(([block]) => block);
}

async function compactionsWaiting(cluster: ProcessCluster): Promise<number> {
  const waiting = cluster.config.nameservers.map((one) =>
    metricOf(one, 'tfs_nameserver_compactions_waiting'),
  );
  return (await Promise.all(waiting)).reduce((sum, one) => sum + one, 0);
}

/** @returns a line for each that was taken back */
async function undeleteAll(cluster: ProcessCluster, deleted: readonly Acked[]): Promise<string[]> {
  const risen: string[] = [];
  await inParallel(CLIENTS, deleted, async ({ name }) => {
    const status = await cluster.act('POST', `${name}/undelete`);
    if (status < 400 || status >= 500) risen.push(`${name}: undeleted after its window: ${status}`);
  });
  return risen;
}

/** Of the block files with these pictures. */
function sizeOf(cluster: ProcessCluster, acked: readonly Acked[]): { bytes: number; allocated: number } {
  const blocks = new Set<number>(acked.map(({ name }) => keyOf(name).block));
  let [bytes, allocated] = [0, 0];
  for (const { server, block, generation } of blockFiles(cluster, SERVERS).whole) {
    if (!blocks.has(block)) continue;
    const file = blockFileName(block as BlockId, generation, 'blk');
    const stats = statSync(join(cluster.mountPath(server), 'blocks', file));
    bytes += stats.size;
    allocated += stats.blocks * 512;
  }
  return { bytes, allocated };
}

/** What every byte is, when no earlier generation is kept any more; as `tfs status --space` says it. */
async function spaceOf(cluster: ProcessCluster): Promise<Map<SpacePart, number>> {
  const sinceMs = Date.now();
  let figures: ServerFigures = [];
  const isMeasured = async () => {
    figures = (await tfs(cluster, 'status', '--space'))['space'] as ServerFigures;
    return figures.every(
      ({ use }) => use !== undefined && use.measuredAtMs > sinceMs && use.parts.generations === 0,
    );
  };
  await until('the space is measured without earlier generations', isMeasured, MEASURED_MS_MAX, 3_000);
  const sumOf = (part: SpacePart) => figures.reduce((sum, { use }) => sum + use!.parts[part], 0);
  return new Map(SPACE_PART_NAMES.map((part) => [part, sumOf(part)]));
}

async function alike(cluster: ProcessCluster): Promise<string[]> {
  const probe = await ClusterProbe.open(cluster);
  try {
    return await untilAlike(probe, ALIKE_MS_MAX);
  } finally {
    await probe.close();
  }
}
