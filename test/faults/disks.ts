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
import { type BlockFileKind, parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import type { Cell } from './cell.ts';
import type { Scene } from './scene.ts';

const BALLAST_BYTES = 1 << 20;

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
};

/** Writes until the disk takes not one byte more. */
function fill(path: string): void {
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
const truncated = (kind: BlockFileKind): Cell => ({
  name: `.${kind} files of a stopped DataServer cut in half`,
  brokenMs: 1_000,
  writesGoOn: true,
  settleMsMax: 120_000,
  breakIt: async (scene) => {
    const name = await scene.find('secondary');
    await scene.cluster.stopOne(name, 'SIGKILL');
    const server = Number(name.slice(2));
    // The oldest is sealed, the newest was being written.
    const files = filesOf(scene, server, kind);
    for (const file of new Set([files[0], files.at(-1)]))
      if (file !== undefined) truncateSync(file, Math.floor(statSync(file).size / 2));
    return () => scene.cluster.startOne(name);
  },
});

export const damagedFiles: readonly Cell[] = [truncated('blk'), truncated('ops'), truncated('idx')];

/** By block, oldest first. */
function filesOf(scene: Scene, server: number, kind: BlockFileKind): string[] {
  const directory = join(scene.cluster.mountPath(server), 'blocks');
  return readdirSync(directory)
    .map(parseBlockFileName)
    .filter((file) => file?.kind === kind)
    .sort((a, b) => a!.block - b!.block)
    .map((file) => join(directory, `${file!.block as BlockId}.${file!.number}.${kind}`));
}
