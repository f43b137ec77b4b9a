import { readFileSync, writeFileSync } from 'node:fs';
import { blockSeed, encodeRecordHeader, type RecordHeader } from '../../common/format/record.ts';
import { sourceOfBuffer } from '../../common/format/source.ts';
import { decodeSuperblock } from '../../common/format/superblock.ts';
import { walkBlock } from '../../common/format/walk.ts';

/**
 * Makes a record of a block file another one that verifies just as well: nothing but the other replicas tells that it is
 * not what was written.
 */
export async function writeOtherRecord(path: string, slot: number): Promise<void> {
  const bytes = readFileSync(path);
  const superblock = decodeSuperblock(bytes);
  if (!superblock.ok) throw new Error(`${path}: ${superblock.why}`);
  let found: { header: RecordHeader; offset: number } | undefined;
  await walkBlock(sourceOfBuffer(bytes), superblock.value, {
    onRecord: ({ header, offset }) => {
      if (header.slot === slot) found = { header, offset };
    },
  });
  if (found === undefined) throw new Error(`${path} has no slot ${slot}`);
  const { header, offset } = found;
  const other = encodeRecordHeader(
    { ...header, mtimeMs: header.mtimeMs + 1 },
    blockSeed(superblock.value),
    offset,
  );
  other.copy(bytes, offset);
  writeFileSync(path, bytes);
}
