import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import {
  decodeIdxHeader,
  decodeIdxSha1s,
  decodeIdxSlots,
  encodeIdx,
  IDX_LOST,
  type IdxHeader,
  type IdxIdentity,
  idxLayout,
  SHA1_BYTES,
} from '../../common/format/idx.ts';
import { LOST_RECORDS_MAX } from '../../common/format/op.ts';
import { decodeRecordHeader, RECORD_HEADER_BYTES, recordHeaderBytes } from '../../common/format/record.ts';
import { slotFlags, slotOffset, slotWord } from '../../common/format/slot-word.ts';
import { mark } from '../../common/marks.ts';
import type { DiskFile } from '../../common/seams/disk.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { Block } from './block.ts';
import { inBlocks, type StoreContext } from './context.ts';
import { LoadedIndex } from './loaded-index.ts';
import { applyNameFlags, walk } from './recover.ts';
import { markSuspect } from './suspect.ts';

/** Loads the index of a sealed block: from its index file, or, where that is missing or not its own, from its records. */
export async function loadSealed(context: StoreContext, block: Block): Promise<LoadedIndex> {
  block.sound();
  const seal = block.seal!;
  let file: DiskFile | undefined;
  try {
    file = await context.open(block.fileName, 'read');
    const words = (await wordsOfIdx(context, block)) ?? (await rebuild(context, block, file));
    const index = new LoadedIndex(file, words, words.length, seal.length, block.seed);
    if (!seal.complete) block.provenLength = await lastWatermark(index);
    const state = await block.ops.warm();
    // Without a pause: an op that is applied from now on finds the index.
    applyNameFlags(index, state);
    block.index = index;
    // After a start this is the first that is known of what its deleted pictures take.
    if (block.hasFlags && block.measuresDead()) context.changed(block.block);
    return index;
  } catch (error) {
    await file?.close();
    const failure = toTfsError(error, 'IO', `loading block ${block.block}`);
    if (isTfsError(failure, 'IO')) markSuspect(context, block, failure);
    throw failure;
  }
}

/**
 * Finds out how much of a sealed block is known to have been acknowledged, also where it cannot be loaded because its ops
 * log cannot be read.
 *
 * @throws TfsError IO where that cannot be told
 */
export async function proveLength(context: StoreContext, block: Block): Promise<void> {
  const { length } = block.seal!;
  const file = await context.open(block.fileName, 'read');
  try {
    const words = (await wordsOfIdx(context, block)) ?? (await rebuild(context, block, file));
    block.provenLength = await lastWatermark(new LoadedIndex(file, words, words.length, length, block.seed));
  } finally {
    await file.close();
  }
}

/** @returns undefined where the index file does not describe the sealed block, whatever the reason */
async function wordsOfIdx(context: StoreContext, block: Block): Promise<Uint32Array | undefined> {
  const name = idxName(block);
  const { slots } = block.seal!;
  // Every start of a server leaves a few of these; they cost no file.
  if (slots === 0) return new Uint32Array(0);
  const wanted = idxLayout(slots).sha1sAt;
  let bytes: Buffer;
  try {
    // The SHA-1s are of no use for reading; they are most of the file.
    bytes = await readPart(context, name, 0, context.faults.has('trust-index-ahead') ? undefined : wanted);
  } catch (error) {
    context.log.info({ block: block.block, reason: toTfsError(error).message }, 'no index file; rebuilding');
    return undefined;
  }
  const header = decodeIdxHeader(bytes);
  const why = header.ok ? differs(context, header.value, block) : header.why;
  const columns = header.ok && why === undefined ? decodeIdxSlots(bytes, header.value) : undefined;
  if (columns?.ok) {
    const words = columns.value.offsets;
    let lost = 0;
    for (let slot = 0; slot < words.length; slot++) {
      if (((columns.value.flags[slot] ?? 0) & IDX_LOST) === 0) continue;
      words[slot] = slotWord(slotOffset(words[slot]!), NameFlag.LOST);
      lost++;
    }
    if (Math.min(lost, LOST_RECORDS_MAX) === (block.seal!.lost ?? 0)) return words;
    // Sealed once more since it was written, with records that had been lost.
    mark('index-file-ignored');
    context.log.info({ block: block.block, name, lost }, 'an index file is older than its seal; rebuilding');
    return undefined;
  }
  mark('index-file-ignored');
  context.log.warn(
    { block: block.block, name, why: why ?? (columns as { why: string }).why },
    'an index file is not the one of its block; rebuilding',
  );
  return undefined;
}

/** The index must be of exactly the sealed block: one that is behind misses records, one ahead names what was cut. */
function differs(context: StoreContext, header: IdxHeader, block: Block): string | undefined {
  const own = identity(block);
  for (const key of Object.keys(own) as (keyof IdxIdentity)[]) {
    if (context.faults.has('trust-index-ahead') && (key === 'length' || key === 'slots')) continue;
    if (header[key] !== own[key]) return `${key} ${header[key]} instead of ${own[key]}`;
  }
  return undefined;
}

async function rebuild(context: StoreContext, block: Block, file: DiskFile): Promise<Uint32Array> {
  const seal = block.seal!;
  // The digest of a block with lost records depends on which payloads do not verify.
  const checkPayloads = seal.lost !== undefined;
  const walked = await walk(context, block, file, { end: seal.length, proven: seal, checkPayloads });
  const sound = walked.digest?.equals(seal.digest) && walked.slots === seal.slots;
  if (sound) {
    if (context.failure === undefined) await writeIdx(context, block, walked.words, walked.sha1s);
  } else {
    const error = new TfsError('CORRUPT', `block ${block.block}: its records are not what was sealed`);
    markSuspect(context, block, error);
  }
  return walked.words;
}

/** Writes the index file of a sealed block again where it does not describe it: the next start would have to walk. */
export async function mendIdx(context: StoreContext, block: Block): Promise<void> {
  if ((await wordsOfIdx(context, block)) !== undefined && (await sha1sOfIdx(context, block)) !== undefined)
    return;
  const file = await context.open(block.fileName, 'read');
  try {
    await rebuild(context, block, file);
  } finally {
    await file.close();
  }
}

/**
 * Writes the index file of a sealed block: temporary file, sync, rename, sync of the directory. It is only derived:
 * where it cannot be written the block is as good without.
 */
export async function writeIdx(
  context: StoreContext,
  block: Block,
  words: Uint32Array,
  sha1s: Buffer,
): Promise<void> {
  const name = idxName(block);
  const offsets = new Uint32Array(words.length);
  const flags = new Uint8Array(words.length);
  for (let slot = 0; slot < words.length; slot++) {
    offsets[slot] = slotWord(slotOffset(words[slot]!));
    if ((slotFlags(words[slot]!) & NameFlag.LOST) !== 0) flags[slot] = IDX_LOST;
  }
  const content = encodeIdx(identity(block), { offsets, flags, sha1s });
  // One after the other: a second writer of the temporary file would take it from under the first.
  block.indexWrite = block.indexWrite.then(() => replaceFile(context, name, content));
  await block.indexWrite;
}

async function replaceFile(context: StoreContext, name: string, content: Buffer): Promise<void> {
  if (context.failure !== undefined) return;
  try {
    await context.writeTemporary(`${name}.tmp`, [content]);
    await context.disk.rename(inBlocks(`${name}.tmp`), inBlocks(name));
    await context.syncBlocks();
  } catch (error) {
    context.failed(error, `writing ${name}`);
    await context.discard(inBlocks(`${name}.tmp`));
  }
}

/** @returns 20 bytes a slot, or undefined where the index file is not the block's own */
export async function sha1sOfIdx(context: StoreContext, block: Block): Promise<Buffer | undefined> {
  const name = idxName(block);
  const { slots } = block.seal!;
  if (slots === 0) return Buffer.alloc(0);
  try {
    const header = decodeIdxHeader(await readPart(context, name, 0, idxLayout(0).offsetsAt));
    if (!header.ok || differs(context, header.value, block) !== undefined) return undefined;
    const column = await readPart(context, name, idxLayout(slots).sha1sAt, slots * SHA1_BYTES);
    const sha1s = decodeIdxSha1s(column, header.value);
    return sha1s.ok ? sha1s.value : undefined;
  } catch (error) {
    context.log.info(
      { block: block.block, reason: toTfsError(error).message },
      'no index file to read SHA-1s from',
    );
    return undefined;
  }
}

async function readPart(
  context: StoreContext,
  name: string,
  position: number,
  length: number | undefined,
): Promise<Buffer> {
  if (length === undefined) return context.readFile(name);
  const file = await context.open(name, 'read');
  try {
    const bytes = Buffer.allocUnsafe(length);
    return bytes.subarray(0, await file.read(bytes, position));
  } finally {
    await file.close();
  }
}

/** Everything below the newest header's watermark was acknowledged by every member. */
async function lastWatermark(index: LoadedIndex): Promise<number> {
  for (let slot = index.count - 1; slot >= 0; slot--) {
    if ((slotFlags(index.words[slot]!) & (NameFlag.LOST | NameFlag.PURGED)) !== 0) continue;
    const offset = index.offsetOf(slot);
    const head = Buffer.allocUnsafe(Math.min(index.spanOf(slot), recordHeaderBytes(index.spanOf(slot))));
    if (head.length < RECORD_HEADER_BYTES || !(await fills(index, head, offset))) continue;
    const header = decodeRecordHeader(head, 0, index.seed, offset);
    if (header.ok) return header.value.ackedLength;
  }
  return 0;
}

/** A header that cannot be read proves nothing; whoever wants the record will hear why. */
async function fills(index: LoadedIndex, target: Buffer, offset: number): Promise<boolean> {
  try {
    return (await index.file.read(target, offset)) === target.length;
  } catch (error) {
    if (isTfsError(error, 'IO')) return false;
    throw error;
  }
}

function identity(block: Block): IdxIdentity {
  const { clusterUuid, session } = block.superblock!;
  const { length, slots } = block.seal!;
  return { clusterUuid, block: block.block, generation: block.generation, session, length, slots };
}

const idxName = (block: Block): string => blockFileName(block.block, block.generation, 'idx');
