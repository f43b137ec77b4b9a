import type { FaultWindow, History, Operation, ReplicaAnswer } from './history.ts';

/**
 * lost: stored, acknowledged, not deleted, and answered as absent. stale: deleted, acknowledged, and answered with its
 * bytes. phantom: bytes that were never stored under that name. reused: one name for two uploads. diverged: replicas
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
}

const CACHE_MS = 1_000;
const FAULT_MS = 3_000;
const SETTLE_MS = 3_000;

type Value = 'live' | 'gone';

/** Something that may have set a name to `value`, at some moment from `startMs` to `latestMs`. */
interface Write {
  readonly value: Value;
  readonly startMs: number;
  latestMs: number;
  /** Of one that timed out: when the client gave up. */
  readonly givenUpMs?: number;
}

/**
 * Each name is a register: absent, live, deleted, live … A read may return what any write set that began before the
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
    const writes = writesOf(operations, options);
    for (const operation of operations) {
      const violation = judge(operation, { put: puts[0], writes, options });
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
    const writes = writesOf(operations, options);
    for (const answer of replicas) {
      const { server, state, sha1 } = answer;
      const at = `on server ${server}`;
      if (state === 'silent') report('lost', `${at}: no answer after all was mended (${answer.why ?? ''})`);
      else if (state === 'absent') {
        if (!isAllowed('gone', withoutDeletes(writes), options.atMs)) report('lost', `${at}: not there`);
      } else {
        if (sha1 !== undefined && sha1 !== put?.sha1)
          report('phantom', `${at}: bytes with sha1 ${sha1}, stored was ${put?.sha1 ?? 'nothing'}`);
        const value = state === 'live' ? 'live' : 'gone';
        if (!isAllowed(value, writes, options.atMs))
          report(value === 'live' ? 'stale' : 'lost', `${at}: ${state} ${story(writes)}`);
      }
    }
    const states = new Set(replicas.map(({ state }) => state).filter((state) => state !== 'silent'));
    if (states.size > 1)
      report('diverged', replicas.map(({ server, state }) => `server ${server}: ${state}`).join(', '));
  }
  return violations;
}

function judge(
  operation: Operation,
  given: {
    readonly put: Operation | undefined;
    readonly writes: readonly Write[];
    readonly options: CheckOptions;
  },
): Omit<Violation, 'name'> | undefined {
  const { kind, outcome, startMs, endMs, sha1 } = operation;
  const { put, writes, options } = given;
  if (outcome === 'unknown' || kind === 'put') return undefined;
  const mark = operation.provisional === true ? ', marked as unconfirmed,' : '';
  const when = `${kind} at ${ms(startMs)}..${ms(endMs)}${mark}`;
  if (outcome === 'absent') {
    // Deleting and undeleting succeed on a deleted name: to them only a name that was never stored is absent.
    const relevant = kind === 'get' ? writes : withoutDeletes(writes);
    if (isAllowed('gone', relevant, startMs, endMs)) return undefined;
    return { kind: 'lost', why: `${when} found nothing ${story(writes)}` };
  }
  if (kind !== 'get') return undefined;
  if (put === undefined || put.startMs >= endMs || put.sha1 !== sha1)
    return { kind: 'phantom', why: `${when}: bytes with sha1 ${sha1}, stored was ${put?.sha1 ?? 'nothing'}` };
  const olderMs = ageAllowed(operation, options);
  if (isAllowed('live', writes, startMs - olderMs, endMs)) return undefined;
  return { kind: 'stale', why: `${when} got the bytes; it may be ${olderMs} ms old ${story(writes)}` };
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

function writesOf(operations: readonly Operation[], options: CheckOptions): Write[] {
  const before = Number.NEGATIVE_INFINITY;
  const writes: Write[] = [{ value: 'gone', startMs: before, latestMs: before }];
  let isAllKnown = true;
  for (const { kind, outcome, startMs, endMs } of operations) {
    if (kind === 'get' || outcome === 'absent') continue;
    if (outcome === 'unknown') isAllKnown = false;
    const value = kind === 'delete' ? 'gone' : 'live';
    if (outcome === 'done') writes.push({ value, startMs, latestMs: endMs });
    else writes.push({ value, startMs, latestMs: Number.POSITIVE_INFINITY, givenUpMs: endMs });
  }
  if (!isAllKnown) settleByReads(writes, operations, options);
  return writes;
}

/** A read that only one write explains shows that this write has happened: it does not happen once more later. */
function settleByReads(
  writes: readonly Write[],
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
    const [source, ...others] = sourcesOf(value, writes, fromMs, read.endMs);
    if (source?.givenUpMs === undefined || others.length > 0) continue;
    if (read.startMs > source.givenUpMs + settleMs) source.latestMs = Math.min(source.latestMs, read.endMs);
  }
}

const withoutDeletes = (writes: readonly Write[]): Write[] =>
  writes.filter(({ value, startMs }) => value === 'live' || !Number.isFinite(startMs));

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

const story = (writes: readonly Write[]): string =>
  `(${writes
    .slice(1)
    .map(({ value, startMs, latestMs }) => `${value} ${ms(startMs)}..${ms(latestMs)}`)
    .join(', ')})`;
