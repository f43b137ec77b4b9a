import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { BLOCK_BYTES_DEFAULT } from '../../common/limits.ts';
import { type Bench, scaled } from './bench.ts';
import { fillStore, loadObjects, loadStore } from './store.ts';
import type { FillOrder } from './store-fill.ts';
import type { StoreFigures } from './store-load.ts';
import { type Cell, ratio } from './table.ts';

const FILES = 10_000_000;
const ALIASED_FILES = 1_000_000;
const OBJECTS = 1_000_000;
/** Smaller than usual: many blocks, so that what one block keeps for its own operations does not matter. */
const ALIASED_BLOCK_BYTES = 4 << 20;
const ALIASES_PER_BLOCK = 40_000;
/** The published figure of Facebook's Haystack, for a photo. */
const HAYSTACK_BYTES = 10;

/** Memory of the block store's index with every block loaded. */
export const indexMemoryBench: Bench = {
  name: 'index',
  title: 'memory per stored picture with 10 M records loaded, beside a Map of objects',
  async run(context) {
    const order: FillOrder = {
      directory: join(context.directory, 'records'),
      clusterUuid: randomBytes(16).toString('hex'),
      members: [1],
      files: scaled(context, FILES, 100_000),
      // As small as one likes: only their number matters here.
      size: 8,
      aliasesPerBlock: 0,
      blockBytes: BLOCK_BYTES_DEFAULT,
    };
    await fillStore(context, order);
    const records = await loadStore(context, order);
    rmSync(order.directory, { recursive: true });
    const plain = {
      ...order,
      directory: join(context.directory, 'aliases'),
      files: scaled(context, ALIASED_FILES, 100_000),
      blockBytes: ALIASED_BLOCK_BYTES,
    };
    await fillStore(context, plain);
    const without = await loadStore(context, plain);
    rmSync(plain.directory, { recursive: true });
    const aliased = { ...plain, aliasesPerBlock: ALIASES_PER_BLOCK };
    await fillStore(context, aliased);
    const withAliases = await loadStore(context, aliased);
    const objects = await loadObjects(context, scaled(context, OBJECTS, 100_000));

    const each = objects.bytes / objects.files;
    const row = (name: string, count: number, bytes: number, m?: StoreFigures): Cell[] => [
      name,
      count,
      bytes / 2 ** 20,
      bytes / count,
      ratio(bytes / count, each),
      ratio(bytes / count, HAYSTACK_BYTES),
      m && m.openSeconds * 1000,
      m && m.files / m.loadSeconds,
    ];
    return [
      {
        title: 'Memory of the index, every block loaded',
        columns: ['', 'count', 'MiB', 'B each', 'to objects', 'to 10 B', 'open ms', 'loaded/s'],
        rows: [
          row('objects in a Map', objects.files, objects.bytes),
          row('records', records.files, records.bytes, records),
          row('aliases', withAliases.aliases, withAliases.bytes - without.bytes),
        ],
        notes: ['Heap and buffers after a collection, with all that a block store keeps beside its index.'],
      },
    ];
  },
};
