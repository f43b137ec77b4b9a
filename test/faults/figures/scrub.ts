import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { type Flip, type FlipKind, flip, isFlipped, type Layout, layoutOf } from '../../kit/block-flips.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { SteadyClients } from '../../kit/steady-clients.ts';
import { type Acked, verifyAcked } from '../../kit/upload-load.ts';
import { type Figure, percentile } from './report.ts';
import { fill, forget, MB, metricOfAll, sealAll, tfs, withCluster } from './stored.ts';

const FLIPS = 1_000;
const STORED_MB = 384;
const BLOCK_BYTES = 8 << 20;
const SERVERS = [1, 2, 3];
const READERS = 6;
/** Quiet and beside a scrub by turns: a machine is not the same for a minute. */
const ROUNDS = 4;
const READ_MS = 6_000;
/** So short that a pass at the usual pace has to read a lot a second. */
const PASS_MS = 30_000;
const KINDS: readonly FlipKind[] = [
  'header',
  'header',
  'payload',
  'payload',
  'payload',
  'padding',
  'superblock',
];

/** Bits turned over in sealed blocks: all found and repaired by one scrub; and what reads notice of a scrub. */
export const scrub: Figure = async ({ times = FLIPS, megabytes = STORED_MB, keep }) => {
  const config = { dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: PASS_MS } };
  return withCluster({ config, keep }, async (cluster) => {
    const acked = await fill(cluster, megabytes * MB);
    await sealAll(cluster);
    const random = new SeededRandom(times);
    const quietMs: number[] = [];
    const besideMs: number[] = [];
    let scrubbed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      forget(cluster);
      quietMs.push(...(await readFor(cluster, acked, round)));
      await tfs(cluster, 'scrub');
      forget(cluster);
      const before = await scrubbedBytes(cluster);
      besideMs.push(...(await readFor(cluster, acked, round)));
      scrubbed += (await scrubbedBytes(cluster)) - before;
      // To have it over.
      await tfs(cluster, 'scrub', '--full-speed', '--wait');
    }
    const flips = await damage(cluster, { count: times, random });
    forget(cluster);
    const totals = await tfs(cluster, 'scrub', '--full-speed', '--wait');
    const left = flips.filter(isFlipped);
    const wrong = await verifyAcked(cluster, acked);
    const [quiet, beside] = [percentile(quietMs, 0.99), percentile(besideMs, 0.99)];
    const rate = scrubbed / MB / ((ROUNDS * READ_MS) / 1000);
    const { replicas, bytes, seconds, mbPerSecond, damaged, problems } = totals;
    return {
      line:
        `${flips.length} flips in sealed blocks; one scrub at full speed read ${replicas} replicas, ` +
        `${(Number(bytes) / MB).toFixed(0)} MB in ${seconds} s (${mbPerSecond} MB/s on three servers of one machine), found ` +
        `${damaged} replicas damaged in ${problems} places; ${left.length} flips left, ${acked.length} pictures read back, ` +
        `${wrong.length} wrong; GET p99 quiet ${quiet.toFixed(1)} ms (${quietMs.length} reads), beside a scrub ` +
        `at its usual pace (${rate.toFixed(1)} MB/s) ${beside.toFixed(1)} ms (${besideMs.length}): ` +
        `${(beside / quiet).toFixed(2)} x`,
      wrong: [
        ...wrong,
        ...left.map((one) => `still damaged: ${JSON.stringify(one)}`),
        ...(totals.ok === true ? [] : [JSON.stringify(totals)]),
      ],
    };
  });
};

/** @returns how long each took */
async function readFor(cluster: ProcessCluster, acked: readonly Acked[], seed: number): Promise<number[]> {
  const clients = new SteadyClients(cluster, acked, { readers: READERS, seed });
  await sleep(READ_MS);
  await clients.stop();
  if (clients.failedReads > 0) throw new Error(clients.failures.join('\n'));
  return clients.take().readMs;
}

const scrubbedBytes = (cluster: ProcessCluster): Promise<number> =>
  metricOfAll(cluster, 'tfs_dataserver_scrub_bytes_total');

/** Of each block on one server alone, so that there is a good copy of everything. */
async function damage(
  cluster: ProcessCluster,
  { count, random }: { readonly count: number; readonly random: SeededRandom },
): Promise<Flip[]> {
  const layouts: Layout[] = [];
  for (const server of SERVERS) {
    const directory = join(cluster.mountPath(server), 'blocks');
    for (const name of readdirSync(directory)) {
      const file = parseBlockFileName(name);
      if (file?.kind !== 'blk' || file.block % SERVERS.length !== server - 1) continue;
      const path = join(directory, name);
      const layout = await layoutOf(path, readFileSync(path));
      // The files of OPEN blocks are longer than what is in them, or empty.
      if (layout !== undefined && layout.records.length > 8) layouts.push(layout);
    }
  }
  const flips: Flip[] = [];
  const taken = new Set<string>();
  while (flips.length < count) {
    const one = flip(random.pick(layouts), random.pick(KINDS), { random, taken });
    if (one !== undefined) flips.push(one);
  }
  return flips;
}
