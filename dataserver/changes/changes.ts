import { isTfsError, toTfsError } from '../../common/errors.ts';
import { type BlockId, type Cookie, type Incarnation, isAlias, type Slot } from '../../common/ids.ts';
import { CHANGES_ANSWER_MS, CHANGES_PER_ANSWER_MAX } from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { type Change, type Changes as ChangesAnswer, zChangesAsk } from '../../common/wire/changes.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { EMPTY_BUFFER } from '../../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../block/store.ts';
import type { RecentChanges } from './recent-changes.ts';

export interface ChangesDeps {
  readonly incarnation: Incarnation;
  readonly recent: RecentChanges;
  readonly store: Pick<BlockStore, 'records'>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Tells gateways which names changed their state. A name needs its cookie, which stands in its record: that is read when
 * somebody asks, and once; a deletion costs nothing here.
 */
export class Changes {
  readonly #deps: ChangesDeps;

  constructor(deps: ChangesDeps) {
    this.#deps = deps;
  }

  /** Changes of the last day that it can tell of. */
  get kept(): number {
    const { recent } = this.#deps;
    return recent.next - recent.first;
  }

  /** CHANGES: from where the asker was, some at a time. */
  async tell({ header }: RpcRequest): Promise<RpcResult> {
    const { recent, clock, incarnation } = this.#deps;
    const ask = decodeControl(zChangesAsk, header, 'CHANGES');
    // Numbers of an earlier process mean nothing: from the beginning then, which the logs tell again.
    const isKnown = ask.incarnation === incarnation && ask.from <= recent.next;
    const from = isKnown ? ask.from : 0;
    const begin = Math.max(from, recent.first);
    const end = Math.min(recent.next, begin + CHANGES_PER_ANSWER_MAX);
    const missed = recent.missedSince(from);
    const changes: Change[] = [];
    const unreadable = new Set<BlockId>();
    const untilMs = clock.monotonic() + CHANGES_ANSWER_MS;
    let unread = 0;
    let next = begin;
    for (; next < end; next++) {
      // One of which the cookies were read already costs nothing; at least one is told, so that it goes on.
      if (next > begin && clock.monotonic() >= untilMs) break;
      // It may have had to make room while others were read.
      if (next < recent.first) continue;
      const { block, fileId, kind, atMs, cookie = await this.#read(next, end, unreadable) } = recent.at(next);
      if (cookie === undefined) unread++;
      else changes.push({ block, fileId, cookie, kind, atMs });
    }
    const answer: ChangesAnswer = { incarnation, changes, next, more: next < recent.next, unread, missed };
    return { header: EMPTY_BUFFER, payload: [encodeControl(answer)] };
  }

  /** The records of this block are about to be left out: what is not read now never will be. */
  async learn(block: BlockId): Promise<void> {
    const numbers = this.#deps.recent.unknownOf(block);
    if (numbers.length > 0) await this.#readAll(block, numbers);
  }

  /** The cookie of that change, and with it those of all others of its block up to `end`. */
  async #read(n: number, end: number, unreadable: Set<BlockId>): Promise<Cookie | undefined> {
    const { recent } = this.#deps;
    const { block } = recent.at(n);
    if (unreadable.has(block)) return undefined;
    const numbers: number[] = [];
    for (let i = n; i < end; i++) {
      const change = recent.at(i);
      if (change.block === block && change.cookie === undefined) numbers.push(i);
    }
    const cookies = await this.#readAll(block, numbers);
    // What is missing is not looked for again in this answer.
    unreadable.add(block);
    return cookies.get(n);
  }

  async #readAll(block: BlockId, numbers: readonly number[]): Promise<ReadonlyMap<number, Cookie>> {
    const { recent, store, log } = this.#deps;
    const slots = new Map<number, Slot>();
    for (const n of numbers) {
      const { fileId } = recent.at(n);
      if (!isAlias(fileId)) slots.set(n, fileId as number as Slot);
    }
    const read = new Map<number, Cookie>();
    try {
      const cookies = await store.records.cookiesOf(block, [...new Set(slots.values())]);
      for (const [n, slot] of slots) {
        const cookie = cookies.get(slot);
        if (cookie === undefined) continue;
        recent.learn(n, cookie);
        read.set(n, cookie);
      }
    } catch (error) {
      // Dropped since, or damaged: another replica tells.
      if (!isTfsError(error) || isTfsError(error, 'CLOSED')) throw error;
      log.debug({ block, reason: toTfsError(error).message }, 'names that changed do not read here');
    }
    return read;
  }
}
