import { type ErrorCode, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import { CLIENT_ATTEMPTS_MAX, CLIENT_BUDGET_MS_DEFAULT, MUTATE_ATTEMPT_MS_MAX } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import {
  type CheckReply,
  decodeCheckReply,
  encodeMutate,
  type Mutation,
  Op,
} from '../common/wire/messages.ts';
import { backoffMs } from './backoff.ts';
import type { Caller } from './caller.ts';
import type { ClusterMapCache } from './cluster-map.ts';
import type { BlockLocation, Locations } from './locations.ts';
import type { PictureKey } from './reader.ts';
import { isUnreachable, type ServerHealth } from './server-health.ts';

export interface MutatorParts {
  readonly caller: Caller;
  readonly map: ClusterMapCache;
  readonly locations: Locations;
  readonly health: ServerHealth;
  readonly clock: Clock;
  readonly random: Random;
}

const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_FOUND', 'GONE', 'BAD_REQUEST', 'BAD_NAME']);

/**
 * Delete, undelete, hide and reveal: one server orders all operations on a block, so that one is asked first. Where it
 * does not answer, another member is: it either knows who took its place, or has the leader let it do so. All are
 * idempotent and carry their opId through every attempt.
 */
export class Mutator {
  readonly #parts: MutatorParts;

  constructor(parts: MutatorParts) {
    this.#parts = parts;
  }

  /**
   * @returns the flags after it, durable on every replica of the block's configuration
   * @throws TfsError NOT_FOUND, GONE after a purge, or 503 when the budget is used up: it may then happen or not
   */
  async mutate(key: PictureKey, kind: Mutation, opId: Buffer): Promise<CheckReply> {
    const { clock, locations, map, random } = this.#parts;
    const deadlineAt = clock.monotonic() + CLIENT_BUDGET_MS_DEFAULT;
    const header = encodeMutate({ ...key, kind, opId });
    for (let round = 1; ; round++) {
      const cached = locations.cached(key.block);
      let location: BlockLocation | undefined = cached;
      let failure: TfsError;
      try {
        location ??= await locations.locate(key.block);
        return await this.#mutateIn(key.block, location, header, deadlineAt);
      } catch (error) {
        failure = toTfsError(error);
        if (FINAL.has(failure.code)) throw failure;
      }
      if (location !== undefined) locations.invalidate(key.block, location);
      const left = deadlineAt - clock.monotonic();
      if (round >= CLIENT_ATTEMPTS_MAX || left <= 0)
        throw new TfsError('UNAVAILABLE', `it could not be done now (${failure.code} ${failure.message})`, {
          cause: failure,
          retryAfterMs: failure.retryAfterMs ?? 1000,
        });
      map.noteTrouble();
      // A stale location is the likeliest reason the first time; a fresh one deserves no wait.
      if (cached === undefined || round > 1) await clock.sleep(Math.min(left, backoffMs(round, random)));
    }
  }

  /** The sequencer; whoever is named as such instead; then, where it does not answer, the other members. */
  async #mutateIn(
    block: BlockId,
    { opsPrimary, members }: BlockLocation,
    header: Buffer,
    deadlineAt: number,
  ): Promise<CheckReply> {
    const { clock } = this.#parts;
    const next = opsPrimary === undefined ? [...members] : [opsPrimary];
    const asked = new Set<ServerId>();
    let last: TfsError | undefined;
    for (let server = next.shift(); server !== undefined; server = next.shift()) {
      if (asked.has(server)) continue;
      asked.add(server);
      const left = deadlineAt - clock.monotonic();
      if (left <= 0) break;
      try {
        return await this.#mutateOn(server, header, Math.min(left, MUTATE_ATTEMPT_MS_MAX));
      } catch (error) {
        last = toTfsError(error);
        if (FINAL.has(last.code)) throw last;
        const named = last.details?.['opsPrimary'];
        if (typeof named === 'number') next.unshift(named as ServerId);
        // It may be cut off from the leader, and others not.
        else if (isUnreachable(error) || last.code === 'DONT_KNOW' || last.details?.['leaderless'] === true)
          next.push(...members);
        // It lives and cannot do it now: another member could not either.
        else throw last;
      }
    }
    throw (
      last ??
      new TfsError('DONT_KNOW', `nobody can tell yet which server orders the operations of block ${block}`)
    );
  }

  async #mutateOn(server: ServerId, header: Buffer, deadlineMs: number): Promise<CheckReply> {
    const { caller, health, map } = this.#parts;
    await map.get();
    const address = map.addressOf(server);
    if (address === undefined)
      throw new TfsError('UNAVAILABLE', `server ${server} is not in the cluster map`);
    try {
      const reply = await caller.call(address, Op.MUTATE, header, undefined, deadlineMs);
      health.succeeded(server);
      return decodeCheckReply(reply.header);
    } catch (error) {
      if (isUnreachable(error)) health.failed(server);
      throw error;
    }
  }
}
