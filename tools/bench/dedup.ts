import { type Bench, type BenchContext, scaled } from './bench.ts';
import { Cluster } from './cluster.ts';
import { cpuByProcess, LOAD_COLUMNS, loadCells, type Measured, measureLoad } from './measure.ts';
import { type Cell, ratio } from './table.ts';

const SIZE = 10_240;
const CLIENTS = [1, 16, 64];
/** Stored once before, then uploaded over and over: each time another name for the same bytes. */
const DIFFERENT = 512;

/** Uploads of bytes that are there already, beside uploads of new ones. */
export const dedupBench: Bench = {
  name: 'dedup',
  title: 'PUT 10 KB of content that is stored already, beside new content',
  async run(context) {
    const cluster = await Cluster.start(context, 'dedup');
    const rows: Cell[][] = [];
    const notes: string[] = [];
    let first = 1_000_000;
    // A young process runs code that is not optimized yet.
    first += 1_000_000 + (await post(context, cluster, CLIENTS.at(-1)!, first, undefined)).count;
    await cluster.sparesReady();
    for (const clients of CLIENTS) {
      const fresh = await post(context, cluster, clients, first, undefined);
      first += fresh.count + 1_000_000;
      const different = scaled(context, DIFFERENT, 16);
      await cluster.fill(first, different, SIZE);
      const hit = await post(context, cluster, clients, first, different);
      first += different;
      const name = `${clients} client${clients > 1 ? 's' : ''}`;
      rows.push([`new content, ${name}`, ...loadCells(fresh), undefined]);
      rows.push([`stored content, ${name}`, ...loadCells(hit), ratio(hit.perSecond, fresh.perSecond)]);
      notes.push(`stored content, ${name}: CPU us ${cpuByProcess(hit)}`);
    }
    await cluster.destroy();
    return [
      {
        title: 'PUT 10 KB: duplicates beside new content, 3 replicas, fdatasync before the answer',
        columns: ['', ...LOAD_COLUMNS, 'to new'],
        rows,
        notes,
      },
    ];
  },
};

function post(
  context: BenchContext,
  cluster: Cluster,
  clients: number,
  first: number,
  different: number | undefined,
): Promise<Measured> {
  const { directory, seconds } = context;
  const ask = {
    method: 'POST' as const,
    path: '/images',
    headers: cluster.postHeaders,
    size: SIZE,
    first,
    ...(different === undefined ? {} : { different }),
  };
  return measureLoad({ port: cluster.port, clients, seconds, directory, ask }, cluster.children);
}
