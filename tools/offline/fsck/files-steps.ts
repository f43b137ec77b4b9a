import { isTfsError, toTfsError } from '../../../common/errors.ts';
import { decodeDropLog } from '../../../common/format/drop-log.ts';
import { blockFileName, parseBlockFileName } from '../../../common/format/file-names.ts';
import type { BlockId } from '../../../common/ids.ts';
import { STORE_DIRECTORIES } from '../../../dataserver/block/api.ts';
import { readDurable } from '../../../dataserver/durable-file.ts';
import type { Findings, MountUnderCheck } from './step.ts';

/** The small files that say whose mount this is, how often it was started, and what it has promised. */
export async function checkMountFiles(mount: MountUnderCheck, found: Findings): Promise<string> {
  const names = (await mount.disk.list('')).filter((name) => name.endsWith('.tfs'));
  for (const name of names) {
    try {
      await readDurable(mount.disk, name);
    } catch (error) {
      found.damage(
        isTfsError(error, 'CORRUPT')
          ? `${error.message}: its DataServer will refuse to start. Replace the disk, or empty it and format it again`
          : toTfsError(error).message,
      );
    }
  }
  await checkDropLog(mount, found);
  if (mount.served)
    found.note('a DataServer is serving it now: blocks that are being written may change meanwhile');
  return `${names.length} files`;
}

async function checkDropLog({ disk }: MountUnderCheck, found: Findings): Promise<void> {
  if ((await disk.stat('drop.log')) === undefined) return;
  const contents = await disk.readFile('drop.log').then(decodeDropLog, (error: unknown) => ({
    ok: false as const,
    why: toTfsError(error).message,
  }));
  if (!contents.ok)
    found.damage(
      `drop.log: ${contents.why}: replicas that were being dropped may come back; nothing else is lost`,
    );
  else if (contents.value.damaged > 0)
    found.damage(`drop.log: ${contents.value.damaged} of its entries do not verify`);
}

/** What lies in blocks/, and whether it belongs together. */
export async function checkFiles(mount: MountUnderCheck, found: Findings): Promise<string> {
  const { disk } = mount;
  let names: string[];
  try {
    names = await disk.list(STORE_DIRECTORIES.blocks);
  } catch (error) {
    found.damage(`${toTfsError(error).message}: no block of this mount can be read`);
    return '0 files';
  }
  const blocks = new Map<BlockId, Record<'blk' | 'ops' | 'idx', number[]>>();
  for (const name of names) {
    const file = parseBlockFileName(name);
    if (file === undefined) {
      const why = name.endsWith('.tmp')
        ? 'was being written; removed at the next start'
        : 'belongs to no block';
      found.note(`blocks/${name} ${why}`);
      continue;
    }
    const of = blocks.get(file.block) ?? { blk: [], ops: [], idx: [] };
    blocks.set(file.block, of);
    of[file.kind].push(file.number);
  }
  for (const [block, of] of [...blocks].sort(([a], [b]) => a - b)) {
    if (of.blk.length === 0) {
      const others = [...of.ops.map(() => 'ops log'), ...of.idx.map(() => 'index')].join(', ');
      found.note(`block ${block} has no block file, only: ${others}`);
      continue;
    }
    const generation = Math.max(...of.blk);
    const log = of.ops.length === 0 ? undefined : Math.max(...of.ops);
    if (of.blk.length > 1)
      found.note(`block ${block} has files of generations ${of.blk.join(', ')}; its DataServer keeps one`);
    for (const older of of.ops)
      if (older !== log) found.note(`block ${block} also has the older ops log ${older}`);
    mount.blocks.push({
      block,
      generation,
      fileName: blockFileName(block, generation, 'blk'),
      generations: of.blk,
      log,
      indexes: of.idx,
      superblock: undefined,
      ops: undefined,
      facts: undefined,
    });
  }
  const surplus = await disk.list(STORE_DIRECTORIES.surplus).catch(() => []);
  if (surplus.length > 0) found.note(`${surplus.length} files of cut-off records are kept in surplus/`);
  const trash = await disk.list(STORE_DIRECTORIES.trash).catch(() => []);
  if (trash.length > 0)
    found.note(`${trash.length} damaged files that were replaced are kept in trash/ for a while`);
  return `${names.length} files, ${mount.blocks.length} blocks`;
}
