import { assert, TfsError, toTfsError } from '../common/errors.ts';
import { LOCK_EVERY_MS, LOCK_TTL_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { LockStore } from '../common/seams/lock-store.ts';
import {
  compareReigns,
  type HandOver,
  type PeerState,
  type PeerStateReply,
  type Promote,
  type PromoteReply,
  type Reign,
} from '../common/wire/control.ts';
import { type Election, type ElectionEffect, type ElectionEvent, newElection, step } from './election.ts';
import type { OtherNameServer } from './other-nameserver.ts';
import type { ReignKeeper } from './reign.ts';

export interface LeadershipDeps {
  readonly nameserver: number;
  readonly keeper: ReignKeeper;
  readonly clock: Clock;
  readonly log: Log;
  /** Without it this NameServer is the only one and leads. */
  readonly rival:
    | { readonly lock: LockStore; readonly other: OtherNameServer; readonly owner: string }
    | undefined;
  /** It knows every block and has heard the DataServers lately: it would lead well. */
  readonly isAble: () => boolean;
}

/**
 * Whether this NameServer commands, and under which reign. Drives the {@link Election} with clock, lock and the other
 * NameServer; ends the reign at once when a higher one shows itself, wherever that is.
 */
export class Leadership {
  readonly #deps: LeadershipDeps;
  #election: Election;
  #reign: Reign | undefined;
  #ledSinceMs = 0;
  #drawing: Promise<void> = Promise.resolve();
  #drawn: Reign | undefined;
  #drawError: unknown;
  /** What has to be said before this process may end. */
  readonly #farewells = new Set<Promise<void>>();
  #timer: Timer | undefined;
  #onLead: () => void = () => undefined;
  #isLockDown = false;

  constructor(deps: LeadershipDeps) {
    this.#deps = deps;
    const { nameserver, rival, clock } = deps;
    this.#election = newElection({ nameserver, isAlone: rival === undefined, nowMs: clock.monotonic() });
  }

  /**
   * Resolves when it leads already, if it is the only one.
   *
   * @param onLead called when a reign begins
   * @throws TfsError IO, DISK_FULL
   */
  async start(onLead: () => void): Promise<void> {
    this.#onLead = onLead;
    this.#timer = this.#deps.clock.every(LOCK_EVERY_MS, () => this.#apply({ kind: 'tick' }));
    this.#apply({ kind: 'tick' });
    if (this.#deps.rival !== undefined) return;
    await this.#drawing;
    if (this.#drawError !== undefined) throw this.#drawError;
  }

  /** Undefined unless this NameServer leads. */
  get reign(): Reign | undefined {
    return this.#reign;
  }

  /** Of whoever leads, as far as this NameServer has heard. */
  get highest(): Reign {
    return this.#deps.keeper.highest;
  }

  /** Whether the lock's store did not answer when it was last asked. */
  get isLockStoreDown(): boolean {
    return this.#isLockDown;
  }

  /** How long this reign has lasted, 0 while there is none. */
  get ledForMs(): number {
    return this.#reign === undefined ? 0 : this.#deps.clock.monotonic() - this.#ledSinceMs;
  }

  /** @throws TfsError NOT_LEADER */
  require(): Reign {
    if (this.#reign !== undefined) return this.#reign;
    throw new TfsError('NOT_LEADER', `NameServer ${this.#deps.nameserver} does not lead: ask the other one`, {
      retryAfterMs: 500,
    });
  }

  /**
   * A DataServer shows this promise.
   *
   * @param isOwn whether this NameServer, in this life, told that DataServer its present reign. Else even an equal
   *   promise is another's: of a life before the store was lost.
   */
  shown(promise: Reign, isOwn: boolean): void {
    this.#deps.keeper.hear(promise);
    if (this.#reign === undefined) return;
    const order = compareReigns(promise, this.#reign);
    if (order > 0 || (order === 0 && !isOwn)) this.#depose(promise, 'a DataServer has promised it');
  }

  /** A command failed: perhaps because its DataServer obeys somebody else. */
  refused(error: unknown): void {
    const failure = toTfsError(error);
    const { epoch, nameserver } = failure.details ?? {};
    if (failure.code !== 'STALE_EPOCH' || typeof epoch !== 'number' || typeof nameserver !== 'number') return;
    this.shown({ epoch: epoch as Reign['epoch'], nameserver }, true);
  }

  /** PEER_STATE from the other NameServer. */
  peerState({ reign, leads }: PeerState): PeerStateReply {
    this.#heardPeer(reign, leads);
    return {
      reign: this.#reign ?? this.highest,
      leads: this.#reign !== undefined,
      able: this.#deps.isAble(),
    };
  }

  /** HAND_OVER from the leader, which has stopped to command. Resolves when this one leads, or cannot. */
  async handedOver({ nameserver, reign }: HandOver): Promise<PromoteReply> {
    const { log, keeper } = this.#deps;
    // A leader that was deposed has nothing to hand over.
    if (compareReigns(reign, keeper.highest) < 0) return this.#promoteReply();
    log.info({ from: nameserver, epoch: reign.epoch }, 'the leader stops and hands over');
    keeper.hear(reign);
    return this.#lead();
  }

  /**
   * An operator's word.
   *
   * @throws TfsError CONFLICT when another choice would be better, and `force` was not given; IO, DISK_FULL
   */
  async promote({ force }: Promote): Promise<PromoteReply> {
    const { log, rival, isAble, nameserver } = this.#deps;
    if (this.#reign === undefined && !force && rival !== undefined) {
      if (!isAble())
        throw new TfsError(
          'CONFLICT',
          `NameServer ${nameserver} has not heard of every block yet ("tfs status"): wait, or use --force`,
        );
      const peer = await rival.other.state(this.#asPeer()).catch((cause: unknown) => {
        throw new TfsError(
          'CONFLICT',
          `the other NameServer does not answer (${toTfsError(cause).message}): if it is gone for good, use --force`,
          { cause },
        );
      });
      this.#heardPeer(peer.reign, peer.leads);
    }
    log.warn({ force }, 'an operator makes this NameServer lead');
    const reply = await this.#lead();
    if (!reply.leads && this.#drawError !== undefined) throw this.#drawError;
    return reply;
  }

  /** Stops to command; hands over to the other NameServer, if there is one. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#apply({ kind: 'stop' });
    await this.#drawing;
    await Promise.allSettled(this.#farewells);
  }

  async #lead(): Promise<PromoteReply> {
    this.#apply({ kind: 'lead' });
    await this.#drawing;
    return this.#promoteReply();
  }

  #promoteReply(): PromoteReply {
    return { reign: this.#reign ?? this.highest, leads: this.#reign !== undefined };
  }

  #heardPeer(reign: Reign, leads: boolean): void {
    this.#deps.keeper.hear(reign);
    if (leads && this.#reign !== undefined && compareReigns(reign, this.#reign) > 0)
      this.#depose(reign, 'the other NameServer leads');
  }

  #depose(by: Reign, why: string): void {
    this.#deps.log.warn(
      { reign: this.#reign, by, why },
      'a higher reign: this NameServer does not lead any more',
    );
    this.#apply({ kind: 'deposed' });
  }

  #apply(event: ElectionEvent): void {
    const { clock, isAble } = this.#deps;
    const { next, effects } = step(this.#election, event, { nowMs: clock.monotonic(), isAble: isAble() });
    this.#election = next;
    for (const effect of effects) this.#do(effect);
  }

  #do(effect: ElectionEffect): void {
    switch (effect) {
      case 'take lock':
        void this.#takeLock();
        return;
      case 'release lock':
        this.#farewell(this.#releaseLock());
        return;
      case 'ask peer':
      case 'tell peer':
        void this.#askPeer();
        return;
      case 'draw':
        this.#drawing = this.#draw();
        return;
      case 'lead':
        this.#reign = this.#drawn;
        this.#ledSinceMs = this.#deps.clock.monotonic();
        this.#deps.log.info({ reign: this.#reign }, 'this NameServer leads');
        this.#onLead();
        return;
      case 'resign':
        this.#reign = undefined;
        return;
      case 'hand over':
        this.#farewell(this.#handOver());
        return;
    }
  }

  async #takeLock(): Promise<void> {
    const { lock, owner } = this.#rival;
    try {
      const { granted, epoch } = await lock.take({ owner, ttlMs: LOCK_TTL_MS, epoch: this.highest.epoch });
      this.#deps.keeper.hint(epoch);
      if (this.#isLockDown) this.#deps.log.info('the lock store answers again');
      this.#isLockDown = false;
      this.#apply({ kind: 'lock', answer: granted ? 'granted' : 'held' });
    } catch (error) {
      const reason = toTfsError(error).message;
      if (!this.#isLockDown)
        this.#deps.log.warn({ reason }, 'no lock store: whoever leads, leads on, and a standby waits longer');
      this.#isLockDown = true;
      this.#apply({ kind: 'lock', answer: 'down' });
    }
  }

  /** Tells the other one what this one is, and hears what it is. */
  async #askPeer(): Promise<void> {
    try {
      const peer = await this.#rival.other.state(this.#asPeer());
      this.#heardPeer(peer.reign, peer.leads);
      this.#apply({ kind: 'peer', answer: peer });
    } catch (error) {
      this.#deps.log.debug({ reason: toTfsError(error).message }, 'the other NameServer does not answer');
      this.#apply({ kind: 'peer', answer: 'silent' });
    }
  }

  async #draw(): Promise<void> {
    const { keeper, log } = this.#deps;
    this.#drawError = undefined;
    try {
      this.#drawn = await keeper.draw();
      // Something higher was heard while it was stored.
      while (compareReigns(this.#drawn, keeper.highest) < 0) {
        mark('reign-drawn-again');
        this.#drawn = await keeper.draw();
      }
      this.#apply({ kind: 'drawn' });
    } catch (error) {
      this.#drawError = error;
      log.error({ err: error }, 'this NameServer cannot lead: it could not store its epoch');
      this.#apply({ kind: 'not drawn' });
    }
  }

  async #releaseLock(): Promise<void> {
    const { lock, owner } = this.#rival;
    try {
      await lock.release(owner);
    } catch (error) {
      // It falls free by itself a little later.
      this.#deps.log.debug({ reason: toTfsError(error).message }, 'the lock could not be released');
    }
  }

  async #handOver(): Promise<void> {
    const { nameserver, log } = this.#deps;
    try {
      await this.#rival.other.handOver({ nameserver, reign: this.highest });
    } catch (error) {
      log.info({ reason: toTfsError(error).message }, 'the other NameServer could not take over at once');
    }
  }

  #farewell(work: Promise<void>): void {
    this.#farewells.add(work);
    void work.then(() => this.#farewells.delete(work));
  }

  #asPeer(): PeerState {
    return {
      nameserver: this.#deps.nameserver,
      reign: this.#reign ?? this.highest,
      leads: this.#reign !== undefined,
    };
  }

  get #rival(): NonNullable<LeadershipDeps['rival']> {
    const { rival } = this.#deps;
    assert(rival !== undefined, 'the only NameServer asks nobody');
    return rival;
  }
}
