import type { FileId, ServerId, Version } from '../ids.ts';
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
export function mergeLogs(logs: readonly OpsLogContent[]): OpsState {
  const all = unionOf(logs);
  const merged = cloneOpsState(foldAll(all));
  for (const log of logs) {
    const own = placesOf(log);
    const foreign = all.filter((op) => !own.has(placeOf(op)));
    // The beginning of another log: nothing in it that the others do not know.
    if (foreign.length === 0 || compareOps(foreign[0]!, log.at(-1) ?? foreign[0]!) > 0) continue;
    bury(merged, log, logs);
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

/** Names that this log, in what only it has, left deleted or hidden, stay so. */
function bury(merged: OpsState, log: OpsLogContent, logs: readonly OpsLogContent[]): void {
  const common = logs.map(placesOf);
  const touched = new Set<FileId>();
  for (const op of log)
    if ('fileId' in op && !common.every((places) => places.has(placeOf(op)))) touched.add(op.fileId);
  if (touched.size === 0) return;
  const own = foldAll(log);
  for (const fileId of touched) {
    const flags = (nameFlagsOf(own, fileId) ?? 0) & (NameFlag.DELETED | NameFlag.HIDDEN);
    const before = nameFlagsOf(merged, fileId);
    if (before !== undefined && (before | flags) !== before) setNameFlags(merged, fileId, before | flags);
  }
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
const placesOf = (log: OpsLogContent): ReadonlySet<string> => new Set(log.map(placeOf));

function compareEnds(a: OpsLogContent, b: OpsLogContent): number {
  const [lastA, lastB] = [a.at(-1), b.at(-1)];
  if (lastA === undefined || lastB === undefined) return a.length - b.length;
  return compareOps(lastA, lastB);
}
