import type { z } from 'zod';
import { type Epoch, epochOf } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { type Reign, zReign } from '../common/wire/control.ts';
import { type NameStore, REIGN_KEY } from './name-store.ts';

/** @returns negative, 0 or positive as a is below, the same as or above b */
export function compareReigns(a: Reign, b: Reign): number {
  return a.epoch - b.epoch || a.nameserver - b.nameserver;
}

/**
 * The right of this NameServer to command: an epoch that nobody else has used. It is above everything this NameServer
 * has stored and above every promise a DataServer has shown, and it is durable before anyone hears of it. Whoever
 * shows a higher promise makes it rise: after this NameServer lost its store, or when another one leads or led.
 */
export class ReignKeeper {
  readonly #store: NameStore;
  readonly #log: Log;
  #reign: Reign;
  #raising: Promise<void> = Promise.resolve();

  private constructor(store: NameStore, log: Log, reign: Reign) {
    this.#store = store;
    this.#log = log;
    this.#reign = reign;
  }

  /** Starts a new reign: each start of a NameServer has an epoch of its own. */
  static async open(
    store: NameStore,
    { nameserver, log }: { nameserver: number; log: Log },
  ): Promise<ReignKeeper> {
    const stored = await store.read(REIGN_KEY, zReign as z.ZodType<Reign>);
    const keeper = new ReignKeeper(store, log, { epoch: stored?.epoch ?? (0 as Epoch), nameserver });
    await keeper.#raise(keeper.#reign.epoch + 1);
    return keeper;
  }

  get current(): Reign {
    return this.#reign;
  }

  /**
   * A DataServer has shown this promise. Resolves when the reign is durably above it, which it is already but for the
   * rare case.
   *
   * @param isOwn whether this NameServer, in this life, told that DataServer the current reign. Else even an equal
   *   promise is another's: of a life before the store was lost.
   * @returns whether the reign rose: then every promise to it has to be made again
   */
  async observe(promise: Reign, isOwn: boolean): Promise<boolean> {
    if (this.#isAbove(promise, isOwn)) return false;
    let rose = false;
    const work = this.#raising.then(async () => {
      if (this.#isAbove(promise, isOwn)) return;
      this.#log.warn(
        { promise, reign: this.#reign },
        'a DataServer promised a higher reign: rising above it',
      );
      await this.#raise(promise.epoch + 1);
      rose = true;
    });
    this.#raising = work.catch(() => undefined);
    await work;
    return rose;
  }

  #isAbove(promise: Reign, isOwn: boolean): boolean {
    const order = compareReigns(this.#reign, promise);
    return order > 0 || (order === 0 && isOwn);
  }

  async #raise(epoch: number): Promise<void> {
    const reign: Reign = { epoch: epochOf(epoch), nameserver: this.#reign.nameserver };
    await this.#store.write(REIGN_KEY, reign, 'its epoch');
    // Only now: an epoch that a crash could take back must not be shown to anyone.
    this.#reign = reign;
  }
}
