import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BlockFileKind, blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import type { Cell } from './cell.ts';
import type { Scene } from './scene.ts';

const BALLAST_BYTES = 1 << 20;
const WHOLE_MS_MAX = 90_000;

export const fullDisk: Cell = {
  name: 'the disk of a DataServer full for 10 s',
  needs: 'small disk',
  brokenMs: 10_000,
  writesGoOn: true,
  breakIt: async ({ smallDisk }) => {
    const ballast = join(smallDisk!, 'ballast');
    fill(ballast);
    return async () => rmSync(ballast);
  },
  afterwards: async ({ cluster }) =>
    cluster.log('ds2').includes('DISK_FULL') || /disk is full/i.test(cluster.log('ds2'))
      ? []
      : ['the DataServer has not noticed that its disk was full'],
};

/** Writes until the disk takes not one byte more. */
export function fill(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (let size = BALLAST_BYTES; size >= 1; ) {
      try {
        writeSync(file, Buffer.alloc(size, 1));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        size = Math.floor(size / 2);
      }
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Files of a stopped DataServer that are shorter when it starts again: acknowledged bytes are gone from its disk. */
function truncated(kind: BlockFileKind): Cell {
  let cut: { server: ServerId; blocks: readonly BlockId[] } | undefined;
  return {
    name: `.${kind} files of a stopped DataServer cut in half`,
    brokenMs: 1_000,
    writesGoOn: true,
    settleMsMax: 120_000,
    breakIt: async (scene) => {
      const name = await scene.find('secondary');
      await scene.cluster.stopOne(name, 'SIGKILL');
      const server = Number(name.slice(2)) as ServerId;
      const files = filesOf(scene, server, kind);
      // The oldest is sealed, the newest was being written.
      const chosen = [...new Set([files[0], files.at(-1)])].flatMap((file) => file ?? []);
      for (const { path } of chosen) truncateSync(path, Math.floor(statSync(path).size / 2));
      cut = { server, blocks: chosen.map(({ block }) => block) };
      return () => scene.cluster.startOne(name);
    },
    afterwards: (scene) => notWhole(scene, cut!.server, cut!.blocks),
  };
}

export const damagedFiles: readonly Cell[] = [truncated('blk'), truncated('ops'), truncated('idx')];

/** Waits until these replicas verify, every byte of them. @returns those that do not */
async function notWhole(
  { probe }: Scene,
  server: ServerId,
  blocks: readonly BlockId[],
): Promise<readonly string[]> {
  const deadlineAt = performance.now() + WHOLE_MS_MAX;
  for (;;) {
    const bad: string[] = [];
    for (const block of blocks) bad.push(...(await probe.problemsOf(server, block)));
    if (bad.length === 0 || performance.now() > deadlineAt) return bad;
    await sleep(500);
  }
}

/** By block, oldest first. */
function filesOf(scene: Scene, server: ServerId, kind: BlockFileKind): { block: BlockId; path: string }[] {
  const directory = join(scene.cluster.mountPath(server), 'blocks');
  return readdirSync(directory)
    .flatMap((file) => parseBlockFileName(file) ?? [])
    .filter((file) => file.kind === kind)
    .sort((a, b) => a.block - b.block)
    .map(({ block, number }) => ({ block, path: join(directory, blockFileName(block, number, kind)) }));
}
