// Fills the NameServer's block map as DataServers' reports do, measures itself, and says so by IPC.
// usage: node --expose-gc block-map-load map|objects BLOCKS
import { tuneGarbageCollector } from '../../common/adapters/garbage-collector.ts';
import type { BlockId, Epoch, ServerId } from '../../common/ids.ts';
import {
  type BlockEntry,
  BlockState,
  decodeLocate,
  encodeLocate,
  encodeLocateReply,
  LocateState,
} from '../../common/wire/messages.ts';
import { BlockMap } from '../../nameserver/block-map.ts';

export interface BlockMapFigures {
  readonly bytes: number;
  readonly reports: number;
  readonly reportSeconds: number;
  readonly lookupsPerSecond: number;
  readonly answersPerSecond: number;
}

const REPLICAS = 3;
const SERVERS = 300;
const GROUPS = SERVERS / REPLICAS;
const LOOKUP_MS = 2_000;
const BATCH = 1_000;
/** Ids of a young cluster: series 1 and on, counters in order. */
const idAt = (n: number): BlockId => (0x2_0000 + (n & 0xffff) + (n >>> 16) * 0x2_0000) as BlockId;
const groupOf = (n: number): number => n % GROUPS;
const membersOf = (group: number): ServerId[] =>
  Array.from({ length: REPLICAS }, (_, i) => (REPLICAS * group + i + 1) as ServerId);

tuneGarbageCollector();
const [kind, count] = [process.argv[2], Number(process.argv[3])];
const before = settled();
const startedAt = performance.now();
const locate = kind === 'map' ? fillMap() : fillObjects();
const reportSeconds = (performance.now() - startedAt) / 1000;
const bytes = settled() - before;
const figures: BlockMapFigures = {
  bytes,
  reports: count * REPLICAS,
  reportSeconds,
  lookupsPerSecond: rate((id) => locate(id).members.length),
  answersPerSecond: rate(answer),
};
process.send?.(figures, () => process.exit(0));

type Locate = (id: BlockId) => { readonly opsPrimary: number; readonly members: readonly ServerId[] };

/** Server by server, as whole reports arrive after a restart. */
function fillMap(): Locate {
  const map = new BlockMap();
  const entry = { ...template() };
  for (let server = 1; server <= SERVERS; server++) {
    const group = Math.floor((server - 1) / REPLICAS);
    entry.members = membersOf(group);
    entry.opsPrimary = entry.members[0]!;
    map.beginReport(server as ServerId);
    for (let n = group; n < count; n += GROUPS) {
      entry.block = idAt(n);
      map.report(server as ServerId, entry);
    }
    map.endReport(server as ServerId);
  }
  if (map.counts.total !== count) throw new Error(`the map has ${map.counts.total} of ${count} blocks`);
  return (id) => map.locate(id)!;
}

/** What one writes first: an object for every block, in a Map. */
function fillObjects(): Locate {
  const map = new Map<number, { opsPrimary: number; members: ServerId[]; entries: object[] }>();
  for (let n = 0; n < count; n++) {
    const members = membersOf(groupOf(n));
    const { block: _, members: __, ...facts } = template();
    map.set(idAt(n), {
      opsPrimary: members[0]!,
      members,
      entries: members.map(() => ({ ...facts, version: { ...facts.version } })),
    });
  }
  return (id) => map.get(id)!;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function template(): Mutable<BlockEntry> {
  return {
    block: 0 as BlockId,
    generation: 0,
    state: BlockState.SEALED,
    flags: 0,
    length: 64 << 20,
    seq: 2,
    version: { epoch: 1 as Epoch, n: 1 },
    opsPrimary: 1,
    targetReplicas: REPLICAS,
    members: [],
    deadBytes: 0,
  };
}

/** As the server answers a LOCATE of one block. */
function answer(id: BlockId): number {
  const locations = decodeLocate(encodeLocate([id])).map((block) => {
    return { block, state: LocateState.FOUND, ...locate(block) };
  });
  return encodeLocateReply({ mapVersion: 1, locations }).length;
}

/** @returns calls per second with ids drawn at random */
function rate(once: (id: BlockId) => number): number {
  const until = performance.now() + LOOKUP_MS;
  const from = performance.now();
  let [calls, sum, seed] = [0, 0, 1];
  while (performance.now() < until) {
    for (let i = 0; i < BATCH; i++) {
      seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
      sum += once(idAt(seed % count));
    }
    calls += BATCH;
  }
  if (sum === 0) throw new Error('nothing was found');
  return (calls / (performance.now() - from)) * 1000;
}

/** Memory in use once garbage is gone. */
function settled(): number {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error('run with --expose-gc');
  for (let i = 0; i < 3; i++) gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
