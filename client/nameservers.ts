import type { HostPort } from '../common/ids.ts';
import { NAMESERVER_CALL_MS_MAX, NAMESERVER_HEDGE_MS } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { EMPTY_BUFFER, Op } from '../common/wire/messages.ts';
import type { Caller, CallReply } from './caller.ts';
import { askInTurn } from './round.ts';
import { isUnreachable, ServerHealth } from './server-health.ts';

/**
 * The NameServers of the cluster: the one last seen to lead first, one that does not answer last. Knows nothing about
 * what is asked.
 */
export class NameServers {
  #ordered: readonly HostPort[];
  readonly #caller: Caller;
  readonly #clock: Clock;
  readonly #health: ServerHealth<HostPort>;

  constructor(caller: Caller, addresses: readonly HostPort[], clock: Clock, random: Random) {
    this.#caller = caller;
    this.#ordered = addresses;
    this.#clock = clock;
    this.#health = new ServerHealth(clock, random, async (address) =>
      caller.call(address, Op.PING, EMPTY_BUFFER, undefined, NAMESERVER_CALL_MS_MAX),
    );
  }

  get ordered(): readonly HostPort[] {
    if (this.#health.isFine) return this.#ordered;
    const isBad = this.#ordered.map((address) => this.#health.isTroubled(address));
    return [...this.#ordered.filter((_, i) => !isBad[i]), ...this.#ordered.filter((_, i) => isBad[i])];
  }

  leads(address: HostPort): void {
    if (this.#ordered[0] === address) return;
    this.#ordered = [address, ...this.#ordered.filter((other) => other !== address)];
  }

  async call(address: HostPort, op: number, header: Buffer): Promise<CallReply> {
    try {
      const reply = await this.#caller.call(address, op, header, undefined, NAMESERVER_CALL_MS_MAX);
      this.#health.succeeded(address);
      return reply;
    } catch (error) {
      if (isUnreachable(error)) this.#health.failed(address);
      else this.#health.succeeded(address);
      throw error;
    }
  }

  /**
   * Asks one after the other until everything is answered. The next is asked when one failed or could not tell all, and
   * as well as the first when that takes longer than {@link NAMESERVER_HEDGE_MS}: a leader that was stopped must not cost
   * every question its deadline.
   *
   * @param header of what is not answered yet
   * @param take gets each answer, also one that comes too late; returns whether nothing is left to ask
   * @returns whether everything is answered, and whether anybody answered
   */
  async ask(
    op: number,
    header: () => Buffer,
    take: (reply: CallReply) => boolean,
  ): Promise<{ readonly isDone: boolean; readonly isAnswered: boolean; readonly error: unknown }> {
    const order = this.ordered;
    let isAnswered = false;
    let error: unknown;
    const done = await askInTurn<true>({
      count: order.length,
      ask: async (i) => {
        try {
          const reply = await this.call(order[i]!, op, header());
          isAnswered = true;
          return take(reply) ? { value: true, provisional: false } : undefined;
        } catch (thrown) {
          error = thrown;
          return undefined;
        }
      },
      watch: (i, onLate) => {
        const watched = { done: false };
        this.#clock.after(NAMESERVER_HEDGE_MS, () => {
          if (watched.done) return;
          // Until it answers something: what is asked next need not find out again.
          this.#health.failed(order[i]!);
          onLate();
        });
        return watched;
      },
    });
    return { isDone: done !== undefined, isAnswered, error };
  }
}
