import { crc32 } from '../common/crc.ts';
import { type ErrorCode, isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, Cookie, FileId, Millis, ServerId } from '../common/ids.ts';
import { CHECK_MS_MAX, READ_ATTEMPT_MS_MAX, READ_ROUNDS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import {
  type CheckReply,
  decodeCheckReply,
  decodeReadReply,
  encodeCheck,
  encodeRead,
  NameFlag,
  Op,
  type ReadReply,
} from '../common/wire/messages.ts';
import { backoffMs } from './backoff.ts';
import type { Caller, CallReply } from './caller.ts';
import type { ClusterMapCache } from './cluster-map.ts';
import type { Hedging, Kind } from './hedging.ts';
import type { BlockLocation, Locations } from './locations.ts';
import type { Preference } from './preference.ts';
import { spread } from './rendezvous.ts';
import { type Answer, askInTurn } from './round.ts';
import { isUnreachable, type ServerHealth } from './server-health.ts';
import type { ServerPace } from './server-pace.ts';

/** What a name says: where the picture is, and the proof that the asker was told. */
export interface PictureKey {
  readonly block: BlockId;
  readonly fileId: FileId;
  readonly cookie: Cookie;
}

export interface Wanted {
  /** First byte. */
  readonly offset: number;
  /** Bytes, cut at the end; 0 for the facts alone. */
  readonly length: number;
  /** Also when it is deleted or hidden. */
  readonly force: boolean;
}

/** Facts of the whole picture, and the bytes asked for, verified on the disk's side and again here. */
export interface Piece {
  readonly facts: ReadReply;
  readonly payload: Buffer;
}

/**
 * What is done with a picture that only replicas have which are not confirmed as current: `available` gives it, `fresh`
 * says "not now", because it may have been deleted or hidden meanwhile.
 */
export type ReadPolicy = 'available' | 'fresh';

export interface ReaderParts {
  readonly caller: Caller;
  readonly map: ClusterMapCache;
  readonly locations: Locations;
  readonly health: ServerHealth;
  readonly pace: ServerPace;
  readonly preference: Preference;
  readonly hedging: Hedging;
  readonly policy: ReadPolicy;
  readonly clock: Clock;
  readonly random: Random;
  /** A replica failed its checksums; another one is asked. */
  readonly onCorrupt: (server: ServerId, block: BlockId) => void;
}

const UNREADABLE = NameFlag.DELETED | NameFlag.HIDDEN | NameFlag.PURGED;
/** Answers of one server that end the question, whatever the others would say. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_FOUND', 'GONE', 'BAD_REQUEST', 'BAD_NAME']);

/** A question, in the words of who asks it. */
interface Question<T> {
  readonly kind: Kind;
  /** How long one replica is waited for while others can be asked. */
  readonly attemptMs: number;
  readonly op: number;
  readonly header: Buffer;
  /** @throws TfsError CORRUPT for an answer that is wrong */
  read(reply: CallReply): Answer<T>;
  /** What a provisional answer comes to with the flags that a current replica holds. @throws TfsError NOT_FOUND */
  confirm(held: T, current: CheckReply): T;
}

/**
 * Reads from whichever replica can. A current replica's answer counts, also its "not found". A provisional one is used
 * only where no current one answers, and only by policy; "don't know" never becomes "not found".
 */
export class Reader {
  readonly #parts: ReaderParts;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /**
   * @param same facts that another piece of the same picture came with: an answer about other content is corrupt
   * @throws TfsError NOT_FOUND, CORRUPT when every replica is, DONT_KNOW or UNAVAILABLE
   */
  read(key: PictureKey, wanted: Wanted, same?: ReadReply): Promise<Piece> {
    return this.#ask<Piece>(key, {
      kind: same === undefined ? 'first' : 'piece',
      attemptMs: READ_ATTEMPT_MS_MAX,
      op: Op.READ,
      header: encodeRead({ ...key, ...wanted }),
      read: (reply) => {
        const facts = decodeReadReply(reply.header);
        verify(facts, reply.payload, wanted, same);
        return { value: { facts, payload: reply.payload }, provisional: facts.provisional };
      },
      confirm: ({ facts, payload }, { nameFlags }) => {
        if ((nameFlags & UNREADABLE) !== 0 && !wanted.force) throw notFound();
        return { facts: { ...facts, nameFlags, provisional: false }, payload };
      },
    });
  }

  /** The flags of a name whose bytes and cookie were verified before; no replica reads its disk for it. */
  check(key: PictureKey): Promise<CheckReply> {
    return this.#ask<CheckReply>(key, flagsOf(key));
  }

  /** One question, put to the replicas of a block until it is answered. */
  async #ask<T>(key: PictureKey, question: Question<T>): Promise<T> {
    const { clock, hedging, locations, map, policy, random } = this.#parts;
    const deadlineAt = clock.monotonic() + RPC_MS_DEFAULT;
    const findings = new Findings();
    hedging.earn();
    for (let round = 1; ; round++) {
      const cached = locations.cached(key.block);
      const isMapKnown = map.current !== undefined || (await this.#readMap(findings));
      const location = cached ?? (isMapKnown ? await this.#locate(key.block, findings) : undefined);
      const order = location === undefined ? [] : this.#order(key, location);
      const answer = await this.#round(key, order, question, deadlineAt, findings);
      if (answer?.provisional && policy === 'available') mark('read-provisional-used');
      if (answer !== undefined && (!answer.provisional || policy === 'available')) return answer.value;
      if (answer !== undefined) findings.note('policy "fresh"', unconfirmed());
      if (location !== undefined) locations.invalidate(key.block, location);
      const left = deadlineAt - clock.monotonic();
      if (round >= READ_ROUNDS_MAX || left <= 0 || findings.onlyCorrupt) throw findings.conclusion();
      map.noteTrouble();
      // A stale location is the likeliest reason; a fresh one deserves no wait.
      if (cached === undefined) await clock.sleep(Math.min(left, backoffMs(round, random)));
    }
  }

  /**
   * Every replica once, until one answers. After a provisional answer the others are only asked for the flags: what a
   * name holds never changes, so bytes of a replica that is behind, with the flags of one that is not, are a current
   * answer.
   */
  #round<T>(
    key: PictureKey,
    order: readonly ServerId[],
    question: Question<T>,
    deadlineAt: number,
    findings: Findings,
  ): Promise<Answer<T> | undefined> {
    const { clock, hedging, pace, policy, preference } = this.#parts;
    return askInTurn<T>({
      count: order.length,
      ask: (i, held) => {
        const now = clock.monotonic();
        const left = deadlineAt - now;
        if (left <= 0) return NO_ANSWER;
        const server = order[i]!;
        const onError = (error: unknown) => this.#noteFailure(server, key.block, error, findings);
        if (held === undefined) {
          const deadlineMs = i === order.length - 1 ? left : Math.min(left, question.attemptMs);
          return this.#put(server, question, question.read, { now, deadlineMs, onError });
        }
        // One that answers nothing is not waited for once more: there is something to show.
        if (policy === 'available' && (!preference.isReachable(server) || pace.isSilent(server)))
          return NO_ANSWER;
        const confirmed = (reply: CallReply): Answer<T> | undefined => {
          const current = decodeCheckReply(reply.header);
          if (current.provisional) return undefined;
          mark('read-provisional-confirmed');
          return { value: question.confirm(held.value, current), provisional: false };
        };
        return this.#put(server, flagsOf(key), confirmed, {
          now,
          deadlineMs: Math.min(left, CHECK_MS_MAX),
          onError,
        });
      },
      watch: (i, onLate) => hedging.watch(question.kind, order[i]!, onLate),
    });
  }

  /**
   * One question to one server; how it fared counts whether or not somebody still waits for the answer. Without async
   * functions of its own: every picture passes here.
   *
   * @param onError throws what ends the question, and takes note of anything else
   */
  #put<T>(
    server: ServerId,
    { kind, op, header }: Question<unknown>,
    read: (reply: CallReply) => Answer<T> | undefined,
    {
      now: askedAt,
      deadlineMs,
      onError,
    }: { now: Millis; deadlineMs: number; onError: (error: unknown) => void },
  ): Promise<Answer<T> | undefined> {
    const { caller, clock, health, hedging, map, pace } = this.#parts;
    const address = map.addressOf(server);
    if (address === undefined) {
      onError(new TfsError('UNAVAILABLE', 'not in the cluster map', { details: { server } }));
      return NO_ANSWER;
    }
    const isRead = op === Op.READ;
    pace.asked(server, askedAt);
    return Promise.resolve(caller.call(address, op, header, undefined, deadlineMs)).then(
      (reply) => {
        const now = clock.monotonic();
        const latencyMs = now - askedAt;
        pace.answered(server, now, isRead ? latencyMs : undefined);
        // How long the slow ones take is no reason to wait as long for the others.
        if (!pace.isBehind(server)) hedging.answered(kind, latencyMs);
        health.succeeded(server);
        try {
          return read(reply);
        } catch (error) {
          onError(error);
          return undefined;
        }
      },
      (error: unknown) => {
        const now = clock.monotonic();
        if (!isUnreachable(error)) pace.answered(server, now, undefined);
        else pace.failed(server, isRead && isTfsError(error, 'DEADLINE') ? now - askedAt : undefined);
        onError(error);
        return undefined;
      },
    );
  }

  async #readMap(findings: Findings): Promise<boolean> {
    try {
      await this.#parts.map.get();
      return true;
    } catch (error) {
      findings.note('NameServers', error);
      return false;
    }
  }

  async #locate(block: BlockId, findings: Findings): Promise<BlockLocation | undefined> {
    try {
      return await this.#parts.locations.locate(block);
    } catch (error) {
      if (isTfsError(error, 'NOT_FOUND')) throw error;
      findings.note('NameServers', error);
      return undefined;
    }
  }

  #order(key: PictureKey, { members }: BlockLocation): readonly ServerId[] {
    const first = spread(key.block, key.fileId, members.length);
    const rotated = first === 0 ? members : [...members.slice(first), ...members.slice(0, first)];
    return this.#parts.preference.order(rotated);
  }

  /** @throws the error itself when it is the answer */
  #noteFailure(server: ServerId, block: BlockId, error: unknown, findings: Findings): void {
    const known = toTfsError(error);
    if (FINAL.has(known.code)) throw known;
    if (isUnreachable(error)) this.#parts.health.failed(server);
    if (known.code === 'CORRUPT') {
      mark('read-other-replica');
      this.#parts.onCorrupt(server, block);
    }
    findings.note(`server ${server}`, known);
  }
}

/** Why no replica gave an answer. */
class Findings {
  #corrupt = 0;
  #unsure = 0;
  readonly #failures: string[] = [];
  #cause: unknown;

  note(who: string, error: unknown): void {
    const { code, message } = toTfsError(error);
    if (code === 'CORRUPT') this.#corrupt++;
    if (code === 'DONT_KNOW') this.#unsure++;
    this.#cause = error;
    this.#failures.push(`${who}: ${code} ${message}`);
  }

  get onlyCorrupt(): boolean {
    return this.#corrupt > 0 && this.#corrupt === this.#failures.length;
  }

  conclusion(): TfsError {
    const cause = this.#cause;
    const reasons = [...new Set(this.#failures)].join('; ');
    if (this.onlyCorrupt)
      return new TfsError('CORRUPT', `every replica of this picture is damaged (${reasons})`, { cause });
    const code = this.#unsure > 0 ? 'DONT_KNOW' : 'UNAVAILABLE';
    return new TfsError(code, `no replica can answer now (${reasons})`, { cause, retryAfterMs: 1000 });
  }
}

const NO_ANSWER: Promise<undefined> = Promise.resolve(undefined);

const flagsOf = (key: PictureKey): Question<CheckReply> => ({
  kind: 'check',
  attemptMs: CHECK_MS_MAX,
  op: Op.CHECK,
  header: encodeCheck(key),
  read: (reply) => {
    const value = decodeCheckReply(reply.header);
    return { value, provisional: value.provisional };
  },
  confirm: (_, current) => current,
});

const notFound = (): TfsError => new TfsError('NOT_FOUND', 'there is no such picture');

const unconfirmed = (): TfsError =>
  new TfsError('DONT_KNOW', 'the replicas that answer are not confirmed as current');

/** The last look before bytes leave: the disk's side checked them against the record, this checks the way here. */
function verify(facts: ReadReply, payload: Buffer, wanted: Wanted, same: ReadReply | undefined): void {
  const expected = Math.max(0, Math.min(wanted.length, facts.size - wanted.offset));
  if (payload.length !== expected)
    throw corrupt(`${payload.length} bytes came instead of ${expected} of ${facts.size}`);
  if (expected > 0) {
    const crc = crc32(payload);
    if (facts.offset !== wanted.offset) throw corrupt(`bytes from ${facts.offset}, not ${wanted.offset}`);
    if (crc !== facts.payloadCrc || (expected === facts.size && crc !== facts.dataCrc))
      throw corrupt('the bytes do not match their checksum');
  }
  if (same !== undefined && (same.size !== facts.size || !same.sha1.equals(facts.sha1)))
    throw corrupt('another content than the pieces before');
}

const corrupt = (why: string): TfsError => new TfsError('CORRUPT', `a replica answered wrongly: ${why}`);
