import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isTfsError, TfsError } from '../../common/errors.ts';
import { parseBlockFileName } from '../../common/format/file-names.ts';
import { emptyOpsState, foldOp, type OpsFile, type OpsState, readOpsFile } from '../../common/format/ops.ts';
import { readExactly } from '../../common/format/source.ts';
import { decodeSuperblock, type Superblock } from '../../common/format/superblock.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';
import { type FileSource, type FileSourceOptions, openFileSource } from './file-source.ts';

/** Reads a whole small file. @throws TfsError as {@link openFileSource} */
export async function readWhole(path: string): Promise<Buffer> {
  const source = await openFileSource(path);
  try {
    return (await readExactly(source, 0, source.size)) ?? Buffer.alloc(0);
  } finally {
    await source.close();
  }
}

export interface OpenBlockFile {
  readonly source: FileSource;
  /** Absent where it is damaged; `why` says how. */
  readonly superblock: Superblock | undefined;
  readonly why: string | undefined;
}

export async function openBlockFile(path: string, options: FileSourceOptions = {}): Promise<OpenBlockFile> {
  const source = await openFileSource(path, options);
  try {
    const head = await readExactly(source, 0, Math.min(SUPERBLOCK_BYTES, source.size));
    const decoded = decodeSuperblock(head ?? Buffer.alloc(0));
    return decoded.ok
      ? { source, superblock: decoded.value, why: undefined }
      : { source, superblock: undefined, why: decoded.why };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The ops log that belongs to a block, and what it adds up to. */
export interface OpsBeside {
  readonly path: string;
  readonly file: OpsFile;
  readonly state: OpsState;
}

/**
 * The newest ops log of that block in the directory of its block file.
 *
 * @returns the log, or why there is none to use
 * @throws TfsError IO when the disk cannot read it
 */
export async function findOpsLog(blockPath: string, superblock: Superblock): Promise<OpsBeside | string> {
  const directory = dirname(blockPath);
  const numbers = (await readdir(directory))
    .map(parseBlockFileName)
    .filter((name) => name?.kind === 'ops' && name.block === superblock.block)
    .map((name) => name!.number)
    .sort((a, b) => b - a);
  let why = 'there is no ops log beside it';
  for (const n of numbers) {
    const path = join(directory, `${superblock.block}.${n}.ops`);
    const log = await readOpsLog(path);
    if (typeof log === 'string') why = log;
    else if (!log.file.header.salt.equals(superblock.salt)) why = `${path} is the ops log of another block`;
    else return log;
  }
  return why;
}

/** @returns the log, or why it cannot be used */
export async function readOpsLog(path: string): Promise<OpsBeside | string> {
  let bytes: Buffer;
  try {
    bytes = await readWhole(path);
  } catch (error) {
    if (isTfsError(error, 'IO')) return error.message;
    throw error;
  }
  const decoded = readOpsFile(bytes);
  if (!decoded.ok) return `${path}: ${decoded.why}`;
  const state = emptyOpsState();
  // Behind damage every operation still counts: a delete that is left out would bring a picture back.
  for (const op of [...decoded.value.ops, ...decoded.value.beyond]) foldOp(state, op);
  return { path, file: decoded.value, state };
}

/** @throws TfsError CONFIG when it is not one digit of 1 to 9 */
export function parseDigit(text: string): number {
  if (!/^[1-9]$/.test(text))
    throw new TfsError('CONFIG', `--digit ${text}: the digit of a cluster is 1 to 9`);
  return Number(text);
}
