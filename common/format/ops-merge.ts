import { compareVersions, type ServerId, type Version } from '../ids.ts';
import { NameFlag } from '../wire/messages.ts';
import { type Configuration, compareOps, NO_OP_ID, type Op, OpType } from './op.ts';
import {
  cloneOpsState,
  emptyOpsState,
  foldOp,
  nameFlagsOf,
  type OpsState,
  setNameFlags,
} from './ops-state.ts';

/** The sequenced operations of one replica's log, oldest first; a log that was folded begins with a SNAPSHOT. */
export type OpsLogContent = readonly Op[];

export interface NextConfiguration extends Configuration {
  readonly version: Version;
  /** Of the operation that begins it. */
  readonly atMs: number;
}

/**
 * The one operation with which a new configuration begins, given the logs of all its members. Appended to each of
 * them, it makes their states equal, the configuration included: a CFG where they are equal already, else a SNAPSHOT
 * of what they have together, so that no crash can leave a replica with one and without the other.
 *
 * A log is the work of one sequencer after another, each of which began with everything that its members held. So of
 * two logs one is usually the beginning of the other. Where each has operations that the other lacks, all of them
 * count, in the order of (version, seq): those of an older version, which a member that was left out kept to itself,
 * were never acknowledged, and must not undo what was acknowledged without it. Only operations of one and the same
 * version that two sequencers gave out are in no order: a name that either of them left deleted or hidden stays so.
 *
 * @param logs at least one, with a configuration in each
 */
export function beginConfiguration(logs: readonly OpsLogContent[], next: NextConfiguration): Op {
  const { version, members, opsPrimary, atMs } = next;
  const newest = logs.reduce((best, log) => (compareEnds(log, best) > 0 ? log : best));
  const seq = Math.max(...logs.map((log) => log.at(-1)?.seq ?? 0)) + 1;
  const base = { version, seq, atMs, opId: NO_OP_ID };
  if (logs.every((log) => compareEnds(log, newest) === 0))
    return { ...base, type: OpType.CFG, members, opsPrimary };
  const state = mergeLogs(logs);
  state.version = version;
  state.seq = seq;
  state.cfg = { members: [...members] as ServerId[], opsPrimary };
  return { ...base, type: OpType.SNAPSHOT, state };
}

/** The state of all operations of all logs together; without the facts that each replica has for itself. */
export function mergeLogs(whole: readonly OpsLogContent[]): OpsState {
  const logs = whole.map(sinceSnapshot);
  const disputed = disputedVersions(logs);
  const merged = emptyOpsState();
  const union = unionOf(logs);
  union.forEach((op, i) => {
    foldOp(merged, op, { repeats: true });
    const following = union[i + 1];
    const isLastOfVersion = following === undefined || compareVersions(following.version, op.version) !== 0;
    if (isLastOfVersion && disputed.some((version) => compareVersions(version, op.version) === 0))
      for (const log of logs) bury(merged, log, op.version);
  });
  merged.seal = undefined;
  merged.generation = undefined;
  return cloneOpsState(merged);
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

/** Names that this log touched under that version, and left deleted or hidden then, are so. */
function bury(merged: OpsState, log: OpsLogContent, version: Version): void {
  const until = log.filter((op) => compareVersions(op.version, version) <= 0);
  const state = foldAll(until);
  for (const op of until) {
    if (!('fileId' in op) || compareVersions(op.version, version) !== 0) continue;
    const flags = (nameFlagsOf(state, op.fileId) ?? 0) & (NameFlag.DELETED | NameFlag.HIDDEN);
    const before = nameFlagsOf(merged, op.fileId);
    if (before !== undefined && (before | flags) !== before) setNameFlags(merged, op.fileId, before | flags);
  }
}

/** Operations of `log` that `other` does not have, neither by themselves nor folded into the SNAPSHOT it begins with. */
function missingIn(other: OpsLogContent, log: OpsLogContent): Op[] {
  const known = new Set(other.flatMap((op) => [placeOf(op), identityOf(op)]));
  const first = other[0];
  const folded = first?.type === OpType.SNAPSHOT ? first : undefined;
  return log.filter(
    (op) =>
      !known.has(op.type === OpType.SNAPSHOT ? placeOf(op) : identityOf(op)) &&
      (folded === undefined || compareOps(op, folded) > 0),
  );
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

function compareEnds(a: OpsLogContent, b: OpsLogContent): number {
  const [lastA, lastB] = [a.at(-1), b.at(-1)];
  if (lastA === undefined || lastB === undefined) return a.length - b.length;
  return compareOps(lastA, lastB);
}
