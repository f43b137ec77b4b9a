import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { type Bench, type BenchContext, scaled } from './bench.ts';
import type { Child } from './child.ts';
import { Cluster } from './cluster.ts';
import { dropCached } from './page-cache.ts';
import { startNginx } from './peers.ts';
import { pictureOf } from './picture.ts';
import { processIo } from './proc.ts';
import type { Cell } from './table.ts';

const SIZE = 10 * 1024;
const PICTURES = 2_000;
/** System calls by which a process reads files by position, and finds them. */
const CALLS = ['pread64', 'preadv', 'preadv2', 'sendfile', 'openat', 'fstat', 'statx', 'newfstatat'] as const;

/** System calls and disk reads for GETs of pictures whose bytes are not cached, with the index loaded. */
export const coldBench: Bench = {
  name: 'cold',
  title: 'disk reads per cold GET, counted, beside nginx serving files',
  async run(context) {
    const count = scaled(context, PICTURES, 200);
    const files = new Map(Array.from({ length: count }, (_, i) => [`${i}.jpg`, pictureOf(i, SIZE)] as const));
    const nginx = await startNginx(context, files);
    let ofNginx: Counted | undefined;
    if (nginx) {
      const isCold = dropCached(join(context.directory, 'nginx', 'root'));
      const paths = [...files.keys()].map((name) => `/${name}`);
      ofNginx = await counted(context, nginx.port, paths, nginx.processes, isCold);
      await nginx.stop();
    }
    const cluster = await Cluster.start(context, 'cold', { gateway: { hotBytes: 0 } });
    const paths = await cluster.fill(1, count, SIZE);
    // Once, so that every index is loaded and every file open.
    for (const path of paths.slice(0, 100)) await get(cluster.port, path);
    const isCold = cluster.config.mounts.every((mount) => dropCached(join(mount.path, 'blocks')));
    const stores = cluster.children.filter((child) => child.name.startsWith('ds'));
    const own = await counted(context, cluster.port, paths, stores, isCold);
    await cluster.destroy();

    const row = (name: string, c: Counted | undefined): Cell[] => [
      name,
      ...(c === undefined
        ? [undefined, undefined, undefined, undefined]
        : [
            c.calls?.get('pread'),
            c.calls?.get('open'),
            c.calls?.get('stat'),
            c.diskBytes && c.diskBytes / 1024,
          ]),
    ];
    return [
      {
        title: `One GET of a ${SIZE / 1024} KB picture that is not in the page cache`,
        columns: ['', 'reads', 'opens', 'stats', 'KB from the disk'],
        rows: [row('nginx static, a file for each', ofNginx), row('DataServers', own)],
        notes: [
          `Means over ${count} GETs, one after the other. Calls (pread and sendfile, open, stat) are counted by strace; bytes by the kernel, with its read-ahead.`,
        ],
      },
    ];
  },
};

interface Counted {
  /** A GET; absent where strace is missing or not allowed. */
  readonly calls: ReadonlyMap<'pread' | 'open' | 'stat', number> | undefined;
  /** A GET; absent where the page cache could not be emptied. */
  readonly diskBytes: number | undefined;
}

async function counted(
  context: BenchContext,
  port: number,
  paths: readonly string[],
  processes: readonly Child[],
  isCold: boolean,
): Promise<Counted> {
  const tracers: ChildProcess[] = [];
  if (spawnSync('strace', ['-V']).error === undefined)
    for (const process of processes) tracers.push(await trace(context, process));
  const before = processes.map((process) => processIo(process.pid).diskReadBytes);
  for (const path of paths) await get(port, path);
  const diskBytes = processes.reduce((sum, p, i) => sum + processIo(p.pid).diskReadBytes - before[i]!, 0);
  const totals = new Map<string, number>();
  for (const [i, tracer] of tracers.entries()) {
    tracer.kill('SIGINT');
    if (tracer.exitCode === null) await once(tracer, 'exit');
    for (const [call, n] of readSummary(summaryOf(context, processes[i]!)))
      totals.set(call, (totals.get(call) ?? 0) + n);
  }
  const each = (...calls: (typeof CALLS)[number][]) =>
    calls.reduce((sum, call) => sum + (totals.get(call) ?? 0), 0) / paths.length;
  const calls = new Map([
    ['pread', each('pread64', 'preadv', 'preadv2', 'sendfile')],
    ['open', each('openat')],
    ['stat', each('fstat', 'statx', 'newfstatat')],
  ] as const);
  return {
    calls: totals.size > 0 ? calls : undefined,
    diskBytes: isCold ? diskBytes / paths.length : undefined,
  };
}

const summaryOf = (context: BenchContext, process: Child): string =>
  join(context.directory, `strace-${process.name}.txt`);

async function trace(context: BenchContext, process: Child): Promise<ChildProcess> {
  const summary = summaryOf(context, process);
  const args = ['-f', '-c', '-o', summary, '-e', `trace=${CALLS.join(',')}`, '-p', String(process.pid)];
  const tracer = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  context.defer(() => tracer.kill('SIGKILL'));
  // It says "attached" for every thread.
  await Promise.race([once(tracer.stderr!, 'data'), once(tracer, 'exit')]);
  await sleep(300);
  return tracer;
}

/** @returns how often each system call was made, from the table of `strace -c` */
function readSummary(path: string): Map<string, number> {
  const calls = new Map<string, number>();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const fields = line.trim().split(/\s+/);
    const name = fields.at(-1) ?? '';
    if ((CALLS as readonly string[]).includes(name)) calls.set(name, Number(fields[3]));
  }
  return calls;
}

async function get(port: number, path: string): Promise<void> {
  const reply = await request(`http://127.0.0.1:${port}${path}`);
  const body = await reply.body.arrayBuffer();
  if (reply.statusCode !== 200 || body.byteLength !== SIZE)
    throw new Error(`GET ${path}: ${reply.statusCode}`);
}
