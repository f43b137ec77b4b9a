import { join } from 'node:path';
import { isTfsError, TfsError, toTfsError } from '../../../common/errors.ts';
import { blockFileName } from '../../../common/format/file-names.ts';
import { type OpsState, OpType } from '../../../common/format/ops.ts';
import { openBlockFile, readOpsLog } from '../block-files.ts';
import type { BlockUnderCheck, Findings, MountUnderCheck } from './step.ts';

/** Each block file starts with the superblock of just that block, generation and cluster. */
export async function checkSuperblocks(mount: MountUnderCheck, found: Findings): Promise<string> {
  for (const block of mount.blocks) await checkSuperblock(mount, block, found);
  return `${mount.blocks.length} superblocks`;
}

async function checkSuperblock(
  mount: MountUnderCheck,
  block: BlockUnderCheck,
  found: Findings,
): Promise<void> {
  try {
    const file = await openBlockFile(join(mount.path, 'blocks', block.fileName));
    await file.source.close();
    const why = file.why ?? misplaced(mount, block, file.superblock!);
    if (why === undefined) block.superblock = file.superblock;
    else
      found.damage(
        `${block.fileName}: ${why}. Its pictures are on its other replicas; "tfs salvage" may find them here`,
      );
  } catch (error) {
    if (!vanished(mount, error)) found.damage(`${block.fileName}: ${toTfsError(error).message}`);
  }
}

function misplaced(
  mount: MountUnderCheck,
  block: BlockUnderCheck,
  s: NonNullable<BlockUnderCheck['superblock']>,
): string | undefined {
  if (s.block !== block.block || s.generation !== block.generation)
    return `it is block ${s.block}, generation ${s.generation}, under a wrong name`;
  if (s.clusterUuid !== mount.clusterUuid) return `it belongs to cluster ${s.clusterUuid}`;
  return undefined;
}

/** Each block has an ops log that reads to its end, or to an append that the power failure tore. */
export async function checkOpsLogs(mount: MountUnderCheck, found: Findings): Promise<string> {
  let logs = 0;
  let ops = 0;
  for (const block of mount.blocks) {
    if (block.log === undefined) {
      found.damage(`block ${block.block} has no ops log: what was deleted in it is only known elsewhere`);
      continue;
    }
    logs++;
    try {
      ops += await checkOpsLog(mount, block, found);
    } catch (error) {
      if (!vanished(mount, error)) found.damage(`block ${block.block}: ${toTfsError(error).message}`);
    }
  }
  return `${logs} logs, ${ops} operations`;
}

/** @returns operations in it */
async function checkOpsLog(mount: MountUnderCheck, block: BlockUnderCheck, found: Findings): Promise<number> {
  const name = blockFileName(block.block, block.log!, 'ops');
  const log = await readOpsLog(join(mount.path, 'blocks', name));
  if (typeof log === 'string') {
    found.damage(`${log}. The same operations are in the logs of the other replicas`);
    return 0;
  }
  const { file, state } = log;
  const { header } = file;
  const salt = block.superblock?.salt;
  if (header.block !== block.block || header.n !== block.log || (salt && !header.salt.equals(salt))) {
    found.damage(`${name} is the ops log of another block`);
    return 0;
  }
  const { ops } = file;
  if (file.end === 'corrupt')
    found.damage(
      `${name} is damaged at ${file.goodLength} (${file.why}); ${file.beyond.length} operations behind it are good. ` +
        'The lost ones are in the logs of the other replicas',
    );
  if (file.end === 'torn') found.note(`${name} ends in an append that was never acknowledged`);
  if (state.cfg === undefined) found.damage(`${name} has no configuration`);
  let seq = 0;
  for (const op of ops) {
    if (op.type === OpType.SEAL || op.type === OpType.GEN_COMMIT) continue;
    if (op.type !== OpType.SNAPSHOT && op.seq !== seq + 1)
      found.damage(`${name}: operation ${op.seq} follows operation ${seq}`);
    seq = op.seq;
  }
  block.ops = state;
  await settleGeneration(mount, block, state, found);
  return ops.length;
}

/** The file that the log speaks of is the block; a newer one is of a compaction that was never committed. */
async function settleGeneration(
  mount: MountUnderCheck,
  block: BlockUnderCheck,
  state: OpsState,
  found: Findings,
): Promise<void> {
  const committed = state.generation?.generation ?? 0;
  if (committed === block.generation) return;
  const name = blockFileName(block.block, committed, 'blk');
  if (!block.generations.includes(committed)) {
    found.damage(`${name} is not there: the ops log says that it is the block. It is on other replicas`);
    return;
  }
  block.generation = committed;
  block.fileName = name;
  await checkSuperblock(mount, block, found);
}

/** While a DataServer runs, it may replace a log or retire a block between two looks. */
export const vanished = (mount: MountUnderCheck, error: unknown): boolean =>
  mount.served && isTfsError(error instanceof TfsError ? error : toTfsError(error), 'NOT_FOUND');
