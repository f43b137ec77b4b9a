import { serverId } from '../../../common/ids.ts';
import { type ClusterMap, type ServerInfo, zClusterMap } from '../../../common/wire/control.ts';
import type { ScrubFigures, ScrubPass } from '../../../common/wire/scrub.ts';
import type { Facts, MountFacts, SeenProcess } from '../../../tools/doctor/facts.ts';

const GIB = 2 ** 30;
export const DAY_MS = 24 * 3600 * 1000;
/** When all of it is seen. */
export const NOW_MS = Date.UTC(2026, 0, 30);

/** A pass that was begun so many days ago, and is over. */
export function scrubOf(days: number): ScrubFigures {
  const startedAtMs = NOW_MS - days * DAY_MS;
  const pass: ScrubPass = {
    startedAtMs,
    endedAtMs: startedAtMs + 1000,
    fullSpeed: false,
    replicas: 20,
    bytes: GIB,
    damaged: 0,
    problems: 0,
  };
  return { pass, leftReplicas: 0, leftBytes: 0, bytesPerSecond: 0, restsForReads: false, suspects: 0 };
}

export function server(id: number, overrides: Partial<ServerInfo> = {}): ServerInfo {
  return {
    id: serverId(id),
    address: { host: '127.0.0.1', port: 7520 + 2 * id },
    adminPort: 7521 + 2 * id,
    state: 'up',
    capacityBytes: 100 * GIB,
    domain: `d${id}`,
    pid: 100 + id,
    incarnation: 1 as ServerInfo['incarnation'],
    mount: `/disk${id}`,
    space: { totalBytes: 100 * GIB, freeBytes: 50 * GIB, usedBytes: 50 * GIB },
    io: { healthy: true, readOnly: false, probeMs: 2 },
    heartbeatAgeMs: 400,
    blocks: 20,
    openBlocks: 2,
    files: 1000,
    aliases: 10,
    suspects: [],
    lostRecords: 0,
    leaving: false,
    drained: false,
    clockAheadMs: 0,
    ...overrides,
  };
}

export function map(
  overrides: Partial<Omit<ClusterMap, 'blocks'>> & { readonly blocks?: Partial<ClusterMap['blocks']> } = {},
): ClusterMap {
  const blocks = {
    total: 20,
    open: 6,
    sealed: 14,
    awaitingSeal: 0,
    underReplicated: 0,
    suspect: 0,
    byCopies: [0, 0, 0, 20],
    countedAgoMs: 300,
    ...overrides.blocks,
  };
  return {
    ...zClusterMap.parse({
      clusterUuid: '0'.repeat(32),
      clusterDigit: 1,
      reign: { epoch: 7, nameserver: 0 },
      leader: true,
      completeView: true,
      safeMode: false,
      mapVersion: 1,
      replicas: 3,
      minWrite: 2,
      servers: [],
      blocks,
    }),
    servers: [server(1), server(2), server(3)],
    ...overrides,
    blocks: zClusterMap.shape.blocks.parse(blocks),
  };
}

export function row(
  kind: SeenProcess['kind'],
  id: number,
  overrides: Partial<SeenProcess> = {},
): SeenProcess {
  return {
    kind,
    id: String(id),
    pid: 1000 + id,
    address: '127.0.0.1:1',
    mount: kind === 'dataserver' ? `/disk${id}` : null,
    role: null,
    state: 'up',
    healthy: true,
    restarts: 0,
    ageMs: 3_600_000,
    details: {},
    lastError: null,
    ...overrides,
  };
}

export const mount = (id: number, overrides: Partial<MountFacts> = {}): MountFacts => ({
  server: id,
  path: `/disk${id}`,
  state: 'ours',
  why: undefined,
  device: 50 + id,
  ...overrides,
});

/** Two NameServers, three DataServers on disks of their own, two gateway workers: all is well. */
export function healthy(overrides: Partial<Facts> = {}): Facts {
  return {
    replicas: 3,
    minWrite: 2,
    blockBytes: 64 << 20,
    isManaged: true,
    processes: [
      row('redis', 0),
      row('nameserver', 0),
      row('nameserver', 1),
      row('dataserver', 1),
      row('dataserver', 2),
      row('dataserver', 3),
      row('gateway', 0),
      row('gateway', 1),
    ],
    nameservers: nameservers(map()),
    redis: { address: 'redis://127.0.0.1:7509', state: 'up', why: undefined },
    mounts: [mount(1), mount(2), mount(3)],
    figures: [1, 2, 3].map((id) => ({ id: serverId(id), scrub: scrubOf(1) })),
    scrubPassMs: 7 * DAY_MS,
    nowMs: NOW_MS,
    ...overrides,
  };
}

/** NameServer 0 leads and sees this; 1 sees the same and does not lead. */
export const nameservers = (seen: ClusterMap, standby: Partial<ClusterMap> = {}): Facts['nameservers'] => [
  { id: 0, address: '127.0.0.1:7510', map: seen, whyNot: undefined },
  {
    id: 1,
    address: '127.0.0.1:7512',
    map: { ...seen, leader: false, safeMode: true, ...standby },
    whyNot: undefined,
  },
];

export const silentNameServer = (id: number): Facts['nameservers'][number] => ({
  id,
  address: `127.0.0.1:751${2 * id}`,
  map: undefined,
  whyNot: 'connection refused',
});

/** The same processes, one of them otherwise. */
export function withProcess(
  kind: SeenProcess['kind'],
  id: number,
  overrides: Partial<SeenProcess>,
): SeenProcess[] {
  return healthy().processes.map((one) =>
    one.kind === kind && one.id === String(id) ? { ...one, ...overrides } : one,
  );
}
