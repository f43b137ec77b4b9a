import type { z } from 'zod';
import { type Epoch, epochOf } from '../common/ids.ts';
import type { Log } from '../common/log.ts';
import { compareReigns, type Reign, zReign } from '../common/wire/control.ts';
import { type NameStore, REIGN_KEY } from './name-store.ts';

/** A hint that is further above everything heard than this is no hint: no cluster elects so often. */
const HINT_LEAD_MAX = 1_000_000;

/**
 * Every right to command that this NameServer has heard of, and where new ones come from. A drawn epoch is above
 * everything this NameServer has stored, above every promise a DataServer has shown it, and above what the lock store
 * remembers, and it is durable before anyone hears of it: so no two reigns are the same, whatever of these is lost.
 *
 * NameServer 0 draws odd epochs, NameServer 1 even ones. Blocks, seals and configurations carry the epoch alone: what two
 * leaders decide at the same time must never look like the work of one (docs/decisions/014).
 */
export class ReignKeeper {
  readonly #store: NameStore;
  readonly #nameserver: number;
  readonly #log: Log;
  #highest: Reign;
  #hint = 0;

  private constructor(store: NameStore, nameserver: number, log: Log, highest: Reign) {
    this.#store = store;
    this.#nameserver = nameserver;
    this.#log = log;
    this.#highest = highest;
  }

  static async open(
    store: NameStore,
    { nameserver, log }: { nameserver: number; log: Log },
  ): Promise<ReignKeeper> {
    const stored = await store.read(REIGN_KEY, zReign as z.ZodType<Reign>);
    return new ReignKeeper(store, nameserver, log, stored ?? { epoch: 0 as Epoch, nameserver });
  }

  /** Highest reign heard of, its own included. */
  get highest(): Reign {
    return this.#highest;
  }

  /** Somebody has shown a promise to this reign, or claims it. */
  hear(reign: Reign): void {
    if (compareReigns(reign, this.#highest) > 0) this.#highest = reign;
  }

  /** What the lock store remembers. */
  hint(epoch: number): void {
    if (epoch <= this.#highest.epoch + HINT_LEAD_MAX) this.#hint = Math.max(this.#hint, epoch);
    else
      this.#log.warn(
        { epoch, highest: this.#highest.epoch },
        'the lock store names an absurd epoch: ignored',
      );
  }

  /** A new reign, above all that was heard of when it was asked for, durably. @throws TfsError IO, DISK_FULL */
  async draw(): Promise<Reign> {
    const above = Math.max(this.#highest.epoch, this.#hint) + 1;
    const isOwn = (above + this.#nameserver) % 2 === 1;
    const epoch = epochOf(isOwn ? above : above + 1);
    const reign: Reign = { epoch, nameserver: this.#nameserver };
    // An epoch that a crash could take back must not be shown to anyone.
    await this.#store.write(REIGN_KEY, reign, 'its epoch');
    this.hear(reign);
    return reign;
  }
}
