import type { ClusterMap } from '../../common/wire/control.ts';
import { mapOf, type NameServerAnswer, whyNotWritable } from './cluster-view.ts';
import type { ProcessRow } from './processes.ts';

/** A cluster as it is at one moment. */
export interface Snapshot {
  readonly nameservers: readonly NameServerAnswer[];
  readonly processes: readonly ProcessRow[];
}

export interface Step {
  /** PM2's name: `nameserver-0`, `dataserver-3`, `gateway`. */
  readonly name: string;
  /** Before the process was touched. */
  readonly before: Snapshot;
  readonly now: Snapshot;
  /** How long ago the process was seen healthy for the first time, `undefined` while it was not. */
  readonly healthyForMs: number | undefined;
}

/**
 * Whether the next process may be replaced: the last one is another process than before and serves again, and the
 * cluster is no worse than before in anything that a second one going away would make worse still.
 *
 * @returns undefined when it is, else what is waited for, in words
 */
export function whyNotSettled(step: Step): string | undefined {
  const { name, before, now, healthyForMs } = step;
  return (
    whyNotReplaced(name, before, now) ??
    whyNotLed(before, now) ??
    whyNotBack(name, before, now) ??
    whyFewerCopies(before, now, healthyForMs)
  );
}

/**
 * Whether a DataServer may be taken away for a moment: all others are there to go on without it.
 *
 * @returns undefined when it may, else what is wrong
 */
export function whyNotBegun(name: string, now: Snapshot): string | undefined {
  const id = dataserverOf(name);
  const map = mapOf(now.nameservers);
  const own = map?.servers.find((server) => server.id === id);
  // What does not serve is not taken away.
  if (map === undefined || own === undefined || own.state !== 'up') return undefined;
  const down = map.servers.filter((server) => server.id !== id && server.state !== 'up');
  if (down.length > 0) return `DataServer ${down.map((server) => server.id).join(', ')} is down`;
  const [none = 0, one = 0] = map.blocks.byCopies;
  // Of damaged blocks nothing is known to be elsewhere, and they would stop every reload until somebody gave up on them.
  const few = none + (map.replicas > 1 ? one : 0) - map.blocks.suspect;
  return few > 0 ? `${few} blocks have one good copy or none` : undefined;
}

export const isOf = (name: string, { kind, id }: Pick<ProcessRow, 'kind' | 'id'>): boolean =>
  name === kind || name === `${kind}-${id}`;

function whyNotReplaced(name: string, before: Snapshot, now: Snapshot): string | undefined {
  for (const row of now.processes) {
    if (!isOf(name, row)) continue;
    const was = before.processes.find(({ kind, id }) => kind === row.kind && id === row.id);
    if (!row.healthy) return `${row.kind} ${row.id} is ${row.state}`;
    if (was?.pid === row.pid && row.pid !== null) return `${row.kind} ${row.id} still is process ${row.pid}`;
  }
  return undefined;
}

function whyNotLed(before: Snapshot, now: Snapshot): string | undefined {
  const map = mapOf(now.nameservers);
  if (map === undefined) return 'no NameServer answers';
  const why = whyNotWritable(map);
  if (why !== undefined) return why;
  for (const { id, map: known, whyNot } of now.nameservers) {
    const was = before.nameservers.find((one) => one.id === id)?.map;
    if (was === undefined && known === undefined) continue;
    if (known === undefined) return `NameServer ${id} does not answer: ${whyNot}`;
    const lacks = known.missing.filter((server) => was === undefined || !was.missing.includes(server));
    if (lacks.length > 0)
      return `NameServer ${id} has not heard of all blocks of DataServer ${lacks.join(', ')}`;
  }
  return undefined;
}

/** Of a DataServer: a member of the cluster again that can be placed on, not only a process. */
function whyNotBack(name: string, before: Snapshot, now: Snapshot): string | undefined {
  const id = dataserverOf(name);
  if (id === undefined) return undefined;
  const servers = mapOf(now.nameservers)?.servers ?? [];
  const server = servers.find((candidate) => candidate.id === id);
  const was = mapOf(before.nameservers)?.servers.find((candidate) => candidate.id === id);
  const isSame = was?.state === 'up' && was.incarnation === server?.incarnation;
  if (server === undefined || server.state !== 'up' || server.leaving || isSame)
    return `the leader has not heard DataServer ${id}`;
  if (server.io.readOnly || !server.io.healthy) return undefined;
  if (server.openBlocks === 0) return `DataServer ${id} has not opened a block`;
  const wary = servers.filter((peer) => peer.state === 'up' && peer.suspects.includes(server.id));
  if (wary.length > 0)
    return `DataServer ${wary.map((peer) => peer.id).join(', ')} does not place anything on ${id} yet`;
  return undefined;
}

function dataserverOf(name: string): number | undefined {
  const digits = /^dataserver-(\d+)$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function whyFewerCopies(
  before: Snapshot,
  now: Snapshot,
  healthyForMs: number | undefined,
): string | undefined {
  const [was, is] = [mapOf(before.nameservers)?.blocks, mapOf(now.nameservers)?.blocks];
  if (was === undefined || is === undefined) return undefined;
  // What was counted before the process was back says nothing.
  if (is.countedAgoMs < 0 || healthyForMs === undefined || is.countedAgoMs >= healthyForMs)
    return 'the copies of blocks are being counted';
  const worse = worseThan(was, is);
  return worse.length === 0 ? undefined : worse.join(', ');
}

type Blocks = ClusterMap['blocks'];

/**
 * Blocks come, with fewer copies while a server is away, and go, when they were sealed without a record: what counts is
 * that none has lost a copy. One that has is missing among those with so many copies, and found among those with fewer.
 */
function worseThan(was: Blocks, is: Blocks): string[] {
  const worse: string[] = [];
  const least = Math.min(was.byCopies.length, is.byCopies.length);
  for (let copies = 1; copies < least; copies++) {
    const [had, has] = [atLeast(was, copies), atLeast(is, copies)];
    const isMore = sumOf(is.byCopies.slice(0, copies)) > sumOf(was.byCopies.slice(0, copies));
    if (has < had && isMore)
      worse.push(`${had - has} blocks have lost a copy (${has} with ${copies} or more, ${had} before)`);
  }
  const compare = (what: string, had: number, has: number) => {
    if (has > had) worse.push(`${has} ${what} (${had} before)`);
  };
  compare('members of blocks without a good copy', was.absent, is.absent);
  compare('copies that are not up to date', was.stale, is.stale);
  compare('blocks that wait for their seal', was.awaitingSeal, is.awaitingSeal);
  compare('blocks with a damaged copy', was.suspect, is.suspect);
  return worse;
}

const sumOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);
const atLeast = ({ byCopies }: Blocks, copies: number): number => sumOf(byCopies.slice(copies));
