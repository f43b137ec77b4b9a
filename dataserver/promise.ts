import { z } from 'zod';
import { isTfsError, TfsError } from '../common/errors.ts';
import { epochOf, type ServerId, serverId } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import type { Disk } from '../common/seams/disk.ts';
import { compareReigns, type Reign, zReign } from '../common/wire/control.ts';
import type { Faults } from './block/store.ts';
import { readDurable, writeDurable } from './durable-file.ts';

const PROMISE_FILE = 'promise.tfs';
const zFile = z.object({
  reign: zReign,
  members: z.array(z.number().int().transform(serverId)),
  /** Taken out of the cluster. Absent in files of before there was such a thing. */
  removed: z.array(z.number().int().transform(serverId)).default([]),
});

interface Kept {
  readonly reign: Reign;
  readonly members: ReadonlySet<ServerId>;
  readonly removed: ReadonlySet<ServerId>;
}

/**
 * The highest (epoch, NameServer) this DataServer has seen. It never goes down, it is durable before anyone is told,
 * and a command of a lower reign is refused: that is what keeps a deposed NameServer from deciding anything.
 * Beside it: every DataServer this one has heard of, from which a wiped NameServer learns whom to wait for, and those
 * that were taken out of the cluster, for whom it need not.
 */
export class PromiseKeeper {
  /** Frees some space on a full disk, if it can: whoever cannot promise obeys nobody, and could not even delete. */
  makeRoom: (() => Promise<boolean>) | undefined;
  readonly #disk: Disk;
  readonly #faults: Faults | undefined;
  #kept: Kept;
  #writing: Promise<void> = Promise.resolve();
  readonly #running = new Set<Promise<unknown>>();

  private constructor(disk: Disk, kept: Kept, faults: Faults | undefined) {
    this.#disk = disk;
    this.#kept = kept;
    this.#faults = faults;
  }

  static async open(disk: Disk, faults?: Faults): Promise<PromiseKeeper> {
    const stored = await readDurable(disk, PROMISE_FILE);
    const reign = { epoch: epochOf(0), nameserver: 0 };
    if (stored === undefined)
      return new PromiseKeeper(disk, { reign, members: new Set(), removed: new Set() }, faults);
    const file = zFile.parse(stored);
    const [members, removed] = [new Set(file.members), new Set(file.removed)];
    return new PromiseKeeper(disk, { reign: file.reign, members, removed }, faults);
  }

  get reign(): Reign {
    return this.#kept.reign;
  }

  /** Without those that were removed. */
  get members(): readonly ServerId[] {
    const { members, removed } = this.#kept;
    return [...members].filter((id) => !removed.has(id));
  }

  /** Taken out of the cluster: never fewer. */
  get removed(): readonly ServerId[] {
    return [...this.#kept.removed];
  }

  isRemoved(server: ServerId): boolean {
    return this.#kept.removed.has(server);
  }

  /**
   * Resolves once the promise is durably to `reign`: at once when it is already.
   *
   * @throws TfsError STALE_EPOCH when something higher was promised; details: `epoch`, `nameserver`, what was
   */
  accept(reign: Reign): Promise<void> {
    return this.#serially(() => this.#accept(reign));
  }

  /**
   * Does something under `reign` that a later leader has to know of. Whoever is shown a higher promise is shown its
   * effect as well: the higher promise waits for `work` that has begun.
   *
   * @param work short, and without another promise in it
   * @throws TfsError STALE_EPOCH, as {@link accept}
   */
  async during<T>(reign: Reign, work: () => Promise<T>): Promise<T> {
    const running = await this.#serially(async () => {
      await this.#accept(reign);
      const begun = work();
      this.#running.add(begun);
      // In a box: to wait for it here would make other promises wait that are not higher.
      return { begun };
    });
    try {
      return await running.begun;
    } finally {
      this.#running.delete(running.begun);
    }
  }

  /** Adds to the lists of known and of removed DataServers; resolves when durable. */
  learnMembers(members: readonly ServerId[], removed: readonly ServerId[]): Promise<void> {
    const isNews = () =>
      members.some((id) => !this.#kept.members.has(id)) || removed.some((id) => !this.#kept.removed.has(id));
    if (!isNews()) return Promise.resolve();
    return this.#serially(() =>
      this.#store({
        reign: this.#kept.reign,
        members: new Set([...this.#kept.members, ...members]),
        removed: new Set([...this.#kept.removed, ...removed]),
      }),
    );
  }

  async #store(kept: Kept): Promise<void> {
    const byId = (a: number, b: number): number => a - b;
    const file = {
      reign: kept.reign,
      members: [...kept.members].sort(byId),
      removed: [...kept.removed].sort(byId),
    };
    try {
      await writeDurable(this.#disk, PROMISE_FILE, file);
    } catch (error) {
      if (!isTfsError(error, 'DISK_FULL') || !(await this.makeRoom?.())) throw error;
      await writeDurable(this.#disk, PROMISE_FILE, file);
    }
    await Promise.allSettled(this.#running);
    // Only now: a promise that a crash could take back must not be shown to anyone.
    this.#kept = kept;
  }

  async #accept(reign: Reign): Promise<void> {
    const mine = this.#kept.reign;
    const order = compareReigns(reign, mine);
    if (order < 0) {
      mark('promise-refused');
      throw new TfsError(
        'STALE_EPOCH',
        `epoch ${reign.epoch} of NameServer ${reign.nameserver} is over: epoch ${mine.epoch} of NameServer ${mine.nameserver} was promised`,
        { details: { epoch: mine.epoch, nameserver: mine.nameserver } },
      );
    }
    if (order > 0 && this.#faults?.has('promise-in-memory')) this.#kept = { ...this.#kept, reign };
    else if (order > 0) await this.#store({ ...this.#kept, reign });
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#writing.then(work);
    this.#writing = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}
