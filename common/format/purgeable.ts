import type { FileId, Slot } from '../ids.ts';
import { NameFlag } from '../wire/messages.ts';
import { type OpsState, slotFlagsOf } from './ops-state.ts';

/**
 * Records whose bytes may go: every name of theirs, the slot itself and each alias, is deleted, and was deleted longer
 * ago than the window in which it may be undeleted. What is purged already is not among them.
 *
 * @param windowMs 0 for an erasure: what is deleted may go at once
 * @returns slots, lowest first
 */
export function purgeableSlots(state: OpsState, nowMs: number, windowMs: number): Slot[] {
  const { slotFlags, aliases, deletions } = state;
  if (deletions === undefined) return [];
  const isOver = (fileId: FileId): boolean => {
    const seconds = deletions.secondsOf(fileId);
    return seconds > 0 && (windowMs <= 0 || seconds * 1000 + windowMs <= nowMs);
  };
  const kept = new Set<Slot>();
  for (let i = 0; i < (aliases?.count ?? 0); i++) {
    const isDeleted = (aliases!.flagsAt(i) & NameFlag.DELETED) !== 0;
    if (!isDeleted || !isOver(aliases!.idAt(i))) kept.add(aliases!.targetAt(i));
  }
  const due: Slot[] = [];
  for (let slot = 0 as Slot; slot < slotFlags.length; slot++) {
    const flags = slotFlagsOf(state, slot) & (NameFlag.DELETED | NameFlag.PURGED);
    if (flags === NameFlag.DELETED && isOver(slot as number as FileId) && !kept.has(slot)) due.push(slot);
  }
  return due;
}

/**
 * Of records that somebody agreed to erase with all their names, those whose names are all deleted, whenever that was, and
 * are no more than there were when it was agreed.
 *
 * @param agreed by slot: how many aliases it had then
 * @returns slots, lowest first
 */
export function erasableSlots(state: OpsState, agreed: ReadonlyMap<Slot, number>): Slot[] {
  const { aliases } = state;
  const counts = new Map<Slot, number>();
  for (let i = 0; i < (aliases?.count ?? 0); i++) {
    const target = aliases!.targetAt(i);
    if (agreed.has(target)) counts.set(target, (counts.get(target) ?? 0) + 1);
  }
  return purgeableSlots(state, 0, 0).filter((slot) => (counts.get(slot) ?? 0) <= (agreed.get(slot) ?? -1));
}

/** Of these slots, those that are not purged. */
export const unpurgedOf = (state: OpsState, slots: Iterable<Slot>): Slot[] =>
  [...slots].filter((slot) => (slotFlagsOf(state, slot) & NameFlag.PURGED) === 0);
