import { join } from 'node:path';
import { crc32 } from '../../../common/crc.ts';
import { toTfsError } from '../../../common/errors.ts';
import { blockFileName } from '../../../common/format/file-names.ts';
import { SHA1_BYTES } from '../../../common/format/idx.ts';
import { type OpsState, sealOf } from '../../../common/format/ops.ts';
import { slotFlags, slotOffset, slotWord } from '../../../common/format/slot-word.ts';
import { type BlockWalk, walkBlock } from '../../../common/format/walk.ts';
import { NameFlag } from '../../../common/wire/messages.ts';
import { readOpsLog } from '../block-files.ts';
import { vanished } from './heads-steps.ts';
import { type BlockFacts, type BlockUnderCheck, Findings, type MountUnderCheck } from './step.ts';

/** Every record of every block: header and payload checksums, slots, and for a sealed one length and digest. */
export async function checkRecords(mount: MountUnderCheck, found: Findings): Promise<string> {
  let records = 0;
  let bytes = 0;
  for (const block of mount.blocks) {
    if (block.superblock === undefined) continue;
    try {
      const first = new Findings();
      let checked = await checkBlock(mount, block, first);
      let lines = first;
      if (first.damageCount > 0 && mount.served && sealOfBlock(block) === undefined) {
        // It may have been written to, or sealed, while it was read: what is damage is still there at a second look.
        lines = new Findings();
        await refreshOps(mount, block);
        checked = await checkBlock(mount, block, lines);
      }
      records += checked.records;
      bytes += checked.bytes;
      mount.progress(checked.bytes);
      const { damage, notes } = lines.result('', 0, '');
      for (const line of damage) found.damage(`${block.fileName}: ${line}`);
      for (const line of notes) found.note(`${block.fileName}: ${line}`);
    } catch (error) {
      if (!vanished(mount, error)) found.damage(toTfsError(error).message);
    }
  }
  return `${records} records, ${(bytes / (1024 * 1024)).toFixed(1)} MiB`;
}

async function checkBlock(
  mount: MountUnderCheck,
  block: BlockUnderCheck,
  found: Findings,
): Promise<{ readonly records: number; readonly bytes: number }> {
  const superblock = block.superblock!;
  const seal = sealOfBlock(block);
  const columns = new Columns();
  const damage: string[] = [];
  let records = 0;
  const source = await mount.openBlock(block.fileName);
  try {
    const walk = await walkBlock(source, superblock, {
      ...(seal === undefined ? {} : { end: seal.length, proven: seal }),
      onRecord: ({ header, offset, payloadOk, padOk }) => {
        records++;
        columns.add(header.slot, header.sha1);
        if (!payloadOk)
          damage.push(`slot ${header.slot} at ${offset}: ${header.size} bytes do not match their checksum`);
        if (!padOk) found.damage(`slot ${header.slot} at ${offset}: the padding behind it is not zero`);
      },
    });
    for (const { start, end, firstSlot, slots } of walk.holes)
      damage.push(
        `bytes ${start} to ${end} do not verify (${slots} records from slot ${firstSlot}); another replica has them`,
      );
    const isAsSealed = seal !== undefined && walk.digest?.equals(seal.digest);
    if (isAsSealed && walk.holes.length > 0)
      found.note(`${seal.lost} records are lost: they verified on no replica when the block was sealed`);
    else for (const line of damage) found.damage(line);
    if (walk.tornRecords > 0)
      found.note(`${walk.tornRecords} records at ${walk.validLength} were acknowledged to nobody`);
    if (seal !== undefined) {
      if (walk.slots !== seal.slots)
        found.damage(`${walk.slots} slots instead of the ${seal.slots} that were sealed`);
      if (walk.holes.length === 0 && !isAsSealed)
        found.damage('the records are not those that were sealed: the digest is another one');
      if (source.size > seal.length)
        found.note(`${source.size - seal.length} bytes behind the seal are not cut off yet`);
    } else if (!mount.served)
      found.note(`waits for its seal; ${walk.slots} records, ${walk.validLength} bytes`);
    if (block.ops !== undefined) checkOpsAgainst(block.ops, walk, found);
    block.facts = found.damageCount === 0 ? columns.facts(walk) : undefined;
    return { records, bytes: source.size };
  } finally {
    await source.close();
  }
}

const sealOfBlock = ({ ops, generation }: BlockUnderCheck) => ops && sealOf(ops, generation);

/** Operations name only records that are there. */
function checkOpsAgainst(ops: OpsState, walk: BlockWalk, found: Findings): void {
  for (let slot = walk.slots; slot < ops.slotFlags.length; slot++)
    if (ops.slotFlags[slot] !== 0)
      found.damage(`an operation names slot ${slot}, the last one is ${walk.slots - 1}`);
  const { aliases } = ops;
  for (let i = 0; aliases !== undefined && i < aliases.count; i++) {
    if (aliases.targetAt(i) >= walk.slots)
      found.damage(`second name ${aliases.idAt(i)} is of slot ${aliases.targetAt(i)}, which is not there`);
  }
}

async function refreshOps(mount: MountUnderCheck, block: BlockUnderCheck): Promise<void> {
  if (block.log === undefined) return;
  const log = await readOpsLog(join(mount.path, 'blocks', blockFileName(block.block, block.log, 'ops')));
  if (typeof log !== 'string') block.ops = log.state;
}

const NO_SHA1 = Buffer.alloc(SHA1_BYTES);

/** Collects what an index of the block must say. */
class Columns {
  #sha1sCrc = 0;
  #next = 0;
  #fingerprints = new Uint32Array(256);

  add(slot: number, sha1: Buffer): void {
    this.#fill(slot);
    this.#sha1sCrc = crc32(sha1, this.#sha1sCrc);
    this.#fingerprints[slot] = sha1.readUInt32LE(0);
    this.#next = slot + 1;
  }

  facts(walk: BlockWalk): BlockFacts | undefined {
    // Records beyond the end were seen too; a block that has some is not sealed, and its index is not needed.
    if (this.#next > walk.slots) return undefined;
    this.#fill(walk.slots);
    const offsets = walk.words.map((word) => slotWord(slotOffset(word)));
    if (walk.words.some((word) => (slotFlags(word) & NameFlag.LOST) !== 0)) return undefined;
    return {
      length: walk.validLength,
      slots: walk.slots,
      offsetsCrc: crc32(Buffer.from(offsets.buffer, offsets.byteOffset, offsets.byteLength)),
      sha1sCrc: this.#sha1sCrc,
      fingerprints: this.#fingerprints.slice(0, walk.slots),
    };
  }

  #fill(slot: number): void {
    if (slot >= this.#fingerprints.length) {
      const grown = new Uint32Array(Math.max(slot + 1, this.#fingerprints.length * 2));
      grown.set(this.#fingerprints);
      this.#fingerprints = grown;
    }
    for (; this.#next < slot; this.#next++) this.#sha1sCrc = crc32(NO_SHA1, this.#sha1sCrc);
  }
}
