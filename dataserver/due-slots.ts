import { type OpsState, OpType, purgeableSlots, slotFlagsOf } from '../common/format/ops.ts';
import { type FileId, isAlias, type Slot } from '../common/ids.ts';
import { NameFlag } from '../common/wire/messages.ts';
import type { Faults } from './block/store.ts';

/** Records that may be purged, see {@link purgeableSlots}. */
export const dueSlots = (
  state: OpsState,
  nowMs: number,
  windowMs: number,
  faults: Faults | undefined,
): Slot[] =>
  faults?.has('purge-by-counter')
    ? slotsWithoutReferences(state, nowMs, windowMs)
    : purgeableSlots(state, nowMs, windowMs);

/** A planted bug: names are counted when they are made and when they are deleted, and not when they come back. */
function slotsWithoutReferences(state: OpsState, nowMs: number, windowMs: number): Slot[] {
  const { aliases, deletions, recentOps } = state;
  const targetOf = (fileId: FileId): number => {
    if (!isAlias(fileId)) return fileId;
    const at = aliases?.find(fileId) ?? -1;
    return at < 0 ? -1 : aliases!.targetAt(at);
  };
  const references = new Map<number, number>();
  const count = (slot: number, by: number): unknown => references.set(slot, (references.get(slot) ?? 1) + by);
  for (let i = 0; i < (aliases?.count ?? 0); i++) count(aliases!.targetAt(i), 1);
  for (const { type, fileId } of recentOps?.values() ?? [])
    if (type === OpType.DELETE) count(targetOf(fileId), -1);
  const isOver = (slot: number): boolean =>
    (deletions?.secondsOf(slot as FileId) ?? 0) * 1000 + windowMs <= nowMs &&
    (slotFlagsOf(state, slot as Slot) & NameFlag.PURGED) === 0;
  return [...references]
    .filter(([slot, left]) => slot >= 0 && left <= 0 && isOver(slot))
    .map(([slot]) => slot as Slot)
    .sort((a, b) => a - b);
}
