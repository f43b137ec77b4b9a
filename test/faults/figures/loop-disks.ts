import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** File systems of their own, each in a file, so that what is used and free on one says nothing about another. */
export class LoopDisks {
  readonly paths: string[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), 'tfs-disks-'));

  /** @throws Error where this machine or user may not mount them */
  static async open(count: number, bytes: number): Promise<LoopDisks> {
    const disks = new LoopDisks();
    try {
      for (let i = 1; i <= count; i++) await disks.#add(i, bytes);
      return disks;
    } catch (error) {
      await disks.close();
      throw new Error(`file systems of their own cannot be mounted here: ${String(error)}`, { cause: error });
    }
  }

  async close(): Promise<void> {
    for (const path of this.paths) await exec('umount', ['-l', path]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #add(number: number, bytes: number): Promise<void> {
    const image = join(this.#directory, `disk${number}.img`);
    const path = join(this.#directory, `disk${number}`);
    writeFileSync(image, '');
    truncateSync(image, bytes);
    mkdirSync(path);
    // Without blocks kept for root, which DataServers may not count on.
    await exec('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
    await exec('mount', ['-o', 'loop', image, path]);
    this.paths.push(path);
  }
}
