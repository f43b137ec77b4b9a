import { CLOCK_AHEAD_MS_MAX, DISK_SLOW_MS, ELIGIBLE_HEARTBEAT_AGE_MS_MAX } from '../../common/limits.ts';
import type { ClusterMap, ServerInfo } from '../../common/wire/control.ts';
import { formatAge } from '../cli/columns.ts';
import { mapOf } from '../cluster/cluster-view.ts';
import type { Facts } from './facts.ts';
import { type Finding, plural } from './finding.ts';
import { whyProcess } from './process-findings.ts';

/** With room for fewer blocks than this a disk is about to be full. */
const BLOCKS_LEFT_MIN = 20;

const SOON_OTHERS =
  'Writes go on with the others within 3 s, in new blocks; deletes and the like of blocks it holds within 6 s. What it ' +
  'holds counts again when it is back; after 10 min (cluster.deadMs) it is copied to others, where another failure ' +
  'domain has room.';

/** DataServers and their disks, and whether there are enough of them for a write. */
export function serverFindings(facts: Facts): Finding[] {
  const map = mapOf(facts.nameservers);
  if (map === undefined) return [];
  const up = map.servers.filter(({ state }) => state === 'up');
  return [
    ...map.servers.flatMap((server) => (isServing(facts, server) ? [] : [down(facts, server)])),
    ...strangers(facts, map),
    ...up.flatMap((server) => disk(server, facts.blockBytes)),
    ...up.flatMap((server) => late(server)),
    ...up.flatMap((server) => clock(server)),
    ...map.servers.flatMap((server) => drain(server, map)),
    ...links(up),
    ...writability(map, facts),
  ];
}

/** A process that has just ended is known here before the leader misses its heartbeats. */
function isServing({ processes }: Facts, { id, state }: ServerInfo): boolean {
  if (state !== 'up') return false;
  const row = processes.find((candidate) => candidate.kind === 'dataserver' && candidate.id === String(id));
  return row === undefined || !['refused', 'stopped', 'errored', 'silent', 'restarting'].includes(row.state);
}

function down(facts: Facts, { id, state, heartbeatAgeMs }: ServerInfo): Finding {
  const age = heartbeatAgeMs < 0 ? 'never heard' : `last heard ${Math.round(heartbeatAgeMs / 1000)} s ago`;
  const { why, itself, todo } = whyProcess(facts, 'dataserver', String(id), age);
  const isMissing = state === 'missing';
  return {
    code: isMissing ? 'server-missing' : 'server-down',
    level: 'degraded',
    count: 1,
    what: `DataServer ${id} is ${isMissing ? 'known to exist and was never heard' : 'down'} (${age})`,
    why,
    itself: `${itself} ${SOON_OTHERS}`,
    todo: `${todo ?? 'nothing yet; if it stays so: npm run logs'}; if its disk is lost for good: npx tfs remove-server ${id}`,
  };
}

/** Processes of the configuration that the leader does not count among its servers. */
function strangers(facts: Facts, { servers }: ClusterMap): Finding[] {
  const known = new Set(servers.map(({ id }) => String(id)));
  return facts.processes
    .filter(({ kind, id, healthy }) => kind === 'dataserver' && !known.has(id) && !healthy)
    .map(({ id }) => ({
      code: 'server-unknown',
      level: 'degraded' as const,
      count: 1,
      what: `DataServer ${id} of config.json is none of the cluster's: it was removed, or never joined`,
      ...whyProcess(facts, 'dataserver', id),
    }));
}

function disk({ id, io, space, mount }: ServerInfo, blockBytes: number): Finding[] {
  const one = { level: 'degraded' as const, count: 1 };
  const spared = 'nothing new is placed on it; what it holds is read from it and from the others';
  const reason = io.reason ?? 'no reason was given';
  if (io.readOnly)
    return [
      {
        ...one,
        code: 'disk-read-only',
        what: `DataServer ${id} takes no writes: its disk failed one`,
        why: reason,
        itself: `${spared}. It stays so until its process is started again`,
        todo: `check the disk of ${mount} (dmesg, smartctl -a): if it is sound, npm run reload -- dataserver-${id}; else replace it, see docs/operations.md`,
      },
    ];
  if (!io.healthy)
    return [
      {
        ...one,
        code: 'disk-fails',
        what: `the disk of DataServer ${id} fails its probe writes`,
        why: reason,
        itself: `${spared}; it is tried every second and used again when it works`,
        todo: `check ${mount}: df -h ${mount}; dmesg | tail`,
      },
    ];
  if (isFull({ io, space }, blockBytes))
    return [
      {
        ...one,
        code: 'disk-full',
        what: `the disk of DataServer ${id} has no room for another block`,
        why: `${mib(space.freeBytes)} free at ${mount}, a block takes ${mib(blockBytes)}`,
        itself: `${spared}; deletes go on`,
        todo: `make room at ${mount}, or add a mount: docs/operations.md`,
      },
    ];
  const findings: Finding[] = [];
  if (space.freeBytes < blockBytes * BLOCKS_LEFT_MIN)
    findings.push({
      ...one,
      code: 'disk-nearly-full',
      what: `the disk of DataServer ${id} is nearly full`,
      why: `${mib(space.freeBytes)} free at ${mount}: ${Math.floor(space.freeBytes / blockBytes)} more blocks`,
      itself: 'when it is full nothing new is placed on it',
      todo: 'add a mount before that: docs/operations.md',
    });
  if (io.slow === true || io.probeMs >= DISK_SLOW_MS)
    findings.push({
      ...one,
      code: 'disk-slow',
      what: `the disk of DataServer ${id} is slow: a write of 512 bytes took ${Math.round(io.probeMs)} ms`,
      why: `it is overloaded, or fails`,
      itself: 'it is read from last, and takes part in new blocks only where too few others can',
      todo: `iostat -x 1; smartctl -a on the disk of ${mount}`,
    });
  return findings;
}

/** Nothing is wrong: somebody has asked for it, and waits for its end. */
function drain({ id, drained, state, blocks }: ServerInfo, { leader }: ClusterMap): Finding[] {
  if (!drained) return [];
  const isEmpty = state === 'up' && blocks === 0 && leader;
  return [
    {
      code: isEmpty ? 'server-drained' : 'server-draining',
      level: 'note',
      count: 1,
      what: isEmpty
        ? `DataServer ${id} is empty and can be taken out`
        : `DataServer ${id} is being emptied: ${plural(blocks, 'block is', 'blocks are')} still on it`,
      why: `"tfs drain ${id}" was said`,
      itself: isEmpty
        ? 'nothing new is placed on it'
        : 'what it holds is copied to others and then dropped there; it goes on answering meanwhile',
      todo: isEmpty
        ? `npm stop -- dataserver-${id}; npx tfs remove-server ${id}; then take it out of mounts[] in config.json, and npm run reload`
        : null,
    },
  ];
}

function late({ id, heartbeatAgeMs }: ServerInfo): Finding[] {
  if (heartbeatAgeMs < ELIGIBLE_HEARTBEAT_AGE_MS_MAX) return [];
  return [
    {
      code: 'heartbeat-late',
      level: 'degraded',
      count: 1,
      what: `DataServer ${id} was last heard ${(heartbeatAgeMs / 1000).toFixed(1)} s ago`,
      why: 'its process hangs, or the network does; it says something every second',
      itself: 'no new block is placed on it; after 5 s it counts as down',
      todo: `ask again in ten seconds; if it stays: npm run logs -- dataserver-${id}`,
    },
  ];
}

function clock({ id, clockAheadMs }: ServerInfo): Finding[] {
  if (Math.abs(clockAheadMs) <= CLOCK_AHEAD_MS_MAX) return [];
  const direction = clockAheadMs > 0 ? 'ahead of' : 'behind';
  return [
    {
      code: 'clock-wrong',
      level: 'degraded',
      count: 1,
      what: `the clock of DataServer ${id} is ${formatAge(Math.abs(clockAheadMs))} ${direction} that of the leading NameServer`,
      why: 'one of the two is wrong; where several DataServers are named, it is the NameServer',
      itself:
        'pictures are stored and read as ever; of the blocks that it sequences no deleted picture is purged, so their bytes do not come back',
      todo: 'have both machines keep the same time (timedatectl, chronyc tracking)',
    },
  ];
}

function links(up: readonly ServerInfo[]): Finding[] {
  const isUp = new Set(up.map(({ id }) => id));
  const pairs = up.flatMap(({ id, suspects }) =>
    suspects.filter((peer) => isUp.has(peer)).map((peer) => `DataServer ${id} with ${peer}`),
  );
  if (pairs.length === 0) return [];
  return [
    {
      code: 'slow-link',
      level: 'degraded',
      count: pairs.length,
      what: `${plural(pairs.length, 'pair')} of DataServers cannot work together: ${pairs.join(', ')}`,
      why: 'in the last minute one did not answer the other within a second, or at all',
      itself: 'no new block has both as members; forgotten after three answers in a row, or after a minute',
      todo: 'if it comes back again and again: look at the disk and the network of the one that is named most',
    },
  ];
}

function writability(map: ClusterMap, { replicas, minWrite, blockBytes }: Facts): Finding[] {
  const able = map.servers.filter(
    ({ state, io, space, drained }) =>
      state === 'up' && !drained && io.healthy && !io.readOnly && !isFull({ io, space }, blockBytes),
  );
  const domains = new Set(able.map(({ domain }) => domain)).size;
  const known = new Set(map.servers.map(({ domain }) => domain)).size;
  const why = `${plural(domains, 'failure domain has', 'failure domains have')} a DataServer that takes writes`;
  if (domains < minWrite)
    return [
      {
        code: 'not-writable',
        level: 'at risk',
        count: minWrite - domains,
        what: `uploads are refused with 503, and deletes where fewer than ${minWrite} copies can be reached`,
        why: `${why}; ${minWrite} are needed (cluster.minWrite)`,
        itself: 'reads go on; uploads are taken again as soon as enough servers are back',
        todo: 'bring back the servers named here',
      },
    ];
  const findings: Finding[] = [];
  if (map.leader && !able.some(({ openBlocks }) => openBlocks > 0))
    findings.push({
      code: 'no-open-block',
      level: 'at risk',
      count: able.length,
      what: 'no DataServer has an open block: uploads are refused with 503',
      why: map.safeMode
        ? 'the leader has no block numbers left and may draw new ones only when it has heard of every DataServer'
        : 'the DataServers could not open one',
      itself: 'each tries again at least once a second',
      todo: 'npm run logs -- dataserver, and see what "cannot open a block" says',
    });
  if (domains < replicas)
    findings.push({
      code: 'fewer-copies',
      level: 'degraded',
      count: replicas - domains,
      what: `new pictures get ${plural(Math.min(domains, replicas), 'copy', 'copies')} instead of ${replicas}`,
      why,
      itself:
        known < replicas
          ? 'nothing: there are no more failure domains'
          : 'blocks that are open then are closed 30 s after all copies are possible again, and new ones get all of them',
      todo:
        known < replicas
          ? `add mounts with a "domain" of their own, or set cluster.replicas to ${known}, in config.json; then: npm run reload`
          : null,
    });
  return findings;
}

const mib = (bytes: number): string => `${Math.floor(bytes / (1024 * 1024))} MiB`;

const isFull = ({ io, space }: Pick<ServerInfo, 'io' | 'space'>, blockBytes: number): boolean =>
  io.full === true || space.freeBytes < blockBytes;
