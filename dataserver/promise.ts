import { z } from 'zod';
import { isTfsError, TfsError } from '../common/errors.ts';
import { epochOf, type ServerId, serverId } from '../common/ids.ts';
import type { Disk } from '../common/seams/disk.ts';
import { compareReigns, type Reign, zReign } from '../common/wire/control.ts';
import { readDurable, writeDurable } from './durable-file.ts';

const PROMISE_FILE = 'promise.tfs';
const zFile = z.object({
  reign: zReign,
  members: z.array(z.number().int().transform(serverId)),
});

/**
 * The highest (epoch, NameServer) this DataServer has seen. It never goes down, it is durable before anyone is told,
 * and a command of a lower reign is refused: that is what keeps a deposed NameServer from deciding anything.
 * Beside it: every DataServer this one has heard of, from which a wiped NameServer learns whom to wait for.
 */
export class PromiseKeeper {
  /** Frees some space on a full disk, if it can: whoever cannot promise obeys nobody, and could not even delete. */
  makeRoom: (() => Promise<boolean>) | undefined;
  readonly #disk: Disk;
  #reign: Reign;
  #members: ReadonlySet<ServerId>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(disk: Disk, reign: Reign, members: ReadonlySet<ServerId>) {
    this.#disk = disk;
    this.#reign = reign;
    this.#members = members;
  }

  static async open(disk: Disk): Promise<PromiseKeeper> {
    const stored = await readDurable(disk, PROMISE_FILE);
    if (stored === undefined) return new PromiseKeeper(disk, { epoch: epochOf(0), nameserver: 0 }, new Set());
    const { reign, members } = zFile.parse(stored);
    return new PromiseKeeper(disk, reign, new Set(members));
  }

  get reign(): Reign {
    return this.#reign;
  }

  get members(): readonly ServerId[] {
    return [...this.#members];
  }

  /**
   * Resolves once the promise is durably to `reign`: at once when it is already.
   *
   * @throws TfsError STALE_EPOCH when something higher was promised; details: `epoch`, `nameserver`, what was
   */
  accept(reign: Reign): Promise<void> {
    return this.#serially(async () => {
      const mine = this.#reign;
      const order = compareReigns(reign, mine);
      if (order < 0) {
        throw new TfsError(
          'STALE_EPOCH',
          `epoch ${reign.epoch} of NameServer ${reign.nameserver} is over: epoch ${mine.epoch} of NameServer ${mine.nameserver} was promised`,
          { details: { epoch: mine.epoch, nameserver: mine.nameserver } },
        );
      }
      if (order > 0) await this.#store(reign, this.#members);
    });
  }

  /** Adds to the list of known DataServers; resolves when durable. */
  learnMembers(members: readonly ServerId[]): Promise<void> {
    if (members.every((id) => this.#members.has(id))) return Promise.resolve();
    return this.#serially(() => this.#store(this.#reign, new Set([...this.#members, ...members])));
  }

  async #store(reign: Reign, members: ReadonlySet<ServerId>): Promise<void> {
    const promise = { reign, members: [...members].sort((a, b) => a - b) };
    try {
      await writeDurable(this.#disk, PROMISE_FILE, promise);
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL') || !(await this.makeRoom?.())) throw error;
      await writeDurable(this.#disk, PROMISE_FILE, promise);
    }
    // Only now: a promise that a crash could take back must not be shown to anyone.
    this.#reign = reign;
    this.#members = members;
  }

  #serially(work: () => Promise<void>): Promise<void> {
    const result = this.#writing.then(work);
    this.#writing = result.catch(() => undefined);
    return result;
  }
}
