import { copyFile, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LeveldownKv } from '../../../common/adapters/leveldown-kv.ts';
import { toTfsError } from '../../../common/errors.ts';
import { type BlockId, isAlias } from '../../../common/ids.ts';
import type { Kv } from '../../../common/seams/kv.ts';
import { type IndexEntry, readIndexEntry } from '../../../dataserver/digest-index.ts';
import { isLedgerKey } from '../../../dataserver/scrub/ledger.ts';
import type { BlockFacts, Findings, MountUnderCheck } from './step.ts';

const ADVICE = 'Stop its DataServer and remove the directory kv: it is rebuilt from the blocks';

/**
 * The SHA-1 index leads to records that have that SHA-1. It is a hint, and every hit is checked when it is used: an
 * entry that leads nowhere costs nothing, but one that does not verify at all means that the disk damaged it.
 */
export async function checkDigestIndex(mount: MountUnderCheck, found: Findings): Promise<string> {
  const directory = join(mount.path, 'kv');
  const files = await readdir(directory).catch((): string[] => []);
  if (!files.includes('CURRENT')) {
    found.note('there is no SHA-1 index; it is built when the DataServer starts');
    return 'nothing';
  }
  if (mount.served) {
    found.note('not checked: its DataServer has it open');
    return 'nothing';
  }
  const view = await mkdtemp(join(tmpdir(), 'tfs-fsck-'));
  try {
    await viewOf(directory, files, view);
    const kv = await LeveldownKv.open({ directory: view });
    try {
      return await checkEntries(kv, factsByBlock(mount), found);
    } finally {
      await kv.close();
    }
  } catch (error) {
    found.damage(`the SHA-1 index cannot be read: ${toTfsError(error).message}. ${ADVICE}`);
    return 'nothing';
  } finally {
    await rm(view, { recursive: true, force: true });
  }
}

/** LevelDB writes where it is opened, so it is opened elsewhere: its tables by link, as they never change. */
async function viewOf(directory: string, files: readonly string[], view: string): Promise<void> {
  for (const name of files) {
    if (/\.(ldb|sst)$/.test(name)) await symlink(join(directory, name), join(view, name));
    else if (/^(CURRENT|MANIFEST-\d+|\d+\.log)$/.test(name))
      await copyFile(join(directory, name), join(view, name));
  }
}

const factsByBlock = (mount: MountUnderCheck): Map<BlockId, BlockFacts | undefined> =>
  new Map(mount.blocks.map(({ block, facts }) => [block, facts]));

async function checkEntries(
  kv: Kv,
  blocks: ReadonlyMap<BlockId, BlockFacts | undefined>,
  found: Findings,
): Promise<string> {
  let entries = 0;
  let damaged = 0;
  let misleading = 0;
  for await (const [key, value] of kv.entries({})) {
    if (isLedgerKey(key)) continue;
    entries++;
    const entry = readIndexEntry(key, value);
    if (entry === undefined) damaged++;
    else if (!agrees(entry, blocks)) misleading++;
  }
  if (damaged > 0) found.damage(`${damaged} entries of the SHA-1 index do not verify. ${ADVICE}`);
  if (misleading > 0)
    found.note(
      `${misleading} entries of the SHA-1 index lead to no such record; they are dropped when they are met`,
    );
  return `${entries} entries`;
}

/** Of a block that is damaged nothing can be said. */
function agrees(entry: IndexEntry, blocks: ReadonlyMap<BlockId, BlockFacts | undefined>): boolean {
  if (!blocks.has(entry.block)) return false;
  const facts = blocks.get(entry.block);
  if (entry.kind !== 'content') return true;
  if (isAlias(entry.fileId)) return false;
  if (facts === undefined) return true;
  return entry.fileId < facts.slots && facts.fingerprints[entry.fileId] === entry.sha1.readUInt32LE(0);
}
