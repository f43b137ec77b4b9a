import { slotFlags } from '../../common/format/slot-word.ts';
import { type FileId, fileId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { LoadedIndex } from './loaded-index.ts';

/** Bytes of records in a block that no live name leads to. */
export interface DeadSpace {
  /** All of their names are deleted, and one may still be undeleted. */
  readonly inWindow: number;
  readonly garbage: number;
  /** They verified on no replica when the block was sealed. */
  readonly lost: number;
}

export const NO_DEAD_SPACE: DeadSpace = { inWindow: 0, garbage: 0, lost: 0 };

/** What the bytes of a block file are; they add up to its size. */
export interface BlockSpace extends DeadSpace {
  readonly superblocks: number;
  /** Records with a live name, with headers and padding. */
  readonly live: number;
  /** Behind the last record. */
  readonly preallocated: number;
}

export interface UndeleteWindow {
  /** When a name was deleted, in seconds since 1970; 0 where that is not known, or it is purged. */
  readonly deletedAtSeconds: (name: FileId) => number;
  readonly windowMs: number;
  /** Wall clock. */
  readonly nowMs: number;
}

/**
 * A record whose own name is deleted lives on while an alias does, and may be undeleted as long as any of its names.
 *
 * @returns also until when that stays so, if nobody does anything
 */
export function deadSpaceOf(
  index: Pick<LoadedIndex, 'words' | 'count' | 'aliases' | 'spanOf'>,
  { deletedAtSeconds, windowMs, nowMs }: UndeleteWindow,
): DeadSpace & { readonly untilMs: number } {
  const { words, count, aliases } = index;
  const kept = new Set<number>();
  /** Until when the aliases of a slot may be undeleted. */
  const undeletableMs = new Map<number, number>();
  for (let i = 0; i < (aliases?.count ?? 0); i++) {
    const target = aliases!.targetAt(i);
    if ((aliases!.flagsAt(i) & NameFlag.DELETED) === 0) kept.add(target);
    else {
      const endMs = deletedAtSeconds(aliases!.idAt(i)) * 1000 + windowMs;
      undeletableMs.set(target, Math.max(endMs, undeletableMs.get(target) ?? 0));
    }
  }
  let [inWindow, garbage, lost, untilMs] = [0, 0, 0, Number.POSITIVE_INFINITY];
  for (let slot = 0; slot < count; slot++) {
    const flags = slotFlags(words[slot]!);
    if (flags === 0) continue;
    const span = index.spanOf(slot);
    if ((flags & NameFlag.LOST) !== 0) lost += span;
    else if ((flags & NameFlag.PURGED) !== 0) garbage += span;
    else if ((flags & NameFlag.DELETED) !== 0 && !kept.has(slot)) {
      const endMs = Math.max(deletedAtSeconds(fileId(slot)) * 1000 + windowMs, undeletableMs.get(slot) ?? 0);
      if (endMs <= nowMs) garbage += span;
      else {
        inWindow += span;
        untilMs = Math.min(untilMs, endMs);
      }
    }
  }
  return { inWindow, garbage, lost, untilMs };
}

/** @param size of the file @param length where its records end */
export function blockSpaceOf(size: number, length: number, dead: DeadSpace): BlockSpace {
  const superblocks = Math.min(size, SUPERBLOCK_BYTES);
  const preallocated = Math.max(0, size - Math.max(length, superblocks));
  const live = Math.max(0, size - superblocks - preallocated - dead.inWindow - dead.garbage - dead.lost);
  return { ...dead, superblocks, preallocated, live };
}
