import { z } from 'zod';
import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { Disk } from '../common/seams/disk.ts';
import { readDurable, writeDurable } from './durable-file.ts';

const NONCES_FILE = 'nonces.tfs';
const zFile = z.object({ byNameserver: z.record(z.string(), z.string()) });

/**
 * What each NameServer left on this disk at the last registration, to be shown to it at the next: a disk that was set
 * back to an older copy shows an older one, and is not let in again.
 */
export class Nonces {
  readonly #disk: Disk;
  readonly #log: Log;
  readonly #byNameserver: Map<number, string>;
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(disk: Disk, log: Log, byNameserver: Map<number, string>) {
    this.#disk = disk;
    this.#log = log;
    this.#byNameserver = byNameserver;
  }

  /** @throws TfsError REFUSED when the file is not what was written */
  static async open(disk: Disk, log: Log): Promise<Nonces> {
    const stored = await readDurable(disk, NONCES_FILE).catch((error: unknown) => {
      if (!isTfsError(error, 'CORRUPT')) throw error;
      throw new TfsError(
        'REFUSED',
        `${NONCES_FILE} is damaged, so this disk cannot prove how recent it is. Replace the disk, or empty it and ` +
          'format it with a new id; its blocks are re-copied.',
        { cause: error },
      );
    });
    const known = stored === undefined ? {} : zFile.parse(stored).byNameserver;
    return new Nonces(disk, log, new Map(Object.entries(known).map(([id, nonce]) => [Number(id), nonce])));
  }

  /** @returns undefined before the first registration with that NameServer */
  of(nameserver: number): string | undefined {
    return this.#byNameserver.get(nameserver);
  }

  /**
   * Resolves when it is durable, or could not be made so: then the last one is shown again, which is good as long as
   * this one was not.
   */
  keep(nameserver: number, nonce: string): Promise<void> {
    const result = this.#writing.then(() => this.#keep(nameserver, nonce));
    this.#writing = result;
    return result;
  }

  async #keep(nameserver: number, nonce: string): Promise<void> {
    const next = new Map(this.#byNameserver).set(nameserver, nonce);
    try {
      await writeDurable(this.#disk, NONCES_FILE, { byNameserver: Object.fromEntries(next) });
      this.#byNameserver.set(nameserver, nonce);
    } catch (error) {
      this.#log.warn(
        { reason: toTfsError(error).message },
        'the disk did not take the nonce of a registration',
      );
    }
  }
}
