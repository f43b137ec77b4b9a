import { assert } from '../../common/errors.ts';
import type { Hole } from '../../common/format/walk.ts';
import type { SealOrder } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import { walk } from './recover.ts';

/** A block as it would be if it were sealed now. */
export interface Survey {
  /** End of the last record at or below the length that was asked for. */
  readonly length: number;
  readonly slots: number;
  /** The slot words, without the names' own flags. */
  readonly words: Uint32Array;
  readonly digest: Buffer;
  /** Spans that do not verify; the digest says that they are lost. */
  readonly holes: readonly Hole[];
  /** Some of them the disk failed to read. */
  readonly unread: boolean;
  /** 20 bytes a slot; zeros where there is no record. */
  readonly sha1s: Buffer;
}

/** What a walked block holds below a length. It is walked once more only where not all of it is there. */
export async function surveyFor(
  context: StoreContext,
  block: Block,
  { length, slots }: Pick<SealOrder, 'length' | 'slots'>,
): Promise<Survey> {
  const [index, tail] = [block.index!, block.tail!];
  const isWhole = !tail.stale && index.length >= length && !tail.holes.some(({ start }) => start < length);
  if (!isWhole) {
    const proven = { length, slots };
    const walked = await walk(context, block, index.file, { end: length, proven, tolerant: true });
    assert(walked.digest !== undefined, 'of a block that is known to its end there is a digest');
    tail.missing = walked.holes;
    return { ...walked, digest: walked.digest, length: walked.validLength };
  }
  const count = index.length === length ? index.count : index.slotAt(length);
  const digest =
    index.length === length
      ? tail.digest
      : (await walk(context, block, index.file, { end: length, checkPayloads: false })).digest;
  assert(digest !== undefined, 'a block without holes has a digest');
  return {
    length: count === index.count ? index.length : index.offsetOf(count),
    slots: count,
    words: index.words.slice(0, count),
    digest,
    holes: [],
    unread: false,
    sha1s: tail.sha1s(count),
  };
}
