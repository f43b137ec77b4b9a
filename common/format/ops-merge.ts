import { compareVersions, type ServerId, type Slot, type Version } from '../ids.ts';
import { mark } from '../marks.ts';
import { NameFlag } from '../wire/messages.ts';
import { type Configuration, compareOps, NO_OP_ID, type Op, type OpPlace, OpType } from './op.ts';
import { opsDigest } from './ops-digest.ts';
import {
  cloneOpsState,
  emptyOpsState,
  foldOp,
  nameFlagsOf,
  noteDeletion,
  type OpsState,
  setNameFlags,
  slotFlagsOf,
  unpurge,
} from './ops-state.ts';

/** The sequenced operations of one replica's log, oldest first; a log that was folded begins with a SNAPSHOT. */
export type OpsLogContent = readonly Op[];

/** What a replica on that server holds. */
export interface MemberLog {
  readonly server: ServerId;
  readonly ops: OpsLogContent;
}

export interface NextConfiguration extends Configuration {
  readonly version: Version;
  /** Of the operation that begins it. */
  readonly atMs: number;
  /** A planted bug in tests: a name that any log has left deleted stays so, whatever came later. */
  readonly tombstonesWin?: boolean;
}

/**
 * The one operation with which a new configuration begins, given the logs of all its members. Appended to each of
 * them, it makes their states equal, the configuration included: a CFG where they are equal already, else a SNAPSHOT
 * of what they have together, so that no crash can leave a replica with one and without the other.
 *
 * A log is the work of one sequencer after another, each of which began with everything that its members held. So of
 * two logs one is usually the beginning of the other. Where each has operations that the other lacks:
 *
 * - what a sequencer that was left out kept to itself was never acknowledged, and the logs show it (see
 *   {@link withoutAbandoned}): it never happened. A client that asks for it again gets it done then, behind everything
 *   that was acknowledged meanwhile.
 * - everything else counts, in the order of (version, seq). Only operations of one and the same version that two
 *   sequencers gave out are in no order: a name that either of them left deleted or hidden stays so.
 *
 * @param logs at least one, with a configuration in each
 */
export function beginConfiguration(logs: readonly MemberLog[], next: NextConfiguration): Op {
  const { version, members, opsPrimary, atMs, tombstonesWin } = next;
  const newest = newestOf(logs);
  const seq = Math.max(...logs.map(({ ops }) => ops.at(-1)?.seq ?? 0)) + 1;
  const base = { version, seq, atMs, opId: NO_OP_ID };
  if (logs.every(({ ops }) => compareEnds(ops, newest.ops) === 0) && areAlike(logs))
    return { ...base, type: OpType.CFG, members, opsPrimary };
  mark('ops-merged');
  const state = mergeLogs(logs, tombstonesWin);
  state.version = version;
  state.seq = seq;
  state.cfg = { members: [...members] as ServerId[], opsPrimary };
  return { ...base, type: OpType.SNAPSHOT, state };
}

/** Whether logs that end alike also add up to the same: two operations may have been given one place. */
function areAlike(logs: readonly MemberLog[]): boolean {
  const [first, ...others] = logs.map(({ ops }) => opsDigest(foldAll(ops)));
  return first === undefined || others.every((digest) => digest.equals(first));
}

/** The state of all operations of all logs together; without the facts that each replica has for itself. */
export function mergeLogs(whole: readonly MemberLog[], tombstonesWin = false): OpsState {
  const all = whole.map(({ server, ops }) => ({ server, ops: sinceSnapshot(ops) }));
  const logs = withoutAbandoned(all);
  const isInNewest = knowledgeOf(newestOf(all).ops);
  const disputed = disputedVersions(logs);
  const merged = emptyOpsState();
  const known = all.flatMap(({ ops }) => {
    const end = ops.at(-1);
    return end === undefined ? [] : [{ end, state: foldAll(ops) }];
  });
  const union = unionOf(logs).map((op) => withPurges(op, known));
  union.forEach((op, i) => {
    foldOp(merged, op, { repeats: true });
    // Whoever asks for it again must not be told that it is done: what came behind it may have undone it.
    if (!isInNewest(op)) merged.recentOps?.delete(op.opId.toString('hex'));
    const following = union[i + 1];
    const isLastOfVersion = following === undefined || compareVersions(following.version, op.version) !== 0;
    if (isLastOfVersion && disputed.some((version) => compareVersions(version, op.version) === 0))
      for (const log of logs) bury(merged, log, op.version);
  });
  if (tombstonesWin) for (const log of logs) bury(merged, log);
  merged.seal = undefined;
  merged.generation = undefined;
  return cloneOpsState(merged);
}

/**
 * The logs without the operations that were never acknowledged and will not be. One that was acknowledged was, under some
 * version, in the log of every member: its own version, or a later one that began with it. So where each version that
 * its log has gone through since has a member that lacks it, nobody was told that it is done; and unless it is in the
 * newest log, whose sequencer may still be at work on it, nobody will be.
 */
function withoutAbandoned(logs: readonly MemberLog[]): OpsLogContent[] {
  const known = logs.map(({ ops }) => knowledgeOf(ops));
  const newest = newestOf(logs);
  const isInNewest = known[logs.indexOf(newest)]!;
  const last = newest.ops.at(-1);
  // Within the newest version itself one log is the beginning of the other, or they are in dispute (below).
  const isOfNewest = (op: Op): boolean =>
    last !== undefined && compareVersions(op.version, last.version) === 0;
  return logs.map(({ server, ops }) => {
    /** Whether a member of that configuration, other than this one, lacks the operation. */
    const lacks = (op: Op, { members }: Configuration): boolean =>
      logs.some((other, i) => other.server !== server && members.includes(other.server) && !known[i]!(op));
    const begun: { readonly at: number; readonly configuration: Configuration }[] = [];
    ops.forEach((op, at) => {
      const configuration = configurationIn(op);
      if (configuration !== undefined) begun.push({ at, configuration });
    });
    const isAbandoned = (op: Op, at: number): boolean => {
      if (configurationIn(op) !== undefined || isOfNewest(op) || isInNewest(op)) return false;
      const own = begun.findLast((one) => one.at < at);
      const since = begun.filter((one) => one === own || one.at > at);
      const isLacked = own !== undefined && since.every(({ configuration }) => lacks(op, configuration));
      if (isLacked) mark('ops-abandoned');
      return isLacked;
    };
    return ops.filter((op, at) => !isAbandoned(op, at));
  });
}

function configurationIn(op: Op): Configuration | undefined {
  if (op.type === OpType.CFG) return op;
  return op.type === OpType.SNAPSHOT ? op.state.cfg : undefined;
}

/**
 * Unlike all other operations a purge cannot be undone by a later one, so one that had no effect yet must not stand in
 * the way of what was acknowledged without it. One that was acknowledged is in every log that goes on behind it: those
 * of its version have it from their sequencer, and later versions began with it.
 *
 * @returns the operation without the purges that do not count
 */
function withPurges(op: Op, known: readonly { readonly end: OpPlace; readonly state: OpsState }[]): Op {
  if (op.type !== OpType.PURGE_INTENT && op.type !== OpType.SNAPSHOT) return op;
  const behind = known.filter(({ end }) => compareOps(end, op) >= 0);
  const isPurged = (slot: Slot): boolean =>
    behind.every(({ state }) => (slotFlagsOf(state, slot) & NameFlag.PURGED) !== 0);
  if (op.type === OpType.PURGE_INTENT) {
    const slots = op.slots.filter(isPurged);
    if (slots.length < op.slots.length) mark('ops-purge-undone');
    return { ...op, slots };
  }
  const undone: Slot[] = [];
  op.state.slotFlags.forEach((flags, slot) => {
    if ((flags & NameFlag.PURGED) !== 0 && !isPurged(slot as Slot)) undone.push(slot as Slot);
  });
  if (undone.length === 0) return op;
  mark('ops-purge-undone');
  const state = cloneOpsState(op.state);
  for (const slot of undone) unpurge(state, slot, op.atMs);
  return { ...op, state };
}

/** Versions under which each of two logs has operations that the other lacks. */
function disputedVersions(logs: readonly OpsLogContent[]): Version[] {
  const disputed: Version[] = [];
  logs.forEach((log, i) => {
    for (const other of logs.slice(i + 1)) {
      const theirs = new Set(missingIn(log, other).map(({ version }) => versionKey(version)));
      for (const { version } of missingIn(other, log))
        if (theirs.delete(versionKey(version))) disputed.push(version);
    }
  });
  return disputed;
}

/** A SNAPSHOT for another replica: a SEAL or a generation is a fact about one replica, which no other may take over. */
export function withoutFacts(op: Op): Op {
  if (op.type !== OpType.SNAPSHOT || (op.state.seal === undefined && op.state.generation === undefined))
    return op;
  return { ...op, state: { ...op.state, seal: undefined, generation: undefined } };
}

/** Names that this log touched under that version, or any, and left deleted or hidden then, are so. */
function bury(merged: OpsState, log: OpsLogContent, version?: Version): void {
  const until = version === undefined ? log : log.filter((op) => compareVersions(op.version, version) <= 0);
  const state = foldAll(until);
  for (const op of until) {
    if (!('fileId' in op)) continue;
    if (version !== undefined && compareVersions(op.version, version) !== 0) continue;
    const flags = (nameFlagsOf(state, op.fileId) ?? 0) & (NameFlag.DELETED | NameFlag.HIDDEN);
    const before = nameFlagsOf(merged, op.fileId);
    if (before === undefined) continue;
    if ((before | flags) !== before) {
      mark('ops-tombstone-wins');
      setNameFlags(merged, op.fileId, before | flags);
    }
    // The later of all times: nobody's time to undelete is cut short.
    const deletedAt = state.deletions?.secondsOf(op.fileId) ?? 0;
    if (deletedAt > 0 && (before & NameFlag.PURGED) === 0) noteDeletion(merged, op.fileId, deletedAt * 1000);
  }
}

/** Operations of `log` that `other` does not have. */
function missingIn(other: OpsLogContent, log: OpsLogContent): Op[] {
  const isKnown = knowledgeOf(other);
  return log.filter((op) => !isKnown(op));
}

/** Whether a log has an operation, by itself or folded into the SNAPSHOT that it begins with. */
function knowledgeOf(log: OpsLogContent): (op: Op) => boolean {
  const known = new Set(log.flatMap((op) => [placeOf(op), identityOf(op)]));
  const first = log[0];
  const folded = first?.type === OpType.SNAPSHOT ? first : undefined;
  return (op) =>
    known.has(op.type === OpType.SNAPSHOT ? placeOf(op) : identityOf(op)) ||
    (folded !== undefined && compareOps(op, folded) <= 0);
}

/** A SNAPSHOT stands for everything before it, also where it was not the first in its file. */
function sinceSnapshot(log: OpsLogContent): OpsLogContent {
  const at = log.findLastIndex((op) => op.type === OpType.SNAPSHOT);
  return at <= 0 ? log : log.slice(at);
}

function unionOf(logs: readonly OpsLogContent[]): Op[] {
  const all = new Map(logs.flatMap((log) => log.map((op) => [identityOf(op), op])));
  // The place of a SNAPSHOT is that of the newest operation in it: beside that operation alone it says more.
  const snapshots = new Set([...all.values()].filter(({ type }) => type === OpType.SNAPSHOT).map(placeOf));
  return [...all.values()]
    .filter((op) => op.type === OpType.SNAPSHOT || !snapshots.has(placeOf(op)))
    .sort(compareOps);
}

function foldAll(ops: readonly Op[]): OpsState {
  const state = emptyOpsState();
  for (const op of ops) foldOp(state, op);
  return state;
}

const versionKey = ({ epoch, n }: Version): string => `${epoch}.${n}`;
const placeOf = ({ version, seq }: Op): string => `${versionKey(version)}.${seq}`;
/** Two sequencers of one version give the same places to different requests. */
const identityOf = (op: Op): string => `${placeOf(op)}.${op.type}.${op.opId.toString('hex')}`;

/** The log that goes furthest. */
const newestOf = (logs: readonly MemberLog[]): MemberLog =>
  logs.reduce((best, log) => (compareEnds(log.ops, best.ops) > 0 ? log : best));

function compareEnds(a: OpsLogContent, b: OpsLogContent): number {
  const [lastA, lastB] = [a.at(-1), b.at(-1)];
  if (lastA === undefined || lastB === undefined) return a.length - b.length;
  return compareOps(lastA, lastB);
}
