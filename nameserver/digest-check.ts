import { toTfsError } from '../common/errors.ts';
import type { BlockId, ServerId } from '../common/ids.ts';
import {
  DIGEST_CHECKS_RUNNING_MAX,
  DIGEST_CHECKS_WAITING_MAX,
  DISAGREEING_BLOCKS_MAX,
  RPC_MS_DEFAULT,
} from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import {
  type BlockDigestsReply,
  type Member,
  type Reign,
  zBlockDigestsReply,
} from '../common/wire/control.ts';
import { BlockState, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockMap } from './block-map.ts';
import { judgeDigests } from './digest-judgement.ts';

export interface DigestCheckDeps {
  readonly map: BlockMap;
  readonly clock: Clock;
  readonly log: Log;
  /** A question: it changes nothing, and carries no reign. */
  readonly ask: (holder: Member, block: BlockId) => Promise<BlockDigestsReply>;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly reachable: (server: ServerId, reign: Reign) => Member | undefined;
  /** Whether the server obeys, and its whole table is known as of its last heartbeat. */
  readonly isCurrent: (server: ServerId) => boolean;
  /** Has the block sealed anew: the seal that stands highest is the one of all, or it is said why not. */
  readonly seal: (block: BlockId, why: string) => void;
  /** Has a new configuration of the block begin with all that its logs have together. */
  readonly mergeOps: (block: BlockId) => Promise<unknown>;
}

/**
 * Compares replicas that were read through with the others of their block. A scrub finds bytes that are not as they were
 * written; that two servers have been written differently, only this does. Nothing is kept of a block that is in order:
 * the holders are asked when one of them has been read, which is often enough.
 */
export class DigestCheck {
  readonly stats = { checked: 0, disagreements: 0 };
  readonly #deps: DigestCheckDeps;
  readonly #waiting = new Set<BlockId>();
  /** Monotonic: when blocks were compared lately; a heartbeat or two name each. */
  readonly #checkedAtMs = new Map<BlockId, number>();
  /** Those that are not the same, and when to compare them again, monotonic. */
  readonly #disagreeing = new Map<BlockId, { againAtMs: number; looks: number }>();
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(deps: DigestCheckDeps) {
    this.#deps = deps;
  }

  /** Blocks whose replicas are not the same, as of the last look at each. */
  get disagreeing(): number {
    return this.#disagreeing.size;
  }

  /** One of the replicas of these was read through. */
  noted(blocks: readonly BlockId[]): void {
    const now = this.#deps.clock.monotonic();
    for (const [block, atMs] of this.#checkedAtMs) {
      if (now - atMs < tunable.digestCheckAgainMs) break;
      this.#checkedAtMs.delete(block);
    }
    for (const block of blocks)
      if (this.#waiting.size < DIGEST_CHECKS_WAITING_MAX && !this.#checkedAtMs.has(block))
        this.#waiting.add(block);
    this.pump();
  }

  /** Starts what is due. Called now and then by whoever owns the clock. */
  pump(): void {
    if (this.#closed || this.#deps.reign() === undefined) return;
    const now = this.#deps.clock.monotonic();
    for (const [block, { againAtMs }] of this.#disagreeing) if (againAtMs <= now) this.#waiting.add(block);
    for (const block of this.#waiting) {
      if (this.#running.size >= DIGEST_CHECKS_RUNNING_MAX) return;
      this.#waiting.delete(block);
      this.#lookAgain(block, now);
      // Last in the order of the map.
      this.#checkedAtMs.delete(block);
      this.#checkedAtMs.set(block, now);
      const run = this.#check(block).finally(() => {
        this.#running.delete(run);
        this.pump();
      });
      this.#running.add(run);
    }
  }

  /** Starts nothing more; resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
  }

  async #check(block: BlockId): Promise<void> {
    const { log, seal, mergeOps } = this.#deps;
    const answers = await this.#ask(block);
    if (answers === undefined) return;
    this.stats.checked++;
    const found = judgeDigests(answers);
    if (found === undefined) {
      if (this.#disagreeing.delete(block)) log.info({ block }, 'replicas that disagreed are the same again');
      return;
    }
    if (!this.#disagreeing.has(block)) {
      this.stats.disagreements++;
      log.error({ block, found: found.text }, 'replicas of a block are sound, and not the same');
      if (this.#disagreeing.size < DISAGREEING_BLOCKS_MAX)
        this.#disagreeing.set(block, { againAtMs: 0, looks: 0 });
      this.#lookAgain(block, this.#deps.clock.monotonic());
    }
    if (found.seals) mark('digests-disagree-records');
    if (found.ops) mark('digests-disagree-ops');
    if (found.seals) seal(block, 'its replicas are sealed differently');
    if (!found.ops) return;
    try {
      await mergeOps(block);
    } catch (error) {
      log.warn(
        { block, reason: toTfsError(error).message },
        'the operations of a block could not be merged yet',
      );
    }
  }

  /** Of one that disagrees: later each time, as what is done about it may not help. */
  #lookAgain(block: BlockId, nowMs: number): void {
    const known = this.#disagreeing.get(block);
    if (known === undefined) return;
    known.againAtMs =
      nowMs + Math.min(tunable.digestCheckAgainMsMax, tunable.digestCheckAgainMs * 2 ** known.looks);
    known.looks = Math.min(known.looks + 1, 16);
  }

  /** @returns undefined where there are not two to compare, or one that should answer does not */
  async #ask(block: BlockId) {
    const { map, reachable, isCurrent, ask, log } = this.#deps;
    const reign = this.#deps.reign();
    const facts = map.facts(block);
    if (reign === undefined || facts === undefined) {
      this.#disagreeing.delete(block);
      return undefined;
    }
    const holders = facts.replicas
      .filter(
        ({ server, state, good, stale }) =>
          state === BlockState.SEALED && good && !stale && isCurrent(server),
      )
      .flatMap(({ server }) => reachable(server, reign) ?? []);
    if (holders.length < 2) return undefined;
    try {
      return await Promise.all(
        holders.map(async (holder) => ({ server: holder.id, ...(await ask(holder, block)) })),
      );
    } catch (error) {
      // It is compared when the next one of them is scrubbed.
      log.debug({ block, reason: toTfsError(error).message }, 'replicas could not be compared');
      return undefined;
    }
  }
}

export const blockDigestsOver =
  (peers: Peers): DigestCheckDeps['ask'] =>
  async ({ address }, block) =>
    (
      await peers.callControl(
        address,
        Op.BLOCK_DIGESTS,
        { block },
        zBlockDigestsReply,
        undefined,
        RPC_MS_DEFAULT,
      )
    ).message;
