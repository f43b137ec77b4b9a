import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClusterProbe } from '../../kit/cluster-probe.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';
import { withRedis } from '../../kit/redis-server.ts';
import { untilAlike } from '../../kit/replicas-alike.ts';
import { SteadyClients } from '../../kit/steady-clients.ts';
import { verifyAcked } from '../../kit/upload-load.ts';
import { seconds } from '../cell.ts';
import { blockFiles, blocksShort } from './copies.ts';
import { type Figure, type FigureReport, percentile } from './report.ts';
import { fill, MB, metricOf, metricOfAll, tfs, until, withCluster } from './stored.ts';

const STORED_MB = 600;
const BLOCK_BYTES = 8 << 20;
const DEAD_MS = 20_000;
const LOST = 4;
/** Away for a while, so that blocks of the lost disk have one copy left. */
const AWAY = 3;
const SURVIVORS = [1, 2, 3];
/** So little that a repair has a middle. */
const JOB_BYTES_PER_SECOND = 6e6;
/** Of the lost bytes, when Redis goes. */
const MIDDLE = 0.2;
const FLUSHED_AFTER_MS = 4_000;
/** What the figure aims at, without what the copies themselves take. */
const CONVERGED_MS = 120_000;
const STEP_MS_MAX = 300_000;
const ALIKE_MS_MAX = 60_000;

/** Redis goes in the middle of a repair, stays away, comes back empty, and is flushed once more. */
export const redisRepair: Figure = ({ megabytes = STORED_MB, seconds: awaySeconds, keep }) =>
  withCluster(
    {
      ...{ mounts: 4, nameservers: 2, redis: true, keep },
      cluster: { deadMs: DEAD_MS },
      config: {
        dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: 0 },
        jobs: { bytesPerSecond: JOB_BYTES_PER_SECOND },
      },
    },
    async (cluster) => {
      const acked = await fill(cluster, megabytes * MB);
      const probe = await ClusterProbe.open(cluster);
      const clients = new SteadyClients(cluster, acked, { readers: 2, uploaders: 2 });
      try {
        const report = await measure(cluster, probe, clients, awaySeconds * 1000);
        await clients.stop();
        const stored = [...acked, ...clients.stored];
        const wrong = [
          ...clients.failures,
          ...report.wrong,
          ...(await verifyAcked(cluster, stored)),
          ...(await untilAlike(probe, ALIKE_MS_MAX, SURVIVORS)),
        ];
        const { readMs, putMs } = clients.take();
        const { reads, puts } = clients.done;
        const line = [
          report.line,
          `throughout: ${puts} uploads, ${clients.failedPuts} failed, p99 ${percentile(putMs, 0.99).toFixed(0)} ms; ${reads} reads, ${clients.failedReads} failed, p99 ${percentile(readMs, 0.99).toFixed(0)} ms`,
          `${stored.length} pictures read back, ${wrong.length} wrong`,
        ].join('; ');
        return { line, wrong };
      } finally {
        await clients.stop();
        await probe.close();
      }
    },
  );

async function measure(
  cluster: ProcessCluster,
  probe: ClusterProbe,
  clients: SteadyClients,
  awayMs: number,
): Promise<FigureReport> {
  const lost = blockFiles(cluster, [LOST]).whole;
  const lostBytes = lost.reduce((sum, { bytes }) => sum + bytes, 0);
  await cluster.stopOne(`ds${LOST}`, 'SIGKILL');
  rmSync(cluster.mountPath(LOST), { recursive: true });
  const copied = () => metricOfAll(cluster, 'tfs_dataserver_job_bytes_total', SURVIVORS);
  await until('a part is copied', async () => (await copied()) >= MIDDLE * lostBytes, STEP_MS_MAX);

  const downAt = performance.now();
  await cluster.stopOne('redis', 'SIGKILL');
  // With two servers away nobody could be sure to know of every block: the one that is gone is told to be.
  const short = await blocksShort(probe, SURVIVORS);
  await tfs(cluster, 'remove-server', String(LOST));
  await cluster.stopOne(`ds${AWAY}`, 'SIGKILL');
  const staying = SURVIVORS.filter((server) => server !== AWAY);
  const single = await blocksShort(probe, staying, 2);
  await until(
    'every block has two copies without Redis',
    async () => (await blocksShort(probe, staying, 2)).length === 0,
    STEP_MS_MAX,
  );
  const directMs = performance.now() - downAt;
  const direct = await directJobs(cluster);
  await cluster.startOne(`ds${AWAY}`);
  await sleep(Math.max(0, downAt + awayMs - performance.now()));
  const putsWithout = clients.done.puts;

  const missing = await blocksShort(probe, SURVIVORS);
  const bytesBefore = await copied();
  const backAt = performance.now();
  await cluster.startOne('redis');
  await sleep(FLUSHED_AFTER_MS);
  await withRedis(cluster.redisAddress, (redis) => redis.flushall());
  await until(
    'every block has three copies',
    async () => (await blocksShort(probe, SURVIVORS)).length === 0,
    STEP_MS_MAX,
  );
  const convergedMs = performance.now() - backAt;
  const bytes = (await copied()) - bytesBefore;
  // All of them go to the server that was away, or to whoever lacks most.
  const copyingMs = (1000 * bytes) / JOB_BYTES_PER_SECOND;
  const wrong: string[] = [];
  if (single.length > 0 && direct === 0) wrong.push('no copy was made without Redis');
  if (missing.length === 0) wrong.push('nothing was left to be repaired when Redis came back');
  if (convergedMs - copyingMs > CONVERGED_MS)
    wrong.push(`it took ${seconds(convergedMs)}, of which copying ${seconds(copyingMs)}`);
  return {
    wrong,
    line: [
      `a disk of ${lost.length} blocks (${(lostBytes / MB).toFixed(0)} MB) lost, Redis killed with ${short.length} blocks short of copies, and away for ${seconds(backAt - downAt)}`,
      `meanwhile a second server went: ${single.length} blocks had one copy, ${direct} copies made directly, the last one ${seconds(directMs)} after Redis went; it came back`,
      `${putsWithout} uploads until then`,
      `Redis back, empty, flushed ${seconds(FLUSHED_AFTER_MS)} later: ${missing.length} blocks short, ${(bytes / MB).toFixed(0)} MB copied, all with three copies after ${seconds(convergedMs)}, of which copying at ${(JOB_BYTES_PER_SECOND / MB).toFixed(0)} MB/s a server takes up to ${seconds(copyingMs)}`,
    ].join('; '),
  };
}

async function directJobs(cluster: ProcessCluster): Promise<number> {
  const all = cluster.config.nameservers.map((one) => metricOf(one, 'tfs_nameserver_direct_jobs_total'));
  return (await Promise.all(all)).reduce((sum, one) => sum + one, 0);
}
