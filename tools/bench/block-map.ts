import { type Bench, type BenchContext, scaled } from './bench.ts';
import type { BlockMapFigures } from './block-map-load.ts';
import { Child, nodeArgs, sibling } from './child.ts';
import { type Cell, ratio } from './table.ts';

/** 1 PB in 64 MiB blocks. */
const BLOCKS = 16_800_000;
/** An object for every block does not fit at that size: fewer, and figures for each one. */
const OBJECT_BLOCKS = 500_000;
/** The published 64 bytes of the Google file system's master, for a chunk of 64 MB with three replicas. */
const GFS_BYTES_PER_BLOCK = 64;

/** Memory and lookups of the NameServer's block map, beside a Map of objects. */
export const blockMapBench: Bench = {
  name: 'block-map',
  title: 'NameServer memory and lookups with 16.8 M blocks x 3 replicas, beside a Map of objects',
  async run(context) {
    const blocks = scaled(context, BLOCKS, 100_000);
    const objects = await measure(context, 'objects', Math.min(OBJECT_BLOCKS, blocks));
    const map = await measure(context, 'map', blocks);
    const row = (name: string, count: number, m: BlockMapFigures): Cell[] => [
      name,
      count,
      m.bytes / 2 ** 20,
      m.bytes / count,
      ratio(m.bytes / count, objects.bytes / Math.min(OBJECT_BLOCKS, blocks)),
      ratio(m.bytes / count, GFS_BYTES_PER_BLOCK),
      m.reports / m.reportSeconds,
      m.lookupsPerSecond,
      m.answersPerSecond,
    ];
    return [
      {
        title: 'Block map of a NameServer, 3 replicas a block',
        columns: [
          '',
          'blocks',
          'MiB',
          'B/block',
          'to objects',
          'to GFS 64 B',
          'reports/s',
          'lookups/s',
          'LOCATEs/s',
        ],
        rows: [
          row('objects in a Map', Math.min(OBJECT_BLOCKS, blocks), objects),
          row('block map', blocks, map),
        ],
        notes: [
          'Memory: heap and buffers after a collection. Lookups at random, in one thread, without the network;',
          'a LOCATE decodes the question for one block and encodes the answer. Reports: entries of whole reports.',
        ],
      },
    ];
  },
};

async function measure(
  context: BenchContext,
  kind: 'map' | 'objects',
  blocks: number,
): Promise<BlockMapFigures> {
  context.say(`${kind}: ${blocks} blocks`);
  const child = Child.spawn({
    name: `block-map-${kind}`,
    command: process.execPath,
    args: ['--expose-gc', ...nodeArgs(sibling(import.meta, 'block-map-load')), kind, String(blocks)],
    cwd: process.cwd(),
    directory: context.directory,
  });
  context.defer(() => child.stop());
  return child.message<BlockMapFigures>();
}
