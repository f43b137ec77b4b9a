import type { z } from 'zod';
import { isTfsError, TfsError } from '../common/errors.ts';
import type { BlockId } from '../common/ids.ts';
import { PROVISIONAL_AFTER_MS, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import { compareReigns } from '../common/wire/control.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { PromiseKeeper } from './promise.ts';
import type { Uplink } from './uplink.ts';

/** All the NameServers of the cluster, seen from a DataServer: the leader is found, not configured. */
export class NameServers {
  readonly #uplinks: readonly Uplink[];
  readonly #peers: Peers;
  readonly #clock: Clock;
  readonly #promise: PromiseKeeper;

  constructor(deps: { uplinks: readonly Uplink[]; peers: Peers; clock: Clock; promise: PromiseKeeper }) {
    this.#uplinks = deps.uplinks;
    this.#peers = deps.peers;
    this.#clock = deps.clock;
    this.#promise = deps.promise;
  }

  start(): void {
    for (const uplink of this.#uplinks) uplink.start();
  }

  /**
   * Whether a leader of at least the promised reign answered a question that was sent within the last
   * {@link PROVISIONAL_AFTER_MS}. Looked at for each answer and by the monotonic clock, so that a process that was
   * stopped knows when it wakes.
   */
  get inContact(): boolean {
    return this.#contact !== undefined;
  }

  /**
   * Whether the replica is the newest there is: said by the leader this server is in contact with, in its newest answer,
   * since this server last registered with it.
   */
  isConfirmed(block: BlockId): boolean {
    return this.#contact?.isConfirmed(block) ?? false;
  }

  /** Something that was seen here puts the replica in doubt: until the leader, asked later, confirms it. */
  unconfirm(block: BlockId): void {
    for (const uplink of this.#uplinks) uplink.unconfirm(block);
  }

  get #contact(): Uplink | undefined {
    const now = this.#clock.monotonic();
    return highest(
      this.#uplinks.filter(
        ({ reign, lastLeaderContact }) =>
          lastLeaderContact !== undefined &&
          now - lastLeaderContact < PROVISIONAL_AFTER_MS &&
          reign !== undefined &&
          compareReigns(reign, this.#promise.reign) >= 0,
      ),
    );
  }

  changed(block: BlockId): void {
    for (const uplink of this.#uplinks) uplink.changed(block);
  }

  hurry(): void {
    for (const uplink of this.#uplinks) uplink.hurry();
  }

  /** Asks the leader. @throws TfsError UNAVAILABLE, details `leaderless`, when none is known; UNAVAILABLE when the one known does not lead any more */
  async callLeader<T>(
    op: number,
    message: object,
    schema: z.ZodType<T>,
    deadlineMs = RPC_MS_DEFAULT,
  ): Promise<T> {
    const leader = highest(this.#uplinks.filter((uplink) => uplink.leader));
    if (leader === undefined)
      throw new TfsError('UNAVAILABLE', 'no leading NameServer is known', {
        retryAfterMs: 1000,
        details: { leaderless: true },
      });
    try {
      return (await this.#peers.callControl(leader.address, op, message, schema, undefined, deadlineMs))
        .message;
    } catch (error) {
      if (isTfsError(error, 'UNREGISTERED') || isTfsError(error, 'NOT_LEADER')) leader.hurry();
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#uplinks.map((uplink) => uplink.close()));
  }
}

/** Of several that claim to lead, the one that a later promise was given to. */
function highest(uplinks: readonly Uplink[]): Uplink | undefined {
  let best: Uplink | undefined;
  for (const uplink of uplinks) {
    if (uplink.reign === undefined) continue;
    if (best?.reign === undefined || compareReigns(uplink.reign, best.reign) > 0) best = uplink;
  }
  return best;
}
