import type { FaultWindow, History, Operation, OperationKind, ReplicaAnswer } from './history.ts';

/**
 * lost: stored, acknowledged, neither deleted nor hidden, and answered as absent. stale: deleted or hidden, acknowledged,
 * and answered with its bytes. phantom: bytes that were never stored under that name. reused: one name for two uploads. diverged: replicas
 * that disagree after everything was mended.
 */
export type ViolationKind = 'lost' | 'stale' | 'phantom' | 'reused' | 'diverged';

export interface Violation {
  readonly kind: ViolationKind;
  readonly name: string;
  readonly why: string;
}

export interface CheckOptions {
  readonly faults: readonly FaultWindow[];
  /** A gateway may answer from memory this long after it last asked for the flags of a name. */
  readonly cacheMs?: number;
  /** An answer may be older by this while a fault overlaps it: who is cut off notices after that long. */
  readonly faultMs?: number;
  /** A fault counts as overlapping until this long after it was mended. */
  readonly settleMs?: number;
  /** What was deleted longer ago than this may be purged: absent for good. Nothing ever is when left out. */
  readonly undeleteWindowMs?: number;
}

const CACHE_MS = 1_000;
const FAULT_MS = 3_000;
const SETTLE_MS = 3_000;

type Value = 'live' | 'gone';

/** Something that may have set a register of a name to `value`, at some moment from `startMs` to `latestMs`. */
interface Write {
  readonly value: Value;
  readonly startMs: number;
  latestMs: number;
  /** Of one that timed out: when the client gave up. */
  readonly givenUpMs?: number;
}

/** A name can be read while both are live: whether it is stored and not deleted, and whether it is not hidden. */
interface Registers {
  readonly stored: readonly Write[];
  readonly shown: readonly Write[];
}

/**
 * Each name is two registers: absent, live, deleted, live …, and shown, hidden, shown … A read may return what any write set that began before the
 * read ended, unless another write, acknowledged before the read began, surely came after it. A write that timed out
 * may take effect at any time after its start, so nothing surely comes after it — until a read shows its effect, long
 * after its client gave up and with no fault about; before that, one replica may have it and another not yet. A 503 claims
 * nothing and breaks nothing.
 *
 * No clock, no I/O: serves histories of real processes and of a simulator alike.
 */
export function checkHistory(history: History, options: CheckOptions): Violation[] {
  const violations: Violation[] = [];
  for (const name of history.names) {
    const operations = history.of(name);
    const puts = operations.filter(({ kind, outcome }) => kind === 'put' && outcome !== 'absent');
    if (puts.length > 1)
      violations.push({
        kind: 'reused',
        name,
        why: `given to the uploads at ${puts.map((put) => ms(put.startMs)).join(' and ')}`,
      });
    const registers = registersOf(operations, options);
    for (const operation of operations) {
      const violation = judge(operation, { put: puts[0], registers, options });
      if (violation !== undefined) violations.push({ name, ...violation });
    }
  }
  return violations;
}

/**
 * The end, when all is mended and quiet: no allowances. Every replica of a name says the same, something that the
 * history allows, and there is at least one of every name that was acknowledged.
 *
 * @param atMs when they were asked, after the last operation
 */
export function checkReplicas(
  history: History,
  answers: readonly ReplicaAnswer[],
  {
    names = history.names,
    ...options
  }: CheckOptions & { readonly atMs: number; readonly names?: Iterable<string> },
): Violation[] {
  const violations: Violation[] = [];
  const byName = groupByName(answers);
  for (const name of names) {
    const report = (kind: ViolationKind, why: string) => violations.push({ kind, name, why });
    const operations = history.of(name);
    const put = operations.find(({ kind, outcome }) => kind === 'put' && outcome !== 'absent');
    const replicas = byName.get(name) ?? [];
    if (replicas.length === 0 && put?.outcome === 'done') report('lost', 'no replica is known');
    const registers = registersOf(operations, options);
    const { stored, shown } = registers;
    for (const answer of replicas) {
      const { server, state, sha1, hidden } = answer;
      const at = `on server ${server}`;
      if (state === 'silent') report('lost', `${at}: no answer after all was mended (${answer.why ?? ''})`);
      else if (state === 'absent') {
        const mayBe = isAllowed('gone', purging(stored, options.atMs, options), options.atMs);
        if (!mayBe) report('lost', `${at}: not there ${story(registers)}`);
      } else {
        if (sha1 !== undefined && sha1 !== put?.sha1)
          report('phantom', `${at}: bytes with sha1 ${sha1}, stored was ${put?.sha1 ?? 'nothing'}`);
        const value = state === 'live' ? 'live' : 'gone';
        if (!isAllowed(value, stored, options.atMs))
          report(value === 'live' ? 'stale' : 'lost', `${at}: ${state} ${story(registers)}`);
        if (hidden !== undefined && !isAllowed(hidden ? 'gone' : 'live', shown, options.atMs))
          report(hidden ? 'lost' : 'stale', `${at}: ${hidden ? 'hidden' : 'shown'} ${story(registers)}`);
      }
    }
    const answers = replicas.filter(({ state }) => state !== 'silent').map(stateText);
    if (new Set(answers).size > 1)
      report(
        'diverged',
        replicas.map((answer) => `server ${answer.server}: ${stateText(answer)}`).join(', '),
      );
  }
  return violations;
}

function judge(
  operation: Operation,
  given: {
    readonly put: Operation | undefined;
    readonly registers: Registers;
    readonly options: CheckOptions;
  },
): Omit<Violation, 'name'> | undefined {
  const { kind, outcome, startMs, endMs, sha1 } = operation;
  const { put, registers, options } = given;
  const { stored, shown } = registers;
  if (outcome === 'unknown' || kind === 'put') return undefined;
  const mark = operation.provisional === true ? ', marked as unconfirmed,' : '';
  const when = `${kind} at ${ms(startMs)}..${ms(endMs)}${mark}`;
  if (outcome === 'absent') {
    // All others succeed on a deleted name: to them only one that was never stored, or is purged, is absent.
    const relevant = kind === 'get' ? stored : purging(stored, endMs, options);
    if (isAllowed('gone', relevant, startMs, endMs)) return undefined;
    if (kind === 'get' && isAllowed('gone', shown, startMs, endMs)) return undefined;
    return { kind: 'lost', why: `${when} found nothing ${story(registers)}` };
  }
  if (kind !== 'get') return undefined;
  if (put === undefined || put.startMs >= endMs || put.sha1 !== sha1)
    return { kind: 'phantom', why: `${when}: bytes with sha1 ${sha1}, stored was ${put?.sha1 ?? 'nothing'}` };
  const olderMs = ageAllowed(operation, options);
  if ([stored, shown].every((writes) => isAllowed('live', writes, startMs - olderMs, endMs)))
    return undefined;
  return { kind: 'stale', why: `${when} got the bytes; it may be ${olderMs} ms old ${story(registers)}` };
}

/** By how much an answer with the bytes of a name may be out of date. */
function ageAllowed(read: Operation, options: CheckOptions): number {
  const { cacheMs = CACHE_MS, faultMs = FAULT_MS } = options;
  if (!isDisturbed(read, options)) return cacheMs;
  return read.provisional === true ? Number.POSITIVE_INFINITY : Math.max(cacheMs, faultMs);
}

const isDisturbed = (
  { startMs, endMs }: Operation,
  { faults, settleMs = SETTLE_MS }: CheckOptions,
): boolean => faults.some(({ fromMs, healedMs }) => fromMs < endMs && startMs < healedMs + settleMs);

/** Whether a read from `fromMs` to `endMs` may have seen `value`. */
const isAllowed = (value: Value, writes: readonly Write[], fromMs: number, endMs = fromMs): boolean =>
  sourcesOf(value, writes, fromMs, endMs).length > 0;

/** The writes that a read of `value` may have seen. */
const sourcesOf = (value: Value, writes: readonly Write[], fromMs: number, endMs: number): Write[] =>
  writes.filter(
    (write) =>
      write.value === value &&
      write.startMs < endMs &&
      !writes.some(
        (later) => later.value !== value && write.latestMs < later.startMs && later.latestMs < fromMs,
      ),
  );

function registersOf(operations: readonly Operation[], options: CheckOptions): Registers {
  const registers = {
    stored: writesOf(operations, { first: 'gone', live: ['put', 'undelete'], gone: 'delete' }),
    shown: writesOf(operations, { first: 'live', live: ['reveal'], gone: 'hide' }),
  };
  const isKnown = [...registers.stored, ...registers.shown].every(({ givenUpMs }) => givenUpMs === undefined);
  if (!isKnown) settleByReads(registers, operations, options);
  return registers;
}

function writesOf(
  operations: readonly Operation[],
  by: { readonly first: Value; readonly live: readonly OperationKind[]; readonly gone: OperationKind },
): Write[] {
  const before = Number.NEGATIVE_INFINITY;
  const writes: Write[] = [{ value: by.first, startMs: before, latestMs: before }];
  for (const { kind, outcome, startMs, endMs } of operations) {
    if (outcome === 'absent' || (kind !== by.gone && !by.live.includes(kind))) continue;
    const value = kind === by.gone ? 'gone' : 'live';
    if (outcome === 'done') writes.push({ value, startMs, latestMs: endMs });
    else writes.push({ value, startMs, latestMs: Number.POSITIVE_INFINITY, givenUpMs: endMs });
  }
  return writes;
}

/** A read that only one write explains shows that this write has happened: it does not happen once more later. */
function settleByReads(
  { stored, shown }: Registers,
  operations: readonly Operation[],
  options: CheckOptions,
): void {
  const { settleMs = SETTLE_MS } = options;
  const reads = operations
    .filter(({ kind, outcome }) => kind === 'get' && outcome !== 'unknown')
    .filter((read) => !isDisturbed(read, options))
    .sort((a, b) => a.endMs - b.endMs);
  for (const read of reads) {
    const value = read.outcome === 'done' ? 'live' : 'gone';
    const fromMs = value === 'live' ? read.startMs - ageAllowed(read, options) : read.startMs;
    const sourcesIn = (writes: readonly Write[]) => sourcesOf(value, writes, fromMs, read.endMs);
    // Found: by a write of each register. Not found: by one of any.
    const groups =
      value === 'live'
        ? [sourcesIn(stored), sourcesIn(shown)]
        : [[...sourcesIn(stored), ...sourcesIn(shown)]];
    for (const [source, ...others] of groups) {
      if (source?.givenUpMs === undefined || others.length > 0) continue;
      if (read.startMs > source.givenUpMs + settleMs) source.latestMs = Math.min(source.latestMs, read.endMs);
    }
  }
}

/** Of the deletes only those whose names may be purged by then. */
const purging = (
  writes: readonly Write[],
  atMs: number,
  { undeleteWindowMs = Number.POSITIVE_INFINITY }: CheckOptions,
): Write[] =>
  writes.filter(
    ({ value, startMs }) =>
      value === 'live' || !Number.isFinite(startMs) || startMs + undeleteWindowMs < atMs,
  );

function groupByName(answers: readonly ReplicaAnswer[]): Map<string, ReplicaAnswer[]> {
  const byName = new Map<string, ReplicaAnswer[]>();
  for (const answer of answers) {
    const group = byName.get(answer.name);
    if (group === undefined) byName.set(answer.name, [answer]);
    else group.push(answer);
  }
  return byName;
}

const ms = (at: number): string => (Number.isFinite(at) ? `${Math.round(at)} ms` : '?');

const stateText = ({ state, hidden }: ReplicaAnswer): string =>
  hidden === true ? `${state}, hidden` : state;

const story = ({ stored, shown }: Registers): string => {
  const lines = [
    ...stored.slice(1).map((write) => ({ ...write, what: write.value })),
    ...shown.slice(1).map((write) => ({ ...write, what: write.value === 'live' ? 'shown' : 'hidden' })),
  ];
  return `(${lines.map(({ what, startMs, latestMs }) => `${what} ${ms(startMs)}..${ms(latestMs)}`).join(', ')})`;
};
