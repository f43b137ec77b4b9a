import { createHash } from 'node:crypto';
import { blockFileName } from '../../common/format/file-names.ts';
import { type GenerationFacts, slotFlagsOf } from '../../common/format/ops.ts';
import {
  checkPayload,
  decodeRecordHeader,
  recordHeaderBytes,
  recordSpan,
} from '../../common/format/record.ts';
import type { Slot } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { BlockStory } from './block-story.ts';
import type { MountLook } from './mount-look.ts';

/**
 * Reads the file of a later generation as it is durable on a mount: every record that is not purged there is in it, with the
 * bytes that were stored under its name in the beginning.
 *
 * @returns what is wrong with it; undefined for a good one, and for one that was damaged on purpose
 */
export function whyNotGeneration(
  mount: MountLook,
  story: BlockStory,
  facts: GenerationFacts,
): string | undefined {
  const { medium } = mount.server;
  const path = `blocks/${blockFileName(story.block, facts.generation, 'blk')}`;
  if (medium.damaged.has(path)) return undefined;
  const bytes = medium.durable(path);
  const state = mount.logs.get(story.block)?.state;
  if (bytes === undefined || state === undefined) return 'its file, or its log, is not durable';
  if (bytes.length < facts.length) return `its file has ${bytes.length} bytes of ${facts.length}`;
  const isPurged = (slot: number): boolean => (slotFlagsOf(state, slot as Slot) & NameFlag.PURGED) !== 0;
  const seed = story.seedOf(facts.generation);
  const hash = createHash('sha256');
  let next = 0;
  let at = SUPERBLOCK_BYTES;
  const leftOut = (until: number): number | undefined => {
    for (; next < until; next++) if (!isPurged(next)) return next;
    return undefined;
  };
  while (at < facts.length) {
    const decoded = decodeRecordHeader(bytes, at, seed, at);
    if (!decoded.ok) return `byte ${at}: ${decoded.why}`;
    const header = decoded.value;
    if (header.slot < next || header.slot >= story.slots)
      return `byte ${at}: slot ${header.slot} where ${next} belongs`;
    const missing = leftOut(header.slot);
    if (missing !== undefined) return `slot ${missing}, which lives, is not in it`;
    const from = at + recordHeaderBytes(header.size);
    const payload = bytes.subarray(from, from + header.size);
    const { header: first, payload: stored } = story.record(header.slot);
    const isSame =
      checkPayload(header, payload) &&
      payload.equals(stored) &&
      header.cookie === first.cookie &&
      header.sha1.equals(first.sha1) &&
      header.opId.equals(first.opId) &&
      header.suffixHash === first.suffixHash &&
      header.mediaType === first.mediaType &&
      header.mtimeMs === first.mtimeMs;
    if (!isSame) return `slot ${header.slot} is not what was stored`;
    hash.update(bytes.subarray(at, from));
    next = header.slot + 1;
    at += recordSpan(header.size);
  }
  const missing = leftOut(facts.slots);
  if (missing !== undefined) return `slot ${missing}, which lives, is not in it`;
  return hash.digest().equals(facts.digest) ? undefined : 'its digest is another one';
}
