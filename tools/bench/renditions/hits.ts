import type { BenchContext } from '../bench.ts';
import { cpuByProcess, LOAD_COLUMNS, loadCells, type Measured, measureLoad } from '../measure.ts';
import type { Cell, Table } from '../table.ts';
import type { RenditionGateway } from './gateway.ts';
import { Rounds } from './rounds.ts';

const ROUNDS = 5;
const CLIENTS = 32;
const WIDTHS = [300, 310, 320, 330];
const ACCEPT = 'image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8';

/** Renditions in the gateway's memory, beside originals of the same bytes, by the ways to ask. */
export async function hits(context: BenchContext, gateway: RenditionGateway): Promise<Table> {
  const picture = gateway.paths[0]!;
  const bySuffix = WIDTHS.map((width) => `${picture}.jpg_${width}x${width}.jpg`);
  // The bytes of the same renditions, stored as pictures of their own.
  const renditions: Buffer[] = [];
  for (const path of bySuffix) renditions.push(await gateway.get(path));
  const originals: string[] = [];
  for (const bytes of renditions) originals.push(await gateway.store(bytes));
  const asks: Readonly<Record<string, readonly string[]>> = {
    original: originals,
    suffix: bySuffix,
    query: WIDTHS.map((width) => `${picture}?w=${width}&h=${width}&fm=jpg`),
    auto: WIDTHS.map((width) => `${picture}?w=${width}&h=${width}&fm=auto`),
  };
  const rounds = new Rounds();
  const cpu = new Rounds();
  const last = new Map<string, Measured>();
  for (let round = -1; round < ROUNDS; round++) {
    const names = Object.keys(asks);
    for (const name of round % 2 === 0 ? names : names.reverse()) {
      const measured = await load(context, gateway, asks[name]!, name === 'auto');
      // The first is for code that is not optimized yet.
      if (round < 0) continue;
      rounds.add(name, measured.perSecond);
      cpu.add(name, measured.cpu.get('gw0') ?? Number.NaN);
      last.set(name, measured);
    }
  }
  const row = (title: string, name: string): Cell[] => [
    title,
    ...loadCells(last.get(name)!),
    rounds.ratio(name, 'original'),
    cpu.ratio(name, 'original'),
  ];
  const sizes = renditions.map((bytes) => bytes.length);
  return {
    title: `Renditions on hit: ${Math.min(...sizes)}-${Math.max(...sizes)} bytes, ${CLIENTS} connections, two workers`,
    columns: ['', ...LOAD_COLUMNS, 'ops/s to original', 'gateway CPU to original'],
    rows: [
      row('original', 'original'),
      row('rendition by suffix', 'suffix'),
      row('rendition by query', 'query'),
      row('rendition by query, fm=auto (AVIF is smaller)', 'auto'),
    ],
    notes: [
      `Ratios are medians of ${ROUNDS} alternating rounds; the other figures are of the last one.`,
      `CPU us of an original: ${cpuByProcess(last.get('original')!)}; of a rendition: ${cpuByProcess(last.get('query')!)}`,
    ],
  };
}

function load(
  { directory, seconds }: BenchContext,
  { cluster }: RenditionGateway,
  paths: readonly string[],
  isBrowser: boolean,
): Promise<Measured> {
  const ask = { method: 'GET' as const, paths, ...(isBrowser ? { headers: { accept: ACCEPT } } : {}) };
  return measureLoad({ port: cluster.port, clients: CLIENTS, seconds, directory, ask }, cluster.children);
}
