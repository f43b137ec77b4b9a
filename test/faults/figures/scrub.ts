import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import type { ConfigInput } from '../../../common/config.ts';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { dropCached } from '../../../tools/bench/page-cache.ts';
import { type Flip, type FlipKind, flip, isFlipped, type Layout, layoutOf } from '../../kit/block-flips.ts';
import { ProcessCluster } from '../../kit/process-cluster.ts';
import { ensureBuilt, runTfs } from '../../kit/run-tfs.ts';
import { SeededRandom } from '../../kit/seeded-random.ts';
import { type Acked, UploadLoad, verifyAcked } from '../../kit/upload-load.ts';
import type { Figure } from './report.ts';

const FLIPS = 1_000;
const STORED_BYTES = 384e6;
const PICTURE_BYTES_MAX = 256 << 10;
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
const MB = 1e6;

/** Bits turned over in sealed blocks: all found and repaired by one scrub; and what reads notice of a scrub. */
export const scrub: Figure = async ({ times = FLIPS, keep }) => {
  await ensureBuilt();
  const cluster = await ProcessCluster.start({
    config: {
      dataserver: { blockBytes: BLOCK_BYTES, spareBlocks: 0, scrubPassMs: PASS_MS },
      gateway: { maxPictureBytes: PICTURE_BYTES_MAX, hotBytes: 0 } as ConfigInput['gateway'],
    },
  });
  try {
    const acked = await fill(cluster);
    // Whoever stops has everything sealed.
    await cluster.stopAll();
    await cluster.startAll();
    await cluster.writable();
    const random = new SeededRandom(times);
    const quietMs: number[] = [];
    const besideMs: number[] = [];
    let scrubbed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      forget(cluster);
      quietMs.push(...(await readFor(cluster, acked, random)));
      await tfs(cluster, 'scrub');
      forget(cluster);
      const before = await scrubbedBytes(cluster);
      besideMs.push(...(await readFor(cluster, acked, random)));
      scrubbed += (await scrubbedBytes(cluster)) - before;
      // To have it over.
      await tfs(cluster, 'scrub', '--full-speed', '--wait');
    }
    const flips = await damage(cluster, { count: times, random });
    forget(cluster);
    const totals = await tfs(cluster, 'scrub', '--full-speed', '--wait');
    const left = flips.filter(isFlipped);
    const wrong = await verifyAcked(cluster, acked);
    const [quiet, beside] = [p99(quietMs), p99(besideMs)];
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
  } finally {
    if (keep) await cluster.stopAll();
    else await cluster.destroy();
  }
};

async function fill(cluster: ProcessCluster): Promise<Acked[]> {
  const load = new UploadLoad(cluster, 8, PICTURE_BYTES_MAX - 1024);
  load.deleting = false;
  while (load.acked.length * (PICTURE_BYTES_MAX / 2) < STORED_BYTES) await sleep(100);
  await load.stop();
  return load.acked;
}

function forget(cluster: ProcessCluster): void {
  for (const server of SERVERS) dropCached(cluster.mountPath(server));
}

async function tfs(cluster: ProcessCluster, ...args: string[]): Promise<Record<string, unknown>> {
  const end = await runTfs([...args, '--json'], { env: { TFS_HOME: cluster.home } });
  const last = end.json.at(-1);
  if (last === undefined) throw new Error(`tfs ${args.join(' ')}: ${end.stderr}\n${cluster.logs()}`);
  return last;
}

/** @returns how long each took */
async function readFor(cluster: ProcessCluster, acked: readonly Acked[], random: SeededRandom) {
  const tookMs: number[] = [];
  const untilMs = performance.now() + READ_MS;
  const client = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const startedAt = performance.now();
      const { status } = await cluster.get(random.pick(acked).name);
      if (status === 200) tookMs.push(performance.now() - startedAt);
      await sleep(5);
    }
  };
  await Promise.all(Array.from({ length: READERS }, client));
  return tookMs;
}

function p99(tookMs: readonly number[]): number {
  const sorted = [...tookMs].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.99) - 1] ?? Number.NaN;
}

async function scrubbedBytes(cluster: ProcessCluster): Promise<number> {
  let bytes = 0;
  for (const mount of cluster.config.mounts) {
    const text = await metricsOf(mount);
    bytes += Number(/^tfs_dataserver_scrub_bytes_total\{[^}]*\} (\S+)/m.exec(text)?.[1] ?? 0);
  }
  return bytes;
}

async function metricsOf({ host, adminPort }: { readonly host: string; readonly adminPort: number }) {
  // A connection of its own: the server closes one that was not used for a while.
  const reply = await request(`http://${host}:${adminPort}/metrics`, { reset: true });
  return reply.body.text();
}

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
