import type { z } from 'zod';
import { isTfsError, TfsError } from '../common/errors.ts';
import type { BlockId } from '../common/ids.ts';
import { PROVISIONAL_AFTER_MS, RPC_MS_DEFAULT } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
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
   * Whether a leader of at least the promised epoch has answered within the last {@link PROVISIONAL_AFTER_MS}.
   * Looked at for each answer and by the monotonic clock, so that a process that was stopped knows when it wakes.
   */
  get inContact(): boolean {
    const now = this.#clock.monotonic();
    return this.#uplinks.some(
      (uplink) =>
        uplink.lastLeaderContact !== undefined &&
        uplink.epoch >= this.#promise.reign.epoch &&
        now - uplink.lastLeaderContact < PROVISIONAL_AFTER_MS,
    );
  }

  changed(block: BlockId): void {
    for (const uplink of this.#uplinks) uplink.changed(block);
  }

  hurry(): void {
    for (const uplink of this.#uplinks) uplink.hurry();
  }

  /** Asks the leader. @throws TfsError UNAVAILABLE when none is known or the one known does not lead any more */
  async callLeader<T>(
    op: number,
    message: object,
    schema: z.ZodType<T>,
    deadlineMs = RPC_MS_DEFAULT,
  ): Promise<T> {
    const leader = this.#uplinks.filter((uplink) => uplink.leader).sort((a, b) => b.epoch - a.epoch)[0];
    if (leader === undefined)
      throw new TfsError('UNAVAILABLE', 'no leading NameServer is known', { retryAfterMs: 1000 });
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
