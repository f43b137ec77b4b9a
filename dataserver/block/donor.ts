import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import type { Op } from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { ServerId, Version } from '../../common/ids.ts';
import type { RawRecords, SealInfo } from './api.ts';
import type { StoreContext } from './context.ts';

/** Another replica of a block, as a source for the repair of this one. All that it gives is verified here again. */
export interface Donor {
  readonly server: ServerId;
  head(): Promise<DonorHead>;
  /** As `BlockStore.readRaw`. */
  records(offset: number, length: number): Promise<RawRecords>;
  /** All sequenced operations of its log; where the log was folded, a SNAPSHOT first. */
  ops(): Promise<DonorOps>;
}

export interface DonorHead {
  readonly generation: number;
  readonly superblock: Superblock;
  readonly seal: SealInfo | undefined;
}

export interface DonorOps {
  /** Of the newest configuration in its log. */
  readonly version: Version;
  readonly ops: readonly Op[];
}

/** The donors of one repair. One that fails is not asked again: it is named, because what it has may be missed. */
export class Donors {
  readonly #context: StoreContext;
  readonly #all: readonly Donor[];
  readonly #failed = new Map<ServerId, TfsError>();

  constructor(context: StoreContext, all: readonly Donor[]) {
    this.#context = context;
    this.#all = all;
  }

  get failed(): readonly ServerId[] {
    return [...this.#failed.keys()];
  }

  /** Why what is missing is missing. */
  missing(what: string): TfsError {
    const [server, cause] = [...this.#failed][0] ?? [];
    const why = cause === undefined ? '' : `: server ${server} did not answer (${cause.message})`;
    return new TfsError('UNAVAILABLE', `${what}${why}`, { cause, retryAfterMs: 1000 });
  }

  /** Asks one after the other until `take` has what it needs. @returns undefined when none had it */
  async first<T>(ask: (donor: Donor) => Promise<T | undefined>): Promise<T | undefined> {
    for (const donor of this.#all) {
      const answer = await this.#ask(donor, ask);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  /** Asks all of them at once. */
  async all<T>(ask: (donor: Donor) => Promise<T>): Promise<{ server: ServerId; answer: T }[]> {
    const answers = await Promise.all(
      this.#all.map(async (donor) => ({ server: donor.server, answer: await this.#ask(donor, ask) })),
    );
    return answers.flatMap(({ server, answer }) => (answer === undefined ? [] : [{ server, answer }]));
  }

  async #ask<T>(donor: Donor, ask: (donor: Donor) => Promise<T>): Promise<T | undefined> {
    this.#context.assertOpen();
    if (this.#failed.has(donor.server)) return undefined;
    try {
      return await ask(donor);
    } catch (error) {
      if (!isTfsError(error) || this.#context.failure !== undefined) throw error;
      this.#context.log.info({ source: donor.server, reason: error.message }, 'a source could not help');
      this.#failed.set(donor.server, toTfsError(error));
      return undefined;
    }
  }
}
