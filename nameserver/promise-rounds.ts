import { within } from '../common/deadline.ts';
import type { ServerId } from '../common/ids.ts';
import { PROMISE_ROUND_MS_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock } from '../common/seams/clock.ts';
import {
  compareReigns,
  type Member,
  type PromiseOrder,
  type PromiseReply,
  type Reign,
  zPromiseReply,
} from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { Members } from './members.ts';

/** Asks one DataServer; not longer than {@link PROMISE_ROUND_MS_MAX}. */
export type AskPromise = (to: Member, order: PromiseOrder) => Promise<PromiseReply>;

export function askPromiseOver(peers: Peers, clock: Clock): AskPromise {
  return async ({ id, address }, order) => {
    const call = peers.callControl(
      address,
      Op.PROMISE,
      order,
      zPromiseReply,
      undefined,
      PROMISE_ROUND_MS_MAX,
    );
    return (await within(clock, PROMISE_ROUND_MS_MAX, `server ${id}`, call)).message;
  };
}

export interface PromiseRoundsDeps {
  readonly members: Members;
  readonly log: Log;
  readonly minWrite: number;
  /** Undefined while this NameServer does not lead. */
  readonly reign: () => Reign | undefined;
  readonly ask: AskPromise;
  /** What a DataServer has promised, and whether this NameServer made it do so. */
  readonly onShown: (promise: Reign, isOwn: boolean) => void;
}

/**
 * Asks all DataServers at once whether they obey this NameServer, and makes them.
 *
 * A round in which more than `known - minWrite` of them say so proves that nobody else led when it began: a later
 * leader could have given out no block without `minWrite` of them, one of which would have told of it. That is what an
 * answer "there is no such block" needs, because no clock tells a leader that it was deposed while it was stopped
 * (ReadIndex of Raft: Ongaro, 2014, §6.4).
 */
export class PromiseRounds {
  readonly #deps: PromiseRoundsDeps;
  #running: Promise<boolean> | undefined;
  #next: Promise<boolean> | undefined;
  /** Those that have not answered an earlier round yet: they are not asked once more. */
  readonly #asked = new Set<ServerId>();

  constructor(deps: PromiseRoundsDeps) {
    this.#deps = deps;
  }

  /**
   * A round that begins now or later. Questions that come while one runs share the one after it, so that there are never
   * more than two.
   *
   * @returns whether this NameServer led when the round began
   */
  confirm(): Promise<boolean> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      return this.#start();
    });
    return this.#next;
  }

  #start(): Promise<boolean> {
    const round = this.#round().finally(() => {
      if (this.#running === round) this.#running = undefined;
    });
    this.#running = round;
    return round;
  }

  /** Ends when enough have answered, or none can any more. */
  async #round(): Promise<boolean> {
    const { members, reign: current, minWrite } = this.#deps;
    const reign = current();
    if (reign === undefined) return false;
    const { known } = members;
    const needed = known.length - minWrite + 1;
    const asked = known.filter((id) => members.get(id) !== undefined && !this.#asked.has(id));
    return new Promise((resolve) => {
      let obeying = 0;
      let waiting = asked.length;
      const settled = (obeys: boolean): void => {
        waiting--;
        if (obeys) obeying++;
        if (obeying >= needed) resolve(current() === reign);
        else if (waiting === 0) resolve(false);
      };
      if (asked.length < needed) resolve(false);
      for (const id of asked) void this.#askOne(members.address(id)!, reign).then(settled);
    });
  }

  async #askOne(member: Member, reign: Reign): Promise<boolean> {
    const { members, ask, onShown, log } = this.#deps;
    const live = members.get(member.id);
    if (live === undefined) return false;
    // What it promised before it was told is not to this NameServer, not even if it looks the same.
    const wasTold = live.toldEpoch === reign.epoch;
    if (compareReigns(live.promise, reign) >= 0 && !wasTold) {
      onShown(live.promise, false);
      return false;
    }
    live.toldEpoch = reign.epoch;
    this.#asked.add(member.id);
    try {
      const reply = await ask(member, { reign });
      members.answered(reply);
      onShown(reply.promise, true);
      return reply.server === member.id && compareReigns(reply.promise, reign) === 0;
    } catch (error) {
      log.debug({ server: member.id, err: error }, 'a DataServer does not say whom it obeys');
      return false;
    } finally {
      this.#asked.delete(member.id);
    }
  }
}
