import { join } from 'node:path';
import { toTfsError } from '../../../common/errors.ts';
import { blockFileName } from '../../../common/format/file-names.ts';
import { decodeIdx } from '../../../common/format/idx.ts';
import { sealOf } from '../../../common/format/ops.ts';
import { readWhole } from '../block-files.ts';
import type { BlockUnderCheck, Findings, MountUnderCheck } from './step.ts';

/** Each index file says exactly what the records of its sealed block say. */
export async function checkIndexFiles(mount: MountUnderCheck, found: Findings): Promise<string> {
  let checked = 0;
  let missing = 0;
  for (const block of mount.blocks) {
    if (block.ops === undefined || sealOf(block.ops, block.generation) === undefined) continue;
    if (!block.indexes.includes(block.generation)) {
      missing++;
      continue;
    }
    if (block.facts === undefined) continue;
    checked++;
    const name = blockFileName(block.block, block.generation, 'idx');
    try {
      const why = disagreement(block, await readWhole(join(mount.path, 'blocks', name)));
      if (why !== undefined)
        found.damage(
          `${name}: ${why}. Stop its DataServer and remove the file: it is rebuilt from the block`,
        );
    } catch (error) {
      found.damage(toTfsError(error).message);
    }
  }
  if (missing > 0)
    found.note(`${missing} sealed blocks have no index file; each is rebuilt when its block is used`);
  return `${checked} index files`;
}

function disagreement(block: BlockUnderCheck, bytes: Buffer): string | undefined {
  const decoded = decodeIdx(bytes);
  if (!decoded.ok) return decoded.why;
  const { header } = decoded.value;
  const superblock = block.superblock!;
  const facts = block.facts!;
  if (
    header.block !== block.block ||
    header.generation !== block.generation ||
    header.session !== superblock.session ||
    header.clusterUuid !== superblock.clusterUuid
  )
    return 'it is the index of another block';
  if (header.length !== facts.length || header.slots !== facts.slots)
    return `it is of ${header.slots} slots in ${header.length} bytes, the block has ${facts.slots} in ${facts.length}`;
  if (header.offsetsCrc !== facts.offsetsCrc) return 'its offsets are not those of the records';
  if (header.sha1sCrc !== facts.sha1sCrc) return 'its SHA-1s are not those of the records';
  if (decoded.value.columns.flags.some((flags) => flags !== 0)) return 'it calls records lost that are there';
  return undefined;
}
