import type { BenchContext } from '../bench.ts';
import type { Table } from '../table.ts';
import type { How } from './bare-maker.ts';
import { BareMakers } from './bare-makers.ts';
import type { RenditionGateway } from './gateway.ts';
import type { Numbers } from './numbers.ts';
import { Rounds } from './rounds.ts';

const ROUNDS = 5;
const FIRST_ROUND = 24;
const WARM_ROUNDS = 2;
const KINDS = ['decoders', 'workers', 'others'] as const;

/** Renditions that nobody has, made through the gateway and beside it. */
export async function misses(
  context: BenchContext,
  gateway: RenditionGateway,
  originals: readonly Buffer[],
  { decoders, numbers }: { decoders: number; numbers: Numbers },
): Promise<Table> {
  const makers = await BareMakers.start(context, originals, decoders);
  // A first, short round tells how many are made in the time there is.
  const pace = await makers.make('sharp', numbers.take(FIRST_ROUND), FIRST_ROUND);
  const count = Math.max(FIRST_ROUND, Math.round(pace * context.seconds));
  const rounds = new Rounds();
  const cpu = new Rounds();
  const bare = async (how: How, first: number) => {
    const before = makers.cpuMicros();
    rounds.add(how, await makers.make(how, first, count));
    cpu.add(how, (makers.cpuMicros() - before) / 1000 / count);
  };
  const through = async (first: number) => {
    const before = gateway.cpuMicros();
    rounds.add('gateway', await gateway.make(first, count));
    const after = gateway.cpuMicros();
    const parts = KINDS.map((kind) => [kind, (after[kind] - before[kind]) / 1000 / count] as const);
    for (const [kind, ms] of parts) cpu.add(kind, ms);
    cpu.add(
      'gateway',
      parts.reduce((sum, [, ms]) => sum + ms, 0),
    );
  };
  // Young processes run code that is not optimized yet.
  await makers.make('make', numbers.take(count), count);
  await gateway.make(numbers.take(WARM_ROUNDS * count), WARM_ROUNDS * count);
  for (let round = 0; round < ROUNDS; round++) {
    const first = numbers.take(count);
    // Who comes first changes.
    if (round % 2 === 1) await through(first);
    await bare('sharp', first);
    await bare('make', first);
    if (round % 2 === 0) await through(first);
  }
  const row = (title: string, name: string) => [
    ...[title, rounds.median(name), rounds.ratio(name, 'sharp')],
    ...[cpu.median(name), cpu.ratio(name, 'sharp')],
  ];
  const parts = KINDS.map((kind) => `${kind} ${cpu.median(kind).toFixed(1)}`).join(' · ');
  return {
    title: `Renditions on miss: JPEGs of 1-6 megapixels to 561-720 pixels, ${decoders} decoders`,
    columns: ['', 'renditions/s', 'to bare sharp', 'CPU ms each', 'CPU to bare sharp'],
    rows: [
      row('bare sharp', 'sharp'),
      row('make() of the gateway, no gateway', 'make'),
      row('gateway, stored and cached on disk', 'gateway'),
    ],
    notes: [
      `Medians of ${ROUNDS} alternating rounds of ${count} renditions, all different; in brackets the least and the most.`,
      `Bare: ${decoders} processes, originals in their memory, one at a time each. All on the same cores as the rest.`,
      `CPU ms of the gateway's: ${parts} (DataServers and the NameServer).`,
    ],
  };
}
