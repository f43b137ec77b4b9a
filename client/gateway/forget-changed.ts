import type { Log } from '../../common/log.ts';
import type { Clock, Timer } from '../../common/seams/clock.ts';
import type { TfsClient } from '../client.ts';
import { ChangesScan } from './purge/changes-scan.ts';

export interface ForgetChangedOptions {
  readonly client: TfsClient;
  readonly clock: Clock;
  readonly log: Log;
  /** Between two questions to the DataServers, ms. */
  readonly everyMs: number;
  /** @param name 18 characters */
  readonly forget: (name: string) => void;
}

/**
 * Lets a gateway drop what it keeps of pictures that were deleted, hidden or erased without it, by the command line or
 * another gateway. Nothing of them is shown in any case, because each picture is asked for its state when it is wanted; but
 * nobody may want it any more, and then its renditions would stay on the disk.
 */
export class ForgetChanged {
  readonly #options: ForgetChangedOptions;
  readonly #scan: ChangesScan;
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #closed = false;

  static open(options: ForgetChangedOptions): ForgetChanged {
    const forgetting = new ForgetChanged(options);
    forgetting.#next();
    return forgetting;
  }

  private constructor(options: ForgetChangedOptions) {
    this.#options = options;
    this.#scan = new ChangesScan(options.client, options.log);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#round;
  }

  #next(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(this.#options.everyMs, () => {
      this.#round = this.#look().finally(() => this.#next());
    });
  }

  async #look(): Promise<void> {
    const { client, forget, log } = this.#options;
    if (client.clusterMap === undefined) return;
    try {
      await this.#scan.run((changes) => {
        for (const change of changes) forget(client.nameOf(change));
        return true;
      });
    } catch (err) {
      log.debug({ err }, 'what changed could not be asked for');
    }
  }
}
