import type { BenchContext } from '../bench.ts';
import { LOAD_COLUMNS, loadCells, type Measured, measureLoad } from '../measure.ts';
import type { Cell, Table } from '../table.ts';
import type { RenditionGateway } from './gateway.ts';
import type { Numbers } from './numbers.ts';
import { Rounds } from './rounds.ts';

const ROUNDS = 5;
const CLIENTS = 16;
const ORIGINALS = 64;
const SIZE = 10 * 1024;
/** More than decoders make in a second. */
const NUMBERS_A_SECOND = 400;

/** Originals while nothing is decoded, and while every decoder is busy and has others waiting. */
export async function saturated(
  context: BenchContext,
  gateway: RenditionGateway,
  numbers: Numbers,
): Promise<Table> {
  const { cluster } = gateway;
  const paths = await cluster.fill(1, ORIGINALS, SIZE);
  const { directory, seconds } = context;
  const ask = { method: 'GET' as const, paths };
  const originals = () =>
    measureLoad({ port: cluster.port, clients: CLIENTS, seconds, directory, ask }, cluster.children);
  const rounds = new Rounds();
  const last = new Map<string, Measured>();
  const note = (name: string, measured: Measured) => {
    rounds.add(name, measured.perSecond);
    last.set(name, measured);
  };
  await originals();
  for (let round = 0; round < ROUNDS; round++) {
    await gateway.idle();
    note('idle', await originals());
    const stop = gateway.keepBusy(numbers.take(NUMBERS_A_SECOND * seconds));
    note('saturated', await originals());
    rounds.add('renditions', await stop());
  }
  const alone = await aloneFor(gateway, numbers, seconds);
  const overdue = (await gateway.metric('tfs_gateway_decoders_overdue_total')).sum;
  const row = (title: string, name: string): Cell[] => [
    title,
    ...loadCells(last.get(name)!),
    rounds.ratio(name, 'idle'),
  ];
  return {
    title: `Originals of ${SIZE / 1024} KB while renditions are made, ${CLIENTS} connections, two workers`,
    columns: ['', ...LOAD_COLUMNS, 'ops/s to idle'],
    rows: [row('no rendition is made', 'idle'), row('all decoders busy', 'saturated')],
    notes: [
      `Ratios are medians of ${ROUNDS} alternating rounds; the other figures are of the last one.`,
      `Renditions a second meanwhile ${rounds.median('renditions').toFixed(1)}, alone ${alone.toFixed(1)}; ` +
        `decoders ended because a picture took too long: ${overdue}`,
    ],
  };
}

async function aloneFor(gateway: RenditionGateway, numbers: Numbers, seconds: number): Promise<number> {
  await gateway.idle();
  const stop = gateway.keepBusy(numbers.take(NUMBERS_A_SECOND * seconds));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return stop();
}
