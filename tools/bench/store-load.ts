// Opens a mount's block store, loads every index, measures itself, and says so by IPC.
// usage: node --expose-gc store-load store|objects DIRECTORY CLUSTER_UUID SERVER
import { tuneGarbageCollector } from '../../common/adapters/garbage-collector.ts';
import { nodeClock } from '../../common/adapters/node-clock.ts';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { type FileId, serverId } from '../../common/ids.ts';
import { silentLog } from '../../common/log.ts';
import { BlockStore } from '../../dataserver/block/store.ts';

export interface StoreFigures {
  readonly files: number;
  readonly aliases: number;
  /** Of memory, by which the process grew. */
  readonly bytes: number;
  /** Until the store could take writes. */
  readonly openSeconds: number;
  /** Then, until every index was loaded. */
  readonly loadSeconds: number;
}

tuneGarbageCollector();
const [kind, directory, clusterUuid, server] = process.argv.slice(2);
const before = settled();
const figures = kind === 'objects' ? objects(Number(directory)) : await store();
process.send?.(figures, () => process.exit(0));

async function store(): Promise<StoreFigures> {
  const disk = await NodeDisk.open(directory!);
  const startedAt = performance.now();
  const opened = await BlockStore.open({
    disk,
    clock: nodeClock,
    random: nodeRandom,
    clusterUuid: clusterUuid!,
    server: serverId(Number(server)),
    budgets: { indexBytes: 2 ** 33, openFiles: 65_536 },
    log: silentLog,
  });
  const openSeconds = (performance.now() - startedAt) / 1000;
  const loadFrom = performance.now();
  // Asking for the flags of a name loads the index of its block.
  for (const block of opened.blocks) await opened.check(block, 0 as FileId);
  const loadSeconds = (performance.now() - loadFrom) / 1000;
  const bytes = settled() - before;
  const { files, aliases } = opened.totals();
  await opened.close();
  return { files, aliases, bytes, openSeconds, loadSeconds };
}

/** What one writes first: an object for every picture, in a Map by its place. */
function objects(files: number): StoreFigures {
  const startedAt = performance.now();
  const map = new Map<number, { offset: number; size: number; cookie: number; flags: number }>();
  for (let n = 0; n < files; n++) map.set(n, { offset: n * 88, size: 8, cookie: n ^ 0x5a5a5a5a, flags: 0 });
  const loadSeconds = (performance.now() - startedAt) / 1000;
  const bytes = settled() - before;
  return { files: map.size, aliases: 0, bytes, openSeconds: 0, loadSeconds };
}

/** Memory in use once garbage is gone. */
function settled(): number {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error('run with --expose-gc');
  for (let i = 0; i < 3; i++) gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
