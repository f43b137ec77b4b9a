import { assert, TfsError } from '../common/errors.ts';
import type { ServerId, Version } from '../common/ids.ts';
import { ELIGIBLE_HEARTBEAT_AGE_MS_MAX, PROMISE_ROUND_MS_MAX, START_WAIT_MS } from '../common/limits.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { tunable } from '../common/tunables.ts';
import type { OpenBlock, OpenBlockReply, Reign } from '../common/wire/control.ts';
import type { BlockMap } from './block-map.ts';
import type { Members } from './members.ts';
import type { PairHealth } from './pair-health.ts';
import { type Placement, place } from './placement.ts';
import type { Series } from './series.ts';

export interface OpenBlockDeps {
  readonly map: BlockMap;
  readonly members: Members;
  readonly pairs: PairHealth;
  readonly series: Series;
  readonly clock: Clock;
  readonly random: Random;
  readonly replicas: number;
  readonly minWrite: number;
  /** @throws TfsError NOT_LEADER */
  readonly requireReign: () => Reign;
  /** How long the present reign has lasted. */
  readonly ledForMs: () => number;
}

const LOOK_AGAIN_MS = 50;
const NO_AVOID: ReadonlySet<ServerId> = new Set();

/** Gives out new blocks: an id that was never used, and a write set that does not change for the block's life. */
export class BlockOpener {
  readonly stats = { opened: 0, refused: 0 };
  readonly #deps: OpenBlockDeps;
  readonly #startedAtMs: number;

  constructor(deps: OpenBlockDeps) {
    this.#deps = deps;
    this.#startedAtMs = deps.clock.monotonic();
  }

  /**
   * A new block with the asking server as its primary.
   *
   * @throws TfsError UNREGISTERED, NOT_LEADER; NO_WRITE_SET, naming what to do; SAFE_MODE when ids have run out and not
   *   everyone has been heard; OVERLOADED when too many of its blocks wait for their seal
   */
  async open(ask: OpenBlock): Promise<OpenBlockReply> {
    const { map, members, series, requireReign, replicas, clock } = this.#deps;
    members.hear(ask.server, ask.incarnation);
    this.#checkBacklog(ask.server);
    const avoid = new Set(ask.avoid);
    let chosen = this.#place(ask.server, avoid);
    while (this.#isWorthWaiting(chosen)) {
      await clock.sleep(LOOK_AGAIN_MS);
      chosen = this.#place(ask.server, avoid);
    }
    if (!chosen.ok) throw this.#refusal(chosen);
    const block = await series.next();
    // Checked after the last await: what is granted is granted under the reign it names.
    const reign = requireReign();
    const version: Version = { epoch: reign.epoch, n: 1 };
    map.open(block, { version, members: chosen.members, targetReplicas: replicas });
    this.stats.opened++;
    return {
      block,
      reign,
      version,
      targetReplicas: replicas,
      members: chosen.members.map((id) => {
        const member = members.address(id);
        assert(member !== undefined, 'a chosen member has registered');
        return member;
      }),
    };
  }

  /** Whether a new block of this primary would get all the replicas that are wanted. */
  isFullSetPossible(primary: ServerId): boolean {
    const chosen = this.#place(primary, NO_AVOID);
    return chosen.ok && chosen.members.length === this.#deps.replicas;
  }

  /** Without pairs that keep failing, if enough are left; a store with no others goes on with those. */
  #place(primary: ServerId, avoid: ReadonlySet<ServerId>): Placement {
    const { members, pairs, requireReign, random, replicas, minWrite } = this.#deps;
    const servers = members.candidates(requireReign());
    const held = servers.map(({ id }) => id).filter((id) => pairs.isHeld(primary, id));
    const placed = (without: ReadonlySet<ServerId>) =>
      place({
        primary,
        servers,
        avoid: without,
        replicas,
        minWrite,
        blockBytes: members.get(primary)?.record.blockBytes ?? 0,
        random: () => random.float(),
      });
    const chosen = placed(held.length === 0 ? avoid : new Set([...avoid, ...held]));
    return chosen.ok || held.length === 0 ? chosen : placed(avoid);
  }

  /**
   * Just after the start of this process others are about to register, just after the start of a reign they are about to
   * promise: blocks with few replicas would only have to be sealed, and there may be no ids yet. A server that was heard and is gone is not awaited,
   * so that a failover does not wait for the dead.
   */
  #isWorthWaiting(chosen: Placement): boolean {
    const { clock, members, series, replicas, requireReign, ledForMs } = this.#deps;
    if (chosen.ok && chosen.members.length >= replicas && !series.isBlocked) return false;
    const missing = members.missing(requireReign());
    if (clock.monotonic() - this.#startedAtMs < START_WAIT_MS) return missing.length > 0;
    const isNew = ledForMs() < PROMISE_ROUND_MS_MAX;
    return isNew && missing.some((id) => members.heardAgoMs(id) < ELIGIBLE_HEARTBEAT_AGE_MS_MAX);
  }

  #checkBacklog(primary: ServerId): void {
    const { map } = this.#deps;
    if (map.unsettled.size < tunable.unsettledBlocksPerServerMax) return;
    let own = 0;
    for (const block of map.unsettled) if (map.locate(block)?.opsPrimary === primary) own++;
    if (own >= tunable.unsettledBlocksPerServerMax)
      throw new TfsError('OVERLOADED', `${own} blocks of server ${primary} are not sealed yet`, {
        retryAfterMs: 1000,
      });
  }

  #refusal(placement: Extract<Placement, { ok: false }>): TfsError {
    const { minWrite } = this.#deps;
    this.stats.refused++;
    const { domains, why } = placement;
    return new TfsError(
      'NO_WRITE_SET',
      `a new block needs ${minWrite} failure domains (cluster.minWrite) and ${domains} can take one: ${why}. ` +
        'Start or repair those servers, or lower cluster.minWrite',
      { retryAfterMs: 1000, details: { domains } },
    );
  }
}
