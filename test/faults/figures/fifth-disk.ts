import { setTimeout as sleep } from 'node:timers/promises';
import { ClusterProbe } from '../../kit/cluster-probe.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';
import { untilAlike } from '../../kit/replicas-alike.ts';
import { SteadyClients } from '../../kit/steady-clients.ts';
import { verifyAcked } from '../../kit/upload-load.ts';
import { seconds } from '../cell.ts';
import { LoopDisks } from './loop-disks.ts';
import { type Figure, type FigureReport, percentile } from './report.ts';
import { fill, forget, MB, metricOf, tfs, until, withCluster } from './stored.ts';

const STORED_MB = 1_000;
/** So that one block is a small part of a disk, as it is of a real one. */
const BLOCK_BYTES = 8 << 20;
const FIFTH = 5;
/** How full the four are before: about this. */
const USED_SHARE = 0.6;
/** For what a disk holds beside blocks that are full. */
const BESIDE_BYTES = 250e6;
/** Blocks are moved, and not, by turns: a machine is not the same for minutes. */
const TURN_MS = 4_000;
const QUIET_MS = 10_000;
const SETTLE_MS = 500;
const EVEN_MS_MAX = 300_000;
const SETTLED_MS_MAX = 120_000;
const ALIKE_MS_MAX = 60_000;
const READERS = 4;
const UPLOADERS = 2;
/** What the figure aims at, in per cent of a disk. */
const EVEN_PERCENT = 5;

/** A fifth disk is added to four: until all are as full as each other, and what uploads and reads notice of it. */
export const fifthDisk: Figure = async ({ megabytes = STORED_MB, keep }) => {
  const stored = (megabytes * MB * 3) / 4;
  const disks = await LoopDisks.open(FIFTH, Math.ceil((stored + BESIDE_BYTES) / USED_SHARE));
  try {
    const config = { dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: 0 } };
    const options = {
      mounts: FIFTH - 1,
      nameservers: 2,
      redis: true,
      mountPaths: disks.paths,
      config,
      keep,
    } as const;
    return await withCluster(options, (cluster) => measure(cluster, megabytes, disks.paths.at(-1)!));
  } finally {
    await disks.close();
  }
};

async function measure(cluster: ProcessCluster, megabytes: number, path: string): Promise<FigureReport> {
  const acked = await fill(cluster, megabytes * MB);
  const probe = await ClusterProbe.open(cluster);
  const clients = new SteadyClients(cluster, acked, { readers: READERS, uploaders: UPLOADERS });
  try {
    forget(cluster);
    const before = await usedPercents(probe);
    // What waited while the page cache forgot is not counted.
    await sleep(SETTLE_MS);
    clients.take();
    await sleep(QUIET_MS);
    const alone = clients.take();
    await add(cluster, probe, path);
    const moved = await balanced(cluster, probe, clients);
    const after = await usedPercents(probe);
    const share = await sharesOfFifth(cluster, () => sleep(QUIET_MS));
    await clients.stop();
    const stored = [...acked, ...clients.stored];
    const wrong = [
      ...clients.failures,
      ...moved.wrong,
      ...(await verifyAcked(cluster, stored)),
      ...(await untilAlike(probe, ALIKE_MS_MAX)),
    ];
    const spread = Math.max(...after) - Math.min(...after);
    const p99 = (values: readonly number[]) => percentile(values, 0.99);
    const ratio = (what: 'readMs' | 'putMs') =>
      `p99 before ${p99(alone[what]).toFixed(1)} ms, with five and nothing moved ${p99(moved.resting[what]).toFixed(1)} ms, ` +
      `while blocks moved ${p99(moved.moving[what]).toFixed(1)} ms (${moved.moving[what].length}): ` +
      `${(p99(moved.moving[what]) / p99(moved.resting[what])).toFixed(2)} x`;
    return {
      wrong,
      line: [
        `four disks ${listed(before)} % full; ${moved.blocks} blocks, ${(moved.bytes / MB).toFixed(0)} MB moved in ${seconds(moved.movingMs)} (${(moved.bytes / MB / (moved.movingMs / 1000)).toFixed(0)} MB/s)`,
        `then ${listed(after)} %: within ${spread.toFixed(1)} points of each other, ${((100 * spread) / Math.max(...after)).toFixed(1)} % of the fullest`,
        `uploads: ${clients.done.puts}, ${clients.failedPuts} failed, ${ratio('putMs')}`,
        `reads: ${clients.done.reads}, ${clients.failedReads} failed, ${ratio('readMs')}`,
        `of what was written meanwhile the new disk's server was primary for ${moved.shares.puts}, afterwards ${share.puts} (a fifth is 20 %); copies it took part in ${moved.shares.commits}, afterwards ${share.commits}; of reads ${moved.shares.reads}, afterwards ${share.reads}`,
        `${stored.length} pictures read back, ${wrong.length} wrong`,
      ].join('; '),
    };
  } finally {
    await clients.stop();
    await probe.close();
  }
}

/** As an operator does it: `tfs add`, and a reload, which starts the new server and then the NameServers again. */
async function add(cluster: ProcessCluster, probe: ClusterProbe, path: string): Promise<void> {
  // Nothing is to move before it is measured.
  await tfs(cluster, 'jobs', 'pause', 'balance');
  await tfs(cluster, 'add', path, '--domain', `d${FIFTH}`);
  await cluster.startAdded(FIFTH);
  const leading = (await probe.untilLed(60_000)).name;
  const standby = leading === 'ns0' ? 'ns1' : 'ns0';
  for (const name of [standby, leading] as const) {
    await cluster.stopOne(name, 'SIGTERM');
    await cluster.startOne(name);
    await probe.untilLed(60_000, ({ completeView }) => completeView);
  }
  await until('the fifth server is up', async () => (await upIn(probe)) === FIFTH, SETTLED_MS_MAX);
}

async function upIn(probe: ClusterProbe): Promise<number> {
  const { map } = await probe.untilLed(60_000);
  return map.servers.filter(({ state }) => state === 'up').length;
}

async function balanced(cluster: ProcessCluster, probe: ClusterProbe, clients: SteadyClients) {
  const moving = { readMs: [] as number[], putMs: [] as number[] };
  const resting = { readMs: [] as number[], putMs: [] as number[] };
  const blocksBefore = await jobTotals(cluster);
  let movingMs = 0;
  const startedAt = performance.now();
  let isEven = false;
  const shares = await sharesOfFifth(cluster, async () => {
    while (!isEven && performance.now() - startedAt < EVEN_MS_MAX) {
      clients.take();
      await sleep(TURN_MS);
      addTo(resting, clients.take());
      await tfs(cluster, 'jobs', 'resume', 'balance');
      const turnAt = performance.now();
      clients.take();
      while (!isEven && performance.now() - turnAt < TURN_MS) {
        await sleep(200);
        isEven = await hasEnded(probe);
      }
      addTo(moving, clients.take());
      movingMs += performance.now() - turnAt;
      await tfs(cluster, 'jobs', 'pause', 'balance');
      await until('what was under way is done', async () => (await runningIn(probe)) === 0, SETTLED_MS_MAX);
    }
  });
  await tfs(cluster, 'jobs', 'resume', 'balance');
  await until('nothing is left to be moved', () => hasEnded(probe), SETTLED_MS_MAX);
  const percents = await usedPercents(probe);
  const isUneven = Math.max(...percents) - Math.min(...percents) > EVEN_PERCENT;
  const totals = await jobTotals(cluster);
  return {
    moving,
    resting,
    movingMs,
    shares,
    blocks: totals.jobs - blocksBefore.jobs,
    bytes: totals.bytes - blocksBefore.bytes,
    wrong: isUneven ? [`the disks are not even: ${listed(percents)} % full`] : [],
  };
}

function addTo(
  to: { readMs: number[]; putMs: number[] },
  seen: { readonly readMs: number[]; readonly putMs: number[] },
): void {
  to.readMs.push(...seen.readMs);
  to.putMs.push(...seen.putMs);
}

const listed = (percents: readonly number[]): string => percents.map((one) => one.toFixed(1)).join(', ');

async function usedPercents(probe: ClusterProbe): Promise<number[]> {
  const { map } = await probe.untilLed(60_000);
  return map.servers.map(({ space, capacityBytes }) => (100 * space.usedBytes) / capacityBytes);
}

async function runningIn(probe: ClusterProbe): Promise<number> {
  return (await probe.untilLed(60_000)).map.jobs?.running ?? 0;
}

/** Copies are made, and those that became too many are gone. */
async function hasEnded(probe: ClusterProbe): Promise<boolean> {
  const { map } = await probe.untilLed(60_000);
  const { wantedBlocks, running } = map.jobs ?? { wantedBlocks: 1, running: 1 };
  const percents = map.servers.map(({ space, capacityBytes }) => (100 * space.usedBytes) / capacityBytes);
  const isEven = Math.max(...percents) - Math.min(...percents) <= EVEN_PERCENT;
  return isEven && wantedBlocks === 0 && running === 0;
}

async function jobTotals(cluster: ProcessCluster): Promise<{ jobs: number; bytes: number }> {
  let [jobs, bytes] = [0, 0];
  for (const mount of cluster.config.mounts) {
    jobs += await metricOf(mount, 'tfs_dataserver_jobs_done_total');
    bytes += await metricOf(mount, 'tfs_dataserver_job_bytes_total');
  }
  return { jobs, bytes };
}

const COUNTED = {
  puts: 'tfs_dataserver_puts_stored_total',
  commits: 'tfs_dataserver_commit_records_total',
  reads: 'tfs_dataserver_reads_total',
} as const;
type Shares = { readonly [K in keyof typeof COUNTED]: string };

/** Which part of the uploads and reads of that time the new server had. */
async function sharesOfFifth(cluster: ProcessCluster, pass: () => Promise<unknown>): Promise<Shares> {
  const kinds = Object.keys(COUNTED) as (keyof typeof COUNTED)[];
  const count = () =>
    Promise.all(
      kinds.map((kind) => Promise.all(cluster.config.mounts.map((mount) => metricOf(mount, COUNTED[kind])))),
    );
  const before = await count();
  await pass();
  const after = await count();
  const shares = kinds.map((kind, k) => {
    const grown = after[k]!.map((value, i) => value - before[k]![i]!);
    const all = grown.reduce((sum, one) => sum + one, 0);
    return [kind, all === 0 ? 'none' : `${((100 * grown.at(-1)!) / all).toFixed(1)} %`] as const;
  });
  return Object.fromEntries(shares) as Shares;
}
