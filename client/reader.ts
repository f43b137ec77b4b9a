import { crc32 } from '../common/crc.ts';
import { type ErrorCode, isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import type { BlockId, Cookie, FileId, ServerId } from '../common/ids.ts';
import { CHECK_MS_MAX, READ_ATTEMPT_MS_MAX, READ_ROUNDS_MAX, RPC_MS_DEFAULT } from '../common/limits.ts';
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
import type { BlockLocation, Locations } from './locations.ts';
import { spread } from './rendezvous.ts';
import { isUnreachable, type ServerHealth } from './server-health.ts';

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

export interface ReaderParts {
  readonly caller: Caller;
  readonly map: ClusterMapCache;
  readonly locations: Locations;
  readonly health: ServerHealth;
  readonly clock: Clock;
  readonly random: Random;
  /** A replica failed its checksums; another one is asked. */
  readonly onCorrupt: (server: ServerId, block: BlockId) => void;
}

const UNREADABLE = NameFlag.DELETED | NameFlag.HIDDEN | NameFlag.PURGED;
/** Answers of one server that end the question, whatever the others would say. */
const FINAL: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NOT_FOUND', 'GONE', 'BAD_REQUEST', 'BAD_NAME']);

/** An answer of one replica. Provisional: the replica is not confirmed as current. */
interface Answer<T> {
  readonly value: T;
  readonly provisional: boolean;
}

/**
 * Reads from whichever replica can. A current replica's answer counts, also its "not found". A provisional one is used
 * only where no current one answers; "don't know" never becomes "not found".
 */
export class Reader {
  readonly #parts: ReaderParts;

  readonly #isUp: (server: ServerId) => boolean;

  constructor(parts: ReaderParts) {
    this.#parts = parts;
    this.#isUp = (server) => parts.map.isUp(server);
  }

  /**
   * @param same facts that another piece of the same picture came with: an answer about other content is corrupt
   * @throws TfsError NOT_FOUND, CORRUPT when every replica is, DONT_KNOW or UNAVAILABLE
   */
  read(key: PictureKey, wanted: Wanted, same?: ReadReply): Promise<Piece> {
    const header = encodeRead({ ...key, ...wanted });
    return this.#ask<Piece>(key, READ_ATTEMPT_MS_MAX, {
      attempt: async (server, deadlineMs) => {
        const reply = await this.#call(server, Op.READ, header, deadlineMs);
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
    return this.#ask<CheckReply>(key, CHECK_MS_MAX, {
      attempt: (server, deadlineMs) => this.#check(server, key, deadlineMs),
      confirm: (_, current) => current,
    });
  }

  async #check(server: ServerId, key: PictureKey, deadlineMs: number): Promise<Answer<CheckReply>> {
    const reply = await this.#call(server, Op.CHECK, encodeCheck(key), deadlineMs);
    const value = decodeCheckReply(reply.header);
    return { value, provisional: value.provisional };
  }

  /**
   * One question, put to the replicas of a block until it is answered.
   *
   * After a provisional answer the others are only asked for the flags: what a name holds never changes, so bytes of a
   * replica that is behind, with the flags of one that is not, are a current answer.
   */
  async #ask<T>(
    key: PictureKey,
    attemptMs: number,
    how: {
      readonly attempt: (server: ServerId, deadlineMs: number) => Promise<Answer<T>>;
      readonly confirm: (held: T, current: CheckReply) => T;
    },
  ): Promise<T> {
    const { clock, health, locations, map, random } = this.#parts;
    const deadlineAt = clock.monotonic() + RPC_MS_DEFAULT;
    const findings = new Findings();
    for (let round = 1; ; round++) {
      const cached = locations.cached(key.block);
      const location = cached ?? (await this.#locate(key.block, findings));
      let held: Answer<T> | undefined;
      const order = location === undefined ? [] : this.#order(key, location);
      for (let i = 0; i < order.length; i++) {
        const server = order[i]!;
        const left = deadlineAt - clock.monotonic();
        if (left <= 0) break;
        const deadlineMs = i === order.length - 1 ? left : Math.min(left, attemptMs);
        try {
          if (held === undefined) {
            const answer = await how.attempt(server, deadlineMs);
            health.succeeded(server);
            if (!answer.provisional) return answer.value;
            held = answer;
          } else {
            const current = await this.#check(server, key, Math.min(left, CHECK_MS_MAX));
            health.succeeded(server);
            if (!current.provisional) return how.confirm(held.value, current.value);
          }
        } catch (error) {
          this.#noteFailure(server, key.block, error, findings);
        }
      }
      if (held !== undefined) return held.value;
      if (location !== undefined) locations.invalidate(key.block, location);
      const left = deadlineAt - clock.monotonic();
      if (round >= READ_ROUNDS_MAX || left <= 0 || findings.onlyCorrupt) throw findings.conclusion();
      map.noteTrouble();
      // A stale location is the likeliest reason; a fresh one deserves no wait.
      if (cached === undefined) await clock.sleep(Math.min(left, backoffMs(round, random)));
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
    return this.#parts.health.order(rotated, this.#isUp);
  }

  async #call(server: ServerId, op: number, header: Buffer, deadlineMs: number): Promise<CallReply> {
    const { map } = this.#parts;
    if (map.current === undefined) await map.get();
    const address = map.addressOf(server);
    if (address === undefined)
      throw new TfsError('UNAVAILABLE', 'not in the cluster map', { details: { server } });
    return this.#parts.caller.call(address, op, header, undefined, deadlineMs);
  }

  /** @throws the error itself when it is the answer */
  #noteFailure(server: ServerId, block: BlockId, error: unknown, findings: Findings): void {
    const known = toTfsError(error);
    if (FINAL.has(known.code)) throw known;
    if (isUnreachable(error)) this.#parts.health.failed(server);
    if (known.code === 'CORRUPT') this.#parts.onCorrupt(server, block);
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

const notFound = (): TfsError => new TfsError('NOT_FOUND', 'there is no such picture');

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
