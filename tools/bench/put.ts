import { type Bench, type BenchContext, scaled } from './bench.ts';
import { Cluster } from './cluster.ts';
import { cpuByProcess, LOAD_COLUMNS, loadCells, type Measured, measureLoad } from './measure.ts';
import { type Peer, startYardstick } from './peers.ts';
import { type Cell, ratio, type Table } from './table.ts';

const SIZES = [1024, 10_240, 102_400];
const CLIENTS = [1, 16, 64];
/** Of 64 MiB each, on every mount: what is written in place before the files have to grow. */
const SPARES = 24;

/** PUT, every picture on three replicas with an fdatasync each before its answer. */
export const putBench: Bench = {
  name: 'put',
  title: 'PUT 1, 10 and 100 KB x 3 durable replicas at 1, 16 and 64 clients, beside the yardstick',
  async run(context) {
    const tables: Table[] = [];
    for (const size of SIZES) tables.push(await inPlace(context, size));
    tables.push(await growing(context, 10_240));
    return tables;
  },
};

let bodies = 1;

function put(
  context: BenchContext,
  target: Peer | Cluster,
  size: number,
  clients: number,
): Promise<Measured> {
  const { directory, seconds } = context;
  const isCluster = target instanceof Cluster;
  const first = bodies;
  // More than any server here can store in that time.
  bodies += Math.ceil(seconds) * 1_000_000;
  const headers = isCluster ? target.postHeaders : {};
  const ask = { method: 'POST' as const, path: '/images', headers, size, first };
  const processes = isCluster ? target.children : target.processes;
  return measureLoad({ port: target.port, clients, seconds, directory, ask }, processes);
}

/** A young process runs code that is not optimized yet: ten times the CPU an upload. */
async function warmUp(context: BenchContext, target: Peer | Cluster, size: number): Promise<void> {
  await put(context, target, size, CLIENTS.at(-1)!);
}

async function inPlace(context: BenchContext, size: number): Promise<Table> {
  const wanted = scaled(context, SPARES, 4);
  const rows: Cell[][] = [];
  const notes: string[] = [];
  const yardstick = await startYardstick(context, false);
  const beside = new Map<number, Measured>();
  if (yardstick) await warmUp(context, yardstick, size);
  for (const clients of CLIENTS)
    if (yardstick) beside.set(clients, await put(context, yardstick, size, clients));
  await yardstick?.stop();
  const cluster = await Cluster.start(context, `put-${size}`, { spareBlocks: wanted });
  await warmUp(context, cluster, size);
  for (const clients of CLIENTS) {
    await cluster.sparesReady();
    const own = await put(context, cluster, size, clients);
    const other = beside.get(clients);
    const name = `${clients} client${clients > 1 ? 's' : ''}`;
    if (other) rows.push([`yardstick, ${name}`, ...loadCells(other), undefined]);
    rows.push([name, ...loadCells(own), ratio(own.perSecond, other?.perSecond)]);
    notes.push(`${name}: ${cluster.spares} of ${wanted} spares left · CPU us ${cpuByProcess(own)}`);
  }
  await cluster.destroy();
  return {
    title: `PUT ${size / 1024} KB x 3 replicas, each with fdatasync before the answer, into zero-filled files`,
    columns: ['', ...LOAD_COLUMNS, 'to yardstick'],
    rows,
    notes,
  };
}

async function growing(context: BenchContext, size: number): Promise<Table> {
  const clients = CLIENTS.at(-1)!;
  const yardstick = await startYardstick(context, true);
  if (yardstick) await warmUp(context, yardstick, size);
  const beside = yardstick && (await put(context, yardstick, size, clients));
  await yardstick?.stop();
  const cluster = await Cluster.start(context, 'put-growing', { spareBlocks: 0 });
  await warmUp(context, cluster, size);
  const own = await put(context, cluster, size, clients);
  await cluster.destroy();
  return {
    title: `PUT ${size / 1024} KB x 3 replicas, no spares left: files grow, ${clients} clients`,
    columns: ['', ...LOAD_COLUMNS, 'to yardstick'],
    rows: [
      ...(beside ? [['yardstick, growing files', ...loadCells(beside), undefined]] : []),
      ['growing blocks', ...loadCells(own), ratio(own.perSecond, beside?.perSecond)],
    ],
    notes: [`CPU us ${cpuByProcess(own)}`],
  };
}
