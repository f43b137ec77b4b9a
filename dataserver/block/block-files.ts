import { toTfsError } from '../../common/errors.ts';
import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import {
  emptyOpsState,
  foldOp,
  type Op,
  type OpPlace,
  type OpsState,
  readOpsFile,
} from '../../common/format/ops.ts';
import { decodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import type { BlockId } from '../../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { mark } from '../../common/marks.ts';
import { inBlocks, type StoreContext } from './context.ts';
import type { OpsFilePlace } from './ops-file-writer.ts';

/** Numbers of the files of one block. */
export interface Found {
  readonly generations: number[];
  /** Generations of its index files. */
  readonly indexes: number[];
  /** Numbers of its ops logs. */
  readonly logs: number[];
}

export interface Head {
  readonly superblock: Superblock | undefined;
  readonly fileBytes: number;
  readonly why: string | undefined;
}

/** What the files of a block say that it is. */
export interface BlockFiles {
  readonly head: Head;
  readonly log: OpenedLog;
  readonly generation: number;
  /** Why it cannot be used, if it cannot. */
  readonly why: string | undefined;
}

export function filesByBlock(names: readonly string[]): Map<BlockId, Found> {
  const found = new Map<BlockId, Found>();
  for (const name of names) {
    const file = parseBlockFileName(name);
    if (file === undefined) continue;
    const entry = found.get(file.block) ?? { generations: [], indexes: [], logs: [] };
    found.set(file.block, entry);
    if (file.kind === 'blk') entry.generations.push(file.number);
    if (file.kind === 'idx') entry.indexes.push(file.number);
    if (file.kind === 'ops') entry.logs.push(file.number);
  }
  return found;
}

/** Superblock and ops log; no records. The log tells which generation of the file is the block. */
export async function readFiles(context: StoreContext, block: BlockId, found: Found): Promise<BlockFiles> {
  const heads = new Map<number, Head>();
  for (const number of found.generations) heads.set(number, await readSuperblock(context, block, number));
  // The salt is the same in all of them.
  const salted = [...heads.values()].find(({ superblock }) => superblock !== undefined)?.superblock;
  const log = await readLog(context, salted, block, found.logs);
  // Without a log the least that can be true: a replica that claims too much has no others to be made whole from.
  const generation =
    log.why === undefined ? (log.state.generation?.generation ?? 0) : Math.min(...found.generations);
  const head = heads.get(generation) ?? lostHead(block, generation);
  return { head, log, generation, why: head.why ?? log.why };
}

/** The log tells which generation it is; the file is not there. */
const lostHead = (block: BlockId, generation: number): Head => ({
  superblock: undefined,
  fileBytes: 0,
  why: `${blockFileName(block, generation, 'blk')}: it was committed and is gone`,
});

async function readSuperblock(context: StoreContext, block: BlockId, generation: number): Promise<Head> {
  const name = blockFileName(block, generation, 'blk');
  let fileBytes = 0;
  const bad = (why: string): Head => ({ superblock: undefined, fileBytes, why: `${name}: ${why}` });
  try {
    const file = await context.open(name, 'read');
    const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
    try {
      fileBytes = await file.size();
      if ((await file.read(bytes, 0)) < SUPERBLOCK_BYTES) return bad('shorter than a superblock');
    } finally {
      await file.close();
    }
    const decoded = decodeSuperblock(bytes);
    if (!decoded.ok) return bad(decoded.why);
    const { value } = decoded;
    if (value.block !== block || value.generation !== generation) return bad('superblock of another block');
    if (value.clusterUuid !== context.clusterUuid) return bad(`superblock of cluster ${value.clusterUuid}`);
    return { superblock: value, fileBytes, why: undefined };
  } catch (error) {
    return bad(toTfsError(error).message);
  }
}

export interface OpenedLog {
  readonly place: OpsFilePlace;
  /** What that is the sum of. */
  readonly ops: readonly Op[];
  readonly state: OpsState;
  readonly why: string | undefined;
  /** Of a log that cannot be used: the place of its newest operation, where its end tells. */
  readonly newest: OpPlace | undefined;
}

/**
 * The newest log of a block. A torn end is an append that was never acknowledged: it is cut off before the next one.
 * Anything else that does not read is damage to operations that were acknowledged: the block must not answer.
 */
export async function readLog(
  context: StoreContext,
  superblock: Superblock | undefined,
  block: BlockId,
  logs: readonly number[],
): Promise<OpenedLog> {
  const n = Math.max(0, ...logs);
  const name = blockFileName(block, n, 'ops');
  const state = emptyOpsState();
  const salt = superblock?.salt ?? Buffer.alloc(16);
  const place = { block, n, salt, goodLength: 0, torn: false, inherited: true };
  const bad = (why: string, ops: readonly Op[] = [], newest?: OpPlace): OpenedLog => ({
    place,
    ops,
    state,
    why: `${name}: ${why}`,
    newest,
  });
  if (logs.length === 0) return { ...bad(''), why: `block ${block} has no ops log` };
  let bytes: Buffer;
  try {
    bytes = await context.disk.readFile(inBlocks(name));
  } catch (error) {
    if (!context.faults.has('eio-as-torn')) return bad(toTfsError(error).message);
    bytes = Buffer.alloc(0);
  }
  const decoded = readOpsFile(bytes);
  if (!decoded.ok) return bad(decoded.why);
  const { header, ops, goodLength, end, last, why } = decoded.value;
  if (header.block !== block || header.n !== n || (superblock && !header.salt.equals(superblock.salt)))
    return bad('ops log of another block');
  for (const op of ops) foldOp(state, op);
  if (end === 'corrupt') return bad(`damaged at ${goodLength} (${why})`, ops, last);
  if (state.cfg === undefined) return bad('no configuration');
  if (end === 'torn') {
    mark('ops-log-torn');
    context.log.info({ block, name, goodLength }, 'the end of an ops log was torn; it is cut');
  }
  // The newest one is complete: a log gets its name when its contents are durable.
  for (const older of logs)
    if (older !== n) await context.discard(inBlocks(blockFileName(block, older, 'ops')));
  const found = { ...place, goodLength, torn: end === 'torn' };
  return { place: found, ops, state, why: undefined, newest: undefined };
}
