import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_BYTES_DEFAULT } from '../../common/limits.ts';
import { type Bench, type BenchContext, scaled } from './bench.ts';
import { Cluster } from './cluster.ts';
import { dropCached } from './page-cache.ts';
import { fillStore, loadStore } from './store.ts';
import type { FillOrder } from './store-fill.ts';
import { type Cell, ratio, type Table } from './table.ts';

const FILES = 1_000_000;
const SIZE = 1024;

/** How long a cluster whose processes were all killed needs until it stores again, and how fast indexes are rebuilt. */
export const restartBench: Bench = {
  name: 'restart',
  title: 'restart after kill -9 with 1 M pictures a mount, and rebuilding the index from the blocks',
  async run(context) {
    const empty = await Cluster.start(context, 'empty');
    const ofEmpty = await restart(empty);
    await empty.destroy();

    const cluster = await Cluster.create(context, 'full');
    const [first, ...others] = cluster.config.mounts;
    const order: FillOrder = {
      directory: first!.path,
      clusterUuid: cluster.config.cluster.uuid,
      members: cluster.config.mounts.map((mount) => mount.id),
      files: scaled(context, FILES, 20_000),
      size: SIZE,
      aliasesPerBlock: 0,
      blockBytes: BLOCK_BYTES_DEFAULT,
    };
    const filled = await fillStore(context, order);
    const rebuild = await rebuildRate(context, order, filled.bytes);
    // Replicas are the same files.
    for (const mount of others)
      cpSync(join(first!.path, 'blocks'), join(mount.path, 'blocks'), { recursive: true });
    const ofNew = await restart(cluster, false);
    await sleep(context.seconds * 1000);
    const ofFull = await restart(cluster);
    await cluster.stop('SIGKILL');
    for (const mount of cluster.config.mounts) removeDerived(mount.path);
    rmSync(cluster.config.nameservers[0]!.dir, { recursive: true, force: true });
    const ofBare = await restart(cluster, false);
    await cluster.destroy();

    const row = (name: string, files: number, r: Restarted): Cell[] => [
      name,
      files,
      r.readyMs / 1000,
      r.writableMs / 1000,
      ratio(r.writableMs, ofEmpty.writableMs),
    ];
    return [
      {
        title: 'All processes of a cluster killed, then started at once',
        columns: ['', 'pictures', 'processes ready s', 'stored again s', 'to empty'],
        rows: [
          row('empty cluster', 0, ofEmpty),
          row('first start on these disks', order.files, ofNew),
          row('after kill -9', order.files, ofFull),
          row('and without index files, LevelDB and NameServer state', order.files, ofBare),
        ],
        notes: [
          'Stored again: from the start of the processes to the first upload acknowledged by all three replicas.',
          `${filled.blocks} blocks a mount, ${SIZE} B a picture.`,
        ],
      },
      rebuild,
    ];
  },
};

interface Restarted {
  readonly readyMs: number;
  readonly writableMs: number;
}

async function restart(cluster: Cluster, kill = true): Promise<Restarted> {
  if (kill) await cluster.stop('SIGKILL');
  const startedAt = performance.now();
  await cluster.startAll();
  const readyMs = performance.now() - startedAt;
  await cluster.writable();
  return { readyMs, writableMs: performance.now() - startedAt };
}

/** What can be derived from blocks and their operations. */
function removeDerived(mount: string): void {
  rmSync(join(mount, 'kv'), { recursive: true, force: true });
  for (const name of readdirSync(join(mount, 'blocks')))
    if (name.endsWith('.idx')) rmSync(join(mount, 'blocks', name));
}

async function rebuildRate(context: BenchContext, order: FillOrder, bytes: number): Promise<Table> {
  const blocks = join(order.directory, 'blocks');
  const coldLoad = dropCached(blocks);
  const loaded = await loadStore(context, order);
  removeDerived(order.directory);
  dropCached(blocks);
  const rawFrom = performance.now();
  // What the disk gives to somebody who only reads the files from end to end.
  for (const name of readdirSync(blocks).filter((file) => file.endsWith('.blk')))
    spawnSync('dd', [`if=${join(blocks, name)}`, 'of=/dev/null', 'bs=1M', 'status=none']);
  const rawSeconds = (performance.now() - rawFrom) / 1000;
  dropCached(blocks);
  const rebuilt = await loadStore(context, order);
  const row = (name: string, seconds: number, read: number | undefined): Cell[] => [
    name,
    seconds,
    read === undefined ? undefined : read / seconds / 1e6,
    order.files / seconds,
    ratio(rawSeconds, seconds),
  ];
  return {
    title: `Loading the indexes of ${order.files} pictures of ${order.size} B, ${coldLoad ? 'nothing cached' : 'cached'}`,
    columns: ['', 'seconds', 'MB/s of blocks', 'pictures/s', 'speed to dd'],
    rows: [
      row('dd, the block files from end to end', rawSeconds, bytes),
      row('from index files', loaded.loadSeconds, undefined),
      row('from the blocks, index files missing', rebuilt.loadSeconds, bytes),
    ],
    notes: ['Block after block; a DataServer takes writes meanwhile.'],
  };
}
