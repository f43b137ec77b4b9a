import { TfsError, toTfsError } from '../../common/errors.ts';
import { slotFlags, slotOffset } from '../../common/format/slot-word.ts';
import { encodeSuperblock } from '../../common/format/superblock.ts';
import { type WalkedRecord, walkBlock } from '../../common/format/walk.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { ReadPace, VerifyReport } from './api.ts';
import type { Block } from './block.ts';
import { isGone, type StoreContext } from './context.ts';
import { seededAs } from './faults.ts';
import { mendIdx } from './load.ts';
import type { LoadedIndex } from './loaded-index.ts';
import { markSuspect } from './suspect.ts';
import { TolerantSource } from './tolerant-source.ts';

/** What a replica in use says of itself, frozen: an OPEN block grows on while it is read. */
interface Claim {
  readonly index: LoadedIndex;
  readonly words: Uint32Array;
  readonly length: number;
  readonly slots: number;
  readonly digest: Buffer | undefined;
}

const NOTHING_READ = { records: 0, bytes: 0, digest: undefined, lost: 0 };

/**
 * Reads all of a replica as the next start of this process would find it, under its name and not through what is open:
 * superblock, every header and payload, the zeros between the records, the ops log, and the digest. Of an OPEN block
 * what is durable now. What does not verify makes the block SUSPECT; an index file that is not right is written again.
 *
 * It sees what the kernel gives it: a page that is in its cache is not read from the medium again.
 *
 * @returns undefined when the block was sealed meanwhile, which may have cut what was read, or compacted
 */
export async function verifyBlock(
  context: StoreContext,
  block: Block,
  index: LoadedIndex,
  pace?: ReadPace,
): Promise<VerifyReport | undefined> {
  const { state, generation } = block;
  const report = await verifyOnce(context, block, claimOf(block, index), pace);
  if (block.state !== state || block.generation !== generation) return undefined;
  const { problems } = report;
  if (problems.length === 0) {
    if (state === BlockState.SEALED) await mendIdx(context, block);
  } else if (!index.retired) {
    block.unsound = true;
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
    markSuspect(context, block, new TfsError('CORRUPT', `block ${block.block}: ${problems[0]}${more}`));
  }
  return report;
}

export const QUARANTINED_PROBLEM = 'quarantined: its superblock or its ops log cannot be read';

/** Of a block whose records could not be read at all. */
export const unreadReport = (problem: string): VerifyReport => ({ ...NOTHING_READ, problems: [problem] });

function claimOf(block: Block, index: LoadedIndex): Claim {
  const { count: slots, length } = index;
  const digest = block.seal?.digest ?? block.tail?.digest;
  return { index, words: index.words.subarray(0, slots), length, slots, digest };
}

async function verifyOnce(
  context: StoreContext,
  block: Block,
  claim: Claim,
  pace: ReadPace | undefined,
): Promise<VerifyReport> {
  const problems: string[] = [];
  const log = await block.ops.check();
  if (log !== undefined) problems.push(log);
  let file: DiskFile;
  try {
    file = await context.open(block.fileName, 'read');
  } catch (error) {
    const why = isGone(error) ? 'its file is gone' : toTfsError(error).message;
    return { ...NOTHING_READ, problems: [...problems, why] };
  }
  try {
    const source = await TolerantSource.of(pace === undefined ? file : paced(file, pace));
    if (source.size < claim.length)
      problems.push(`${at(source.size, claim.length)}: the file ends before them`);
    problems.push(...(await checkSuperblock(block, source)));
    const damage: string[] = [];
    const records = new RecordCheck(claim, damage);
    const walked = await walkBlock(source, seededAs(block.sound(), context.faults), {
      end: claim.length,
      proven: { length: claim.length, slots: claim.slots },
      ...(pace === undefined ? {} : { windowBytes: pace.pieceBytes }),
      onRecord: (record) => records.see(record),
    });
    records.finish(walked.words);
    for (const { start, end } of source.unreadable)
      problems.push(`${at(start, end)}: the disk cannot read them`);
    const isAsSealed = claim.digest === undefined || walked.digest?.equals(claim.digest);
    if (walked.holes.length === 0 && !isAsSealed)
      problems.push('the digest of its records is not the one of the block');
    // What was sealed as lost no repair will bring back: it is said once, and not as damage of this replica.
    const lost = isAsSealed ? (block.seal?.lost ?? 0) : 0;
    if (lost > 0) problems.push(`${lost} records are lost: they verified on no replica when it was sealed`);
    else problems.push(...damage);
    // With holes that no seal knows, the digest is one of nothing.
    const digest = walked.holes.length === 0 || isAsSealed ? walked.digest : undefined;
    return { records: records.seen, bytes: claim.length, digest, problems, lost };
  } finally {
    await file.close();
  }
}

const paced = (file: DiskFile, pace: ReadPace): Pick<DiskFile, 'read' | 'size'> => ({
  size: () => file.size(),
  read: (target, position) => pace.read(target.length, () => file.read(target, position)),
});

async function checkSuperblock(block: Block, source: TolerantSource): Promise<string[]> {
  const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
  await source.read(bytes, 0);
  if (bytes.equals(encodeSuperblock(block.sound()))) return [];
  return [`${at(0, SUPERBLOCK_BYTES)}: the superblock is damaged`];
}

/** Compares the records of a walk with what the index says is there: one problem for each that is not as it should be. */
class RecordCheck {
  /** Records that the walk came across, sound or not. */
  seen = 0;
  readonly #claim: Claim;
  readonly #problems: string[];
  readonly #found: Uint8Array;

  constructor(claim: Claim, problems: string[]) {
    this.#claim = claim;
    this.#problems = problems;
    this.#found = new Uint8Array(claim.slots);
  }

  see({ header, offset, span, payloadOk, padOk }: WalkedRecord): void {
    const { words, slots } = this.#claim;
    const { slot } = header;
    this.seen++;
    const where = `${at(offset, offset + span)} (slot ${slot})`;
    if (slot >= slots) this.#problems.push(`${where}: a record that is not in the index`);
    else {
      this.#found[slot] = 1;
      const known = words[slot]!;
      if ((slotFlags(known) & NameFlag.LOST) === 0 && slotOffset(known) !== offset)
        this.#problems.push(`${where}: the index has it at ${slotOffset(known)}`);
    }
    if (!payloadOk) this.#problems.push(`${where}: payload checksum mismatch`);
    if (!padOk) this.#problems.push(`${where}: the padding behind the payload is not zero`);
  }

  /** What should have been seen. @param walked says which slots a compaction has left out */
  finish(walked: Uint32Array): void {
    const { words, slots, length } = this.#claim;
    for (let slot = 0; slot < slots; slot++) {
      if (this.#found[slot] === 1 || (slotFlags(walked[slot] ?? 0) & NameFlag.PURGED) !== 0) continue;
      const start = slotOffset(words[slot]!);
      // Where a damaged index knows no boundaries, several slots lie in one place.
      let last = slot;
      while (last + 1 < slots && slotOffset(words[last + 1]!) === start) last++;
      const end = last + 1 < slots ? slotOffset(words[last + 1]!) : length;
      const which = last === slot ? `slot ${slot}` : `slots ${slot} to ${last}`;
      this.#problems.push(`${at(start, end)} (${which}): no valid header`);
      slot = last;
    }
  }
}

const at = (start: number, end: number): string => `bytes ${start} to ${end}`;
