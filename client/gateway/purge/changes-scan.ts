import { toTfsError } from '../../../common/errors.ts';
import type { ServerId } from '../../../common/ids.ts';
import type { Log } from '../../../common/log.ts';
import type { Change } from '../../../common/wire/changes.ts';
import type { ChangesAsk } from '../../changes.ts';
import type { TfsClient } from '../../client.ts';

export interface ScanOutcome {
  /** DataServers that did not answer: theirs is asked for next time, and told by other replicas meanwhile. */
  readonly silent: number;
  /** Changes of the last day that some DataServer had no memory for; other replicas may have told them. */
  readonly missed: number;
  /** Changes of names that did not read on some DataServer; as before. */
  readonly unread: number;
}

/**
 * Asks all DataServers which names changed their state since they were asked last; the first time, within a day. Whoever
 * made the change, and whatever became of the gateway that it went through, is all the same.
 */
export class ChangesScan {
  readonly #client: Pick<TfsClient, 'changesOn' | 'clusterMap'>;
  readonly #log: Log;
  /** Where each of them was left. */
  readonly #cursors = new Map<ServerId, ChangesAsk>();

  constructor(client: Pick<TfsClient, 'changesOn' | 'clusterMap'>, log: Log) {
    this.#client = client;
    this.#log = log;
  }

  /** @param take returns false when it has no room for all of them: then they are told again */
  async run(take: (changes: readonly Change[]) => boolean): Promise<ScanOutcome> {
    const servers = this.#client.clusterMap?.servers ?? [];
    const outcome = { silent: 0, missed: 0, unread: 0 };
    await Promise.all(servers.map(({ id }) => this.#ask(id, take, outcome)));
    for (const id of this.#cursors.keys())
      if (!servers.some((server) => server.id === id)) this.#cursors.delete(id);
    return outcome;
  }

  async #ask(
    server: ServerId,
    take: (changes: readonly Change[]) => boolean,
    outcome: { silent: number; missed: number; unread: number },
  ): Promise<void> {
    try {
      for (;;) {
        const ask = this.#cursors.get(server) ?? { from: 0 };
        const { incarnation, changes, next, more, ...gone } = await this.#client.changesOn(server, ask);
        if (!take(changes)) return;
        outcome.missed += gone.missed;
        outcome.unread += gone.unread;
        this.#cursors.set(server, { incarnation, from: next });
        // One that says there is more and does not go on is asked again another time.
        if (!more || (ask.incarnation === incarnation && ask.from === next)) return;
      }
    } catch (error) {
      outcome.silent++;
      this.#log.debug(
        { server, reason: toTfsError(error).message },
        'a DataServer did not tell what changed',
      );
    }
  }
}
