import { rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ConfigInput } from '../../../common/config.ts';
import type { ServerId } from '../../../common/ids.ts';
import {
  JOB_BYTES_PER_SECOND_DEFAULT,
  JOBS_PER_SERVER_DEFAULT,
  SUPERBLOCK_BYTES,
} from '../../../common/limits.ts';
import { BlockState } from '../../../common/wire/messages.ts';
import { ClusterProbe } from '../../kit/cluster-probe.ts';
import type { ProcessCluster, ProcessName } from '../../kit/process-cluster.ts';
import { isEmpty, untilAlike } from '../../kit/replicas-alike.ts';
import { runTfs } from '../../kit/run-tfs.ts';
import { verifyAcked } from '../../kit/upload-load.ts';
import { seconds } from '../cell.ts';
import { type BlockFile, blockFiles, blocksShort } from './copies.ts';
import { type Figure, type FigureReport, percentile } from './report.ts';
import { bytesOf, fill, MB, sealAll, withCluster } from './stored.ts';
import { cpuSeconds, diskSeconds } from './yardstick.ts';

const STORED_MB = 2_100;
/**
 * A quarter of the usual size: a disk of some terabytes has ten thousands of blocks, so that the last few, which not all
 * servers have a part in, do not count. With 64 MB they would be a third of these.
 */
const BLOCK_BYTES = 16 << 20;
const DEAD_MS = 20_000;
const LOST = 4;
const SURVIVORS = [1, 2, 3];
const REBUILT_MS_MAX = 180_000;
const ALIKE_MS_MAX = 60_000;
const LOOK_MS = 50;
const ETA_EVERY_MS = 1_000;

interface Caps {
  readonly name: string;
  readonly jobs: NonNullable<ConfigInput['jobs']>;
}

const CAPS: readonly Caps[] = [
  { name: 'default caps', jobs: {} },
  { name: 'caps lifted', jobs: { concurrency: 4, bytesPerSecond: 10e9 } },
];

/** A disk is removed for good: how fast the others make its copies again, beside what they can write. */
export const diskLost: Figure = async (options) => {
  const reports: FigureReport[] = [];
  for (const caps of CAPS) {
    reports.push(await once(caps, options));
    console.log(reports.at(-1)!.line);
  }
  return {
    line: reports.map(({ line }) => line).join('\n       '),
    wrong: reports.flatMap(({ wrong }) => wrong),
  };
};

const once = (
  { name, jobs }: Caps,
  { megabytes = STORED_MB, keep }: { readonly megabytes?: number | undefined; readonly keep: boolean },
): Promise<FigureReport> =>
  withCluster(
    {
      ...{ mounts: 4, nameservers: 2, redis: true, keep },
      cluster: { deadMs: DEAD_MS },
      config: { dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: 0 }, jobs },
    },
    async (cluster) => {
      const acked = await fill(cluster, megabytes * MB);
      await sealAll(cluster);
      const lost = blockFiles(cluster, [LOST]).whole.reduce((sum, { bytes }) => sum + bytes, 0);
      const yardstick = { servers: SURVIVORS, bytes: lost };
      const writes = [await diskSeconds(cluster, { ...yardstick, isCopied: false })];
      const copies = [await diskSeconds(cluster, { ...yardstick, isCopied: true })];
      const rebuilt = await rebuild(cluster);
      writes.push(await diskSeconds(cluster, { ...yardstick, isCopied: false }));
      copies.push(await diskSeconds(cluster, { ...yardstick, isCopied: true }));
      const wrong = [...rebuilt.wrong, ...(await verifyAcked(cluster, acked))];
      const rate = (bytes: number, tookMs: number) => bytes / MB / (tookMs / 1000);
      const rebuildRate = rate(rebuilt.bytes, rebuilt.tookMs);
      const [writeRate, copyRate] = [writes, copies].map(
        (took) => lost / MB / (took.reduce((sum, one) => sum + one, 0) / took.length),
      ) as [number, number];
      const { concurrency = JOBS_PER_SERVER_DEFAULT, bytesPerSecond = JOB_BYTES_PER_SECOND_DEFAULT } = jobs;
      return {
        wrong,
        line: [
          `${name} (${concurrency} jobs and ${(bytesPerSecond / MB).toFixed(0)} MB/s on each server)`,
          `${(bytesOf(acked) / MB).toFixed(0)} MB of pictures in three copies; ${rebuilt.blocks} sealed blocks, ${(rebuilt.bytes / MB).toFixed(0)} MB, made again`,
          `from the first copy's beginning to the last one's end ${seconds(rebuilt.tookMs)}: ${rebuildRate.toFixed(0)} MB/s`,
          `from the loss ${seconds(rebuilt.fromLossMs)}, of which the dead timer ${seconds(DEAD_MS)}; what was being written at the loss, and had to be sealed first, ${seconds(rebuilt.allMs)} after it`,
          `the same bytes written by dd into the three mounts at once ${writeRate.toFixed(0)} MB/s (${listed(writes)} s): ratio ${(rebuildRate / writeRate).toFixed(2)}`,
          `read from their block files and written ${copyRate.toFixed(0)} MB/s (${listed(copies)} s): ratio ${(rebuildRate / copyRate).toFixed(2)}`,
          `processors ${rebuilt.cpuPercent.toFixed(0)} % busy with it`,
          rebuilt.etas,
          `${acked.length} pictures read back, ${wrong.length} wrong`,
        ].join('; '),
      };
    },
  );

const listed = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(' and ');

async function rebuild(cluster: ProcessCluster) {
  const probe = await ClusterProbe.open(cluster);
  try {
    const keyOf = ({ server, block }: BlockFile): string => `${server} ${block}`;
    const before = new Set(blockFiles(cluster, SURVIVORS).whole.map(keyOf));
    const sealed = new Set<number>(
      (await probe.entriesOf(LOST as ServerId))
        .filter((entry) => entry.state === BlockState.SEALED && !isEmpty(entry))
        .map(({ block }) => block),
    );
    const lostAt = performance.now();
    await cluster.stopOne(`ds${LOST}`, 'SIGKILL');
    rmSync(cluster.mountPath(LOST), { recursive: true });

    const known = new Set<string>();
    const made = new Map<string, number>();
    let cpuUsed = 0;
    const etas: { atMs: number; etaMs: number | undefined }[] = [];
    const names = cluster.names.filter((name): name is ProcessName => name !== `ds${LOST}`);
    let [beganAt, cpu, endedAt, lastAt, askedAt, isShown] = [0, 0, 0, 0, 0, false];
    for (;;) {
      const now = performance.now();
      const { whole, unfinished } = blockFiles(cluster, SURVIVORS);
      for (const file of whole) {
        if (before.has(keyOf(file)) || known.has(keyOf(file)) || file.bytes <= SUPERBLOCK_BYTES) continue;
        known.add(keyOf(file));
        lastAt = now;
        if (!sealed.has(file.block)) continue;
        made.set(keyOf(file), file.bytes);
        endedAt = now;
        cpuUsed = cpuSeconds(cluster, names) - cpu;
      }
      if (beganAt === 0 && (unfinished > 0 || made.size > 0))
        [beganAt, cpu] = [now, cpuSeconds(cluster, names)];
      if (beganAt > 0 && now - askedAt > ETA_EVERY_MS) {
        askedAt = now;
        const { etaMs } = (await probe.leader())?.map.jobs ?? {};
        etas.push({ atMs: now, etaMs });
        if (unfinished === 0 && made.size > 0 && (await blocksShort(probe, SURVIVORS)).length === 0) break;
        if (!isShown && etaMs !== undefined && etaMs > 0) {
          isShown = true;
          await show(cluster);
        }
      }
      if (now - lostAt > REBUILT_MS_MAX) break;
      await sleep(LOOK_MS);
    }
    const short = await blocksShort(probe, SURVIVORS);
    return {
      wrong: [
        ...short.map((block) => `block ${block} has not got back to three copies`),
        ...(await untilAlike(probe, ALIKE_MS_MAX, SURVIVORS)),
      ],
      blocks: made.size,
      bytes: [...made.values()].reduce((sum, bytes) => sum + bytes, 0),
      tookMs: endedAt - beganAt,
      fromLossMs: endedAt - lostAt,
      cpuPercent: (100 * cpuUsed * 1000) / (endedAt - beganAt) / availableParallelism(),
      allMs: lastAt - lostAt,
      etas: etaText(etas, endedAt),
    };
  } finally {
    await probe.close();
  }
}

/** What an operator sees meanwhile. */
async function show(cluster: ProcessCluster): Promise<void> {
  const env = { TFS_HOME: cluster.home };
  const [status, jobs] = await Promise.all([runTfs(['status'], { env }), runTfs(['jobs'], { env })]);
  const work = status.stdout
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('Work'));
  console.log(`tfs status: ${work.join('')}\ntfs jobs: ${jobs.stdout.toString().split('\n')[0]}`);
}

function etaText(etas: readonly { atMs: number; etaMs: number | undefined }[], endedAt: number): string {
  const said = etas.filter(({ atMs, etaMs }) => atMs < endedAt && etaMs !== undefined && etaMs > 0);
  if (said.length === 0) return 'no ETA was given';
  const off = said.map(({ atMs, etaMs }) => atMs + etaMs! - endedAt);
  const samples = said
    .filter((_, i) => i % Math.ceil(said.length / 5) === 0)
    .map(({ atMs, etaMs }) => `${seconds(etaMs!)} when ${seconds(endedAt - atMs)} were left`);
  const median = percentile(off.map(Math.abs), 0.5);
  return `ETAs (${said.length}, off by ${seconds(median)} in the median): ${samples.join(', ')}`;
}
