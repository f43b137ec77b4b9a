import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { parseBlockFileName } from '../../../common/format/file-names.ts';
import { decodeSuperblock } from '../../../common/format/superblock.ts';
import { SUPERBLOCK_BYTES } from '../../../common/limits.ts';
import type { ProcessCluster } from '../../kit/process-cluster.ts';

/** Every block id ever seen on a disk of the cluster, and the salt of the block that had it. */
export class BlockIds {
  readonly #salts = new Map<number, Set<string>>();
  readonly #seen = new Set<string>();

  get count(): number {
    return this.#salts.size;
  }

  /** Ids of more than one block. */
  get usedTwice(): number[] {
    return [...this.#salts].filter(([, salts]) => salts.size > 1).map(([block]) => block);
  }

  /** Looks at the files that are there now. */
  collect(cluster: ProcessCluster): void {
    for (const { path } of cluster.config.mounts) {
      const directory = join(path, 'blocks');
      for (const file of readdirSync(directory)) {
        const name = parseBlockFileName(file);
        if (name?.kind !== 'blk' || this.#seen.has(join(directory, file))) continue;
        const salt = saltOf(join(directory, file));
        if (salt === undefined) continue;
        this.#seen.add(join(directory, file));
        const salts = this.#salts.get(name.block) ?? new Set();
        this.#salts.set(name.block, salts.add(salt));
      }
    }
  }
}

/** @returns undefined for a file that is not whole, or gone */
function saltOf(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const head = Buffer.alloc(SUPERBLOCK_BYTES);
    readSync(file, head, 0, SUPERBLOCK_BYTES, 0);
    const superblock = decodeSuperblock(head);
    return superblock.ok ? superblock.value.salt.toString('hex') : undefined;
  } finally {
    closeSync(file);
  }
}
