import { type BenchContext, scaled } from '../bench.ts';
import type { Cell, Table } from '../table.ts';
import { Crowd } from './crowd-clients.ts';
import type { RenditionGateway } from './gateway.ts';
import { largeOriginal } from './originals.ts';
import { medianOf } from './rounds.ts';

const CLIENTS = 5_000;
const ROUNDS = 5;
const SINGLES = 5;
const MADE = 'tfs_gateway_renditions_made_total';
const ANSWERED = 'tfs_gateway_picture_requests_total';

/** Everybody wants the same rendition of a large picture, which nobody has made yet. */
export async function crowd(context: BenchContext, gateway: RenditionGateway): Promise<Table> {
  const count = scaled(context, CLIENTS, 50);
  const picture = await gateway.store(await largeOriginal());
  let width = 310;
  const next = () => `${picture}?w=${width++}&fm=jpg`;
  await gateway.get(next());
  const rows: Cell[][] = [];
  for (let round = 1; round <= ROUNDS; round++)
    rows.push([String(round), ...(await oneRound(gateway, count, next))]);
  return {
    title: `${count.toLocaleString('en-US')} clients at once, one rendition of a picture of 20 megapixels that nobody has made`,
    columns: [
      ...['round', 'decodes', 'one decode ms', 'p50 ms', 'p99 ms', 'p50 to one decode', 'p99 to one decode'],
      ...['CPU us of a worker each', 'errors', 'answered by each worker'],
    ],
    rows,
    notes: [
      `"One decode" is the median of ${SINGLES} GETs of other renditions of the same picture, one after the other, made in the same round.`,
      'Times are those of clients that share the cores with the gateway, from the moment of the first request to the last byte of each answer.',
    ],
  };
}

async function oneRound(gateway: RenditionGateway, count: number, next: () => string): Promise<Cell[]> {
  const singles: number[] = [];
  for (let i = 0; i < SINGLES; i++) {
    const startedAt = performance.now();
    await gateway.get(next());
    singles.push(performance.now() - startedAt);
  }
  const one = medianOf(singles);
  const clients = await Crowd.gather(gateway.cluster.port, count);
  try {
    const [made, answered] = [await gateway.metric(MADE), await gateway.metric(ANSWERED)];
    const before = gateway.cpuMicros().workers;
    const { ms, errors, lost } = await clients.get(next());
    const cpu = (gateway.cpuMicros().workers - before) / count;
    const decodes = (await gateway.metric(MADE)).sum - made.sum;
    const each = (await gateway.metric(ANSWERED)).each.map((n, i) => n - answered.each[i]!);
    const at = (p: number) => ms[Math.min(ms.length - 1, Math.floor(ms.length * p))] ?? Number.NaN;
    const to = (value: number) => `${(value / one).toFixed(2)} x`;
    return [
      ...[decodes, one, at(0.5), at(0.99), to(at(0.5)), to(at(0.99))],
      ...[cpu, String(errors + lost), each.join(' + ')],
    ];
  } finally {
    clients.leave();
  }
}
