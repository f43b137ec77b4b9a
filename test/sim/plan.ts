import type { MarkName } from '../../common/marks.ts';
import type { Tunables } from '../../common/tunables.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import { drawTunables } from './tuning.ts';

/** What one seed makes: the cluster, what its clients do, and what goes wrong. */
export interface Plan {
  readonly seed: number;
  /** DataServers, ids from 1; each with the host that it runs on. */
  readonly hosts: readonly string[];
  readonly clients: number;
  readonly replicas: number;
  readonly minWrite: number;
  readonly blockBytes: number;
  readonly openBlocks: number;
  readonly spareBlocks: number;
  readonly operations: number;
  /** Operations that one client has under way at a time. */
  readonly concurrency: number;
  /** Mean pause of a client between two operations, virtual ms. */
  readonly thinkMs: number;
  /** Weights of what clients do. */
  readonly load: Load;
  readonly undeleteWindowMs: number;
  readonly deadMs: number;
  readonly scrubPassMs: number;
  readonly garbagePercent: number;
  readonly reads: 'available' | 'fresh';
  /** Bounds that are other than in production. */
  readonly tunables: Partial<Tunables>;
  /** Kinds of faults that happen in this seed, with their weights; none for a seed in which all goes well. */
  readonly faults: ReadonlyMap<FaultKind, number>;
  /** Mean time between two faults, virtual ms. */
  readonly faultEveryMs: number;
  /** The rare branches behind which `kill-at-mark` strikes; all where there are none. */
  readonly killAtMarks?: readonly MarkName[];
  /** The one DataServer whose disk loses or changes what was stored; undefined where each copy is needed. */
  readonly victim: number | undefined;
}

export interface Load {
  readonly put: number;
  readonly get: number;
  readonly delete: number;
  readonly undelete: number;
  readonly hide: number;
  readonly reveal: number;
  /** Share of uploads whose content was uploaded before. */
  readonly same: number;
  /** Share of deletes with an upload of the same content meanwhile, or soon after. */
  readonly again: number;
  /** Share of uploads that are repeated with the same request id. */
  readonly repeat: number;
  readonly bytesMax: number;
}

export const FAULT_KINDS = [
  'kill-dataserver',
  'kill-nameserver',
  'kill-in-recovery',
  'pause-dataserver',
  'pause-nameserver',
  'slow-dataserver',
  'stop-dataserver',
  'host-power',
  'cluster-power',
  'kill-at-step',
  'kill-at-mark',
  'partition',
  'one-way',
  'isolate-dataserver',
  'isolate-nameserver',
  'weather-cut',
  'weather-slow',
  'weather-refuse',
  'cut-connections',
  'delay-link',
  'redis-down',
  'redis-forgets',
  'redis-cut-off',
  'lock-rolls-back',
  'lock-granted-twice',
  'queue-loses',
  'queue-repeats',
  'queue-late',
  'clock-jump',
  'clock-frozen',
  'disk-full',
  'disk-hangs',
  'file-hangs',
  'disk-slow',
  'disk-read-only',
  'disk-eio-read',
  'disk-eio-write',
  'disk-eio-sync',
  'bit-rot',
  'unreadable-sectors',
  'damaged-and-alone',
  'misdirected-write',
  'lost-write',
  'snapshot-restored',
  'disk-wiped',
  'disks-swapped',
  'kv-lost',
  'nameserver-wiped',
  'nameservers-wiped',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** They take away what one disk holds: never more than one disk of a seed, and only where there is another copy. */
export const DESTRUCTIVE: ReadonlySet<FaultKind> = new Set([
  'bit-rot',
  'unreadable-sectors',
  'damaged-and-alone',
  'misdirected-write',
  'lost-write',
  'snapshot-restored',
  'disk-wiped',
]);

export interface PlanOptions {
  readonly operations?: number;
  /** Only these kinds of faults, all of them in each seed. */
  readonly only?: readonly FaultKind[];
  readonly without?: readonly FaultKind[];
  /** Instead of what is drawn. */
  readonly load?: Partial<Load>;
  /** Instead of what is drawn. */
  readonly shape?: Shape;
}

/** What a seed that aims at something does not leave to chance. */
export interface Shape
  extends Partial<
    Pick<
      Plan,
      | 'clients'
      | 'replicas'
      | 'blockBytes'
      | 'openBlocks'
      | 'spareBlocks'
      | 'concurrency'
      | 'undeleteWindowMs'
      | 'deadMs'
      | 'scrubPassMs'
      | 'garbagePercent'
      | 'reads'
      | 'faultEveryMs'
      | 'killAtMarks'
    >
  > {
  /** DataServers, each on a host of its own. */
  readonly servers?: number;
  /** What the operations are spread over, virtual ms. */
  readonly spanMs?: number;
  /** Besides those that are drawn. */
  readonly tunables?: Partial<Tunables>;
}

/** Draws the plan of a seed: each leaves most kinds of faults out, so that those it has meet each other often. */
export function planOf(
  seed: number,
  { operations = 1500, only, without = [], load, shape = {} }: PlanOptions = {},
): Plan {
  const { servers: serversWanted, spanMs: spanWanted, tunables, ...rest } = shape;
  const random = new SeededRandom(seed ^ 0x51ab_0000);
  const chance = (share: number): boolean => random.float() < share;
  const between = (low: number, high: number): number => low + random.below(high - low + 1);
  const serversDrawn = chance(0.1) ? between(1, 2) : between(3, 7);
  const servers = serversWanted ?? serversDrawn;
  const hostsDrawn = Math.min(
    serversDrawn,
    chance(0.75) ? between(Math.min(3, serversDrawn), 5) : between(1, 5),
  );
  const hostCount = serversWanted ?? hostsDrawn;
  const hosts = Array.from({ length: servers }, (_, i) => `h${(i % hostCount) + 1}`);
  const replicasDrawn = chance(0.75) ? 3 : between(1, 3);
  const replicas = Math.min(servers, rest.replicas ?? replicasDrawn);
  const minWrite = Math.min(2, replicas, hostCount);
  const destructible = minWrite >= 2;
  const share = chance(0.08) ? 0 : 0.08 + random.float() * 0.3;
  const kinds = (only ?? FAULT_KINDS).filter(
    (kind) => !without.includes(kind) && (destructible || !DESTRUCTIVE.has(kind)),
  );
  const faults = new Map<FaultKind, number>();
  for (const kind of kinds) {
    const weight = 0.2 + random.float();
    if (chance(share) || only !== undefined) faults.set(kind, weight);
  }
  const clientsDrawn = between(1, 4);
  const concurrencyDrawn = between(1, 6);
  const { clients = clientsDrawn, concurrency = concurrencyDrawn } = rest;
  // The more often servers talk by themselves, the shorter.
  const spanDrawn = (servers > 4 ? 13_500 : 20_500) * (0.6 + 0.8 * random.float());
  const spanMs = spanWanted ?? spanDrawn;
  const plan: Plan = {
    seed,
    hosts,
    clients,
    replicas,
    minWrite,
    blockBytes: random.pick([64, 64, 96, 128, 256]) * 1024,
    openBlocks: between(1, 3),
    spareBlocks: between(0, 2),
    operations,
    concurrency,
    thinkMs: (spanMs * clients * concurrency) / operations,
    load: {
      put: 2 + random.float() * 6,
      get: 1 + random.float() * 6,
      delete: random.float() * 4,
      undelete: random.float() * 1.5,
      hide: random.float(),
      reveal: random.float(),
      same: random.pick([0, 0.05, 0.3]),
      again: random.pick([0, 0, 0.1, 0.4]),
      repeat: random.pick([0, 0.02, 0.1]),
      bytesMax: random.pick([800, 3000, 3000, 10_000, 24_000]),
      ...load,
    },
    undeleteWindowMs: random.pick([4_000, 10_000, 30_000]),
    deadMs: random.pick([6_000, 10_000, 20_000]),
    scrubPassMs: random.pick([0, 10_000, 30_000]),
    garbagePercent: random.pick([10, 15, 40]),
    reads: chance(0.8) ? 'available' : 'fresh',
    tunables: drawTunables(random),
    faults,
    faultEveryMs: random.pick([500, 1_000, 2_000, 4_000]),
    victim: destructible ? between(1, servers) : undefined,
  };
  return { ...plan, ...rest, replicas, tunables: { ...plan.tunables, ...tunables } };
}

/** One line a person can read. */
export function describePlan(plan: Plan): string {
  const { seed, hosts, clients, replicas, minWrite, blockBytes, operations, faults } = plan;
  const mix = [...faults.keys()].join(' ') || 'none';
  return (
    `seed ${seed}: ${hosts.length} DataServers on ${new Set(hosts).size} hosts, ${clients} clients, ` +
    `${replicas} copies (at least ${minWrite}), blocks of ${blockBytes / 1024} KiB, ${operations} operations, ` +
    `faults: ${mix}`
  );
}
