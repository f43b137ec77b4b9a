import type { ServerId, Version } from '../ids.ts';
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
 * count, in the order of (version, seq); and because nobody ordered those of one against those of the other, a name
 * that either side left deleted or hidden is deleted or hidden.
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
  const merged = cloneOpsState(foldAll(unionOf(logs)));
  for (const log of logs) {
    for (const other of logs) {
      const own = missingIn(other, log);
      if (own.length > 0 && missingIn(log, other).length > 0) bury(merged, log, own);
    }
  }
  merged.seal = undefined;
  merged.generation = undefined;
  return merged;
}

/** A SNAPSHOT for another replica: a SEAL or a generation is a fact about one replica, which no other may take over. */
export function withoutFacts(op: Op): Op {
  if (op.type !== OpType.SNAPSHOT || (op.state.seal === undefined && op.state.generation === undefined))
    return op;
  return { ...op, state: { ...op.state, seal: undefined, generation: undefined } };
}

/** Names that this log, by operations that another one lacks, left deleted or hidden, stay so. */
function bury(merged: OpsState, log: OpsLogContent, own: readonly Op[]): void {
  const state = foldAll(log);
  for (const op of own) {
    if (!('fileId' in op)) continue;
    const flags = (nameFlagsOf(state, op.fileId) ?? 0) & (NameFlag.DELETED | NameFlag.HIDDEN);
    const before = nameFlagsOf(merged, op.fileId);
    if (before !== undefined && (before | flags) !== before) setNameFlags(merged, op.fileId, before | flags);
  }
}

/** Operations of `log` that `other` does not have, neither by themselves nor folded into the SNAPSHOT it begins with. */
function missingIn(other: OpsLogContent, log: OpsLogContent): Op[] {
  const places = new Set(other.map(placeOf));
  const first = other[0];
  const folded = first?.type === OpType.SNAPSHOT ? first : undefined;
  return log.filter((op) => !places.has(placeOf(op)) && (folded === undefined || compareOps(op, folded) > 0));
}

/** A SNAPSHOT stands for everything before it, also where it was not the first in its file. */
function sinceSnapshot(log: OpsLogContent): OpsLogContent {
  const at = log.findLastIndex((op) => op.type === OpType.SNAPSHOT);
  return at <= 0 ? log : log.slice(at);
}

function unionOf(logs: readonly OpsLogContent[]): Op[] {
  const byPlace = new Map<string, Op>();
  for (const log of logs) {
    for (const op of log) {
      const place = placeOf(op);
      const known = byPlace.get(place);
      // The place of a SNAPSHOT is that of the newest operation in it: beside that operation alone it says more.
      if (known === undefined || op.type === OpType.SNAPSHOT) byPlace.set(place, op);
    }
  }
  return [...byPlace.values()].sort(compareOps);
}

function foldAll(ops: readonly Op[]): OpsState {
  const state = emptyOpsState();
  for (const op of ops) foldOp(state, op);
  return state;
}

const placeOf = ({ version, seq }: Op): string => `${version.epoch}.${version.n}.${seq}`;

function compareEnds(a: OpsLogContent, b: OpsLogContent): number {
  const [lastA, lastB] = [a.at(-1), b.at(-1)];
  if (lastA === undefined || lastB === undefined) return a.length - b.length;
  return compareOps(lastA, lastB);
}
