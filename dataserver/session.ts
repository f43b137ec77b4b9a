import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { encodeRecordHeader, type RecordHeader, recordSpan } from '../common/format/record.ts';
import {
  type BlockId,
  type Cookie,
  cookieOf,
  type ServerId,
  type Session,
  SLOT_MAX,
  type Slot,
} from '../common/ids.ts';
import { OWN_STALL_MS_MIN, SEND_AGAIN_MS, SUPERBLOCK_BYTES } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import type { Clock } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { tunable } from '../common/tunables.ts';
import type { Member } from '../common/wire/control.ts';
import { encodeAppend, Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockStore } from './block/store.ts';

/** A picture on its way into a block; its CRCs were computed once, by the gateway, and checked on arrival here. */
export interface NewRecord {
  readonly opId: Buffer;
  readonly sha1: Buffer;
  readonly size: number;
  readonly dataCrc: number;
  readonly suffixHash: number;
  readonly mediaType: number;
  readonly chunkCrcs: Uint32Array;
  readonly payload: Buffer;
}

export interface Stored {
  readonly block: BlockId;
  readonly slot: Slot;
  readonly cookie: Cookie;
  readonly mtimeMs: number;
  readonly members: readonly ServerId[];
  readonly targetReplicas: number;
}

export type EndReason = 'full' | 'member' | 'age' | 'io' | 'stop' | 'fenced';

export interface SessionEnd {
  readonly session: WriteSession;
  readonly reason: EndReason;
  readonly failed: readonly ServerId[];
  /** What ended it, where that was an error. */
  readonly error?: unknown;
}

export interface SessionSpec {
  readonly block: BlockId;
  readonly session: Session;
  /** CRC seed of the block's record headers. */
  readonly seed: number;
  readonly blockBytes: number;
  readonly targetReplicas: number;
  readonly self: ServerId;
  /** The other members of the write set; fixed for the life of the block. */
  readonly others: readonly Member[];
}

export interface SessionDeps {
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly random: Random;
  readonly memberAckMs: number;
  readonly onCommit: (records: number) => void;
  readonly onEnd: (end: SessionEnd) => void;
  /** A planted bug in tests: told of records when the own disk has them, and nobody else need. */
  readonly onOwn?: (block: BlockId, headers: readonly RecordHeader[]) => void;
}

interface Waiting {
  readonly record: NewRecord;
  readonly resolve: (stored: Stored) => void;
  readonly reject: (error: TfsError) => void;
}

const PADDING = Array.from({ length: 8 }, (_, n) => Buffer.alloc(n));

/**
 * The one write session of an OPEN block, at its primary: a queue of records, committed in batches. A batch is one
 * write and one fdatasync here and on every other member, at the same offset, side by side; its records are
 * acknowledged when all of them have answered. The next batch gathers meanwhile. When anything fails the session is
 * over for good: what was not acknowledged is given back to be stored in another block.
 */
export class WriteSession {
  readonly spec: SessionSpec;
  readonly openedAtMs: number;
  readonly #deps: SessionDeps;
  readonly #members: readonly ServerId[];
  #queue: Waiting[] = [];
  #queuedBytes = 0;
  /** End of the last batch that was sent. */
  #length = SUPERBLOCK_BYTES;
  /** End of the last batch that every member has made durable. */
  #ackedLength = SUPERBLOCK_BYTES;
  #nextSlot = 0;
  #committing = false;
  #scheduled = false;
  #ended = false;
  #failures = new Map<ServerId, unknown>();

  constructor(spec: SessionSpec, deps: SessionDeps) {
    this.spec = spec;
    this.#deps = deps;
    this.#members = [spec.self, ...spec.others.map((member) => member.id)];
    this.openedAtMs = deps.clock.monotonic();
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes accepted and not yet acknowledged. */
  get backlogBytes(): number {
    return this.#queuedBytes + (this.#length - this.#ackedLength);
  }

  /** Why a member failed the session, if it did. */
  failureOf(member: ServerId): unknown {
    return this.#failures.get(member);
  }

  /** Bytes this block can still take. */
  get roomBytes(): number {
    return this.spec.blockBytes - this.#length - this.#queuedBytes;
  }

  get members(): readonly ServerId[] {
    return this.#members;
  }

  /** Whether a record of that many payload bytes fits behind what is queued. */
  fits(size: number): boolean {
    return (
      !this.#ended && recordSpan(size) <= this.roomBytes && this.#nextSlot + this.#queue.length <= SLOT_MAX
    );
  }

  /**
   * Resolves when the record is durable on every member: from then on the picture may be acknowledged.
   * Rejects with SESSION_ENDED when it has to go to another block; it may exist here all the same, under a name
   * that nobody was told.
   */
  append(record: NewRecord): Promise<Stored> {
    if (this.#ended) return Promise.reject(sessionEnded(this.spec.block));
    return new Promise((resolve, reject) => {
      this.#queue.push({ record, resolve, reject });
      this.#queuedBytes += recordSpan(record.size);
      if (!this.#committing && !this.#scheduled) {
        this.#scheduled = true;
        // Behind the I/O of this turn of the event loop: what arrived together is committed together.
        this.#deps.clock.soon(() => {
          this.#scheduled = false;
          if (!this.#committing) void this.#commit();
        });
      }
    });
  }

  /**
   * Ends the session; appends in flight may still finish, queued ones are given back.
   *
   * @param cause why the members failed it
   */
  end(reason: EndReason, failed: readonly ServerId[] = [], cause?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const member of failed) if (!this.#failures.has(member)) this.#failures.set(member, cause);
    const waiting = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    const error = sessionEnded(this.spec.block);
    for (const { reject } of waiting) reject(error);
    this.#deps.onEnd({ session: this, reason, failed, error: cause });
  }

  async #commit(): Promise<void> {
    this.#committing = true;
    while (this.#queue.length > 0 && !this.#ended) {
      const batch = this.#takeBatch();
      const { headers, buffers, bytes } = this.#build(batch);
      const offset = this.#length;
      this.#length += bytes;
      this.#nextSlot += batch.length;
      const failure = await this.#replicate(offset, headers, buffers, bytes);
      if (failure !== undefined) {
        const error = sessionEnded(this.spec.block, failure.error);
        for (const { reject } of batch) reject(error);
        this.end(failure.reason, failure.failed, failure.error);
        break;
      }
      this.#ackedLength = offset + bytes;
      this.#deps.store.setAcked(this.spec.block, this.#ackedLength);
      this.#deps.onCommit(batch.length);
      // The ack: write and fdatasync of this batch have succeeded here and on every other member of the write set. It
      // holds however late it comes, also when this process was stopped between a member's answer and now, and the
      // block was sealed meanwhile: each member made the batch durable before its answer, and takes no append after it
      // answered a fence. So whichever member was fenced, its answer counted this batch, and the seal, at the longest
      // of the answers, is not below it. No clock is part of this.
      for (let i = 0; i < batch.length; i++) batch[i]!.resolve(this.#stored(headers[i]!));
    }
    this.#committing = false;
  }

  #takeBatch(): Waiting[] {
    const queue = this.#queue;
    let bytes = 0;
    let count = 0;
    while (count < queue.length && count < tunable.batchRecordsMax) {
      const span = recordSpan(queue[count]!.record.size);
      if (count > 0 && bytes + span > tunable.batchBytesMax) break;
      bytes += span;
      count++;
    }
    this.#queuedBytes -= bytes;
    if (count === queue.length) {
      this.#queue = [];
      return queue;
    }
    return queue.splice(0, count);
  }

  #build(batch: readonly Waiting[]): { headers: RecordHeader[]; buffers: Buffer[]; bytes: number } {
    const { spec } = this;
    const mtimeMs = this.#deps.clock.now();
    const headers: RecordHeader[] = [];
    const buffers: Buffer[] = [];
    let offset = this.#length;
    for (let i = 0; i < batch.length; i++) {
      const { record } = batch[i]!;
      const header: RecordHeader = {
        slot: (this.#nextSlot + i) as Slot,
        cookie: cookieOf(this.#deps.random.u32() & 0x7fff_ffff),
        size: record.size,
        dataCrc: record.dataCrc,
        // The watermark: everything below it was durable on every member before this header was made.
        ackedLength: this.#ackedLength,
        flags: 0,
        mediaType: record.mediaType,
        mtimeMs,
        opId: record.opId,
        sha1: record.sha1,
        suffixHash: record.suffixHash,
        chunkCrcs: record.chunkCrcs,
      };
      headers.push(header);
      const head = encodeRecordHeader(header, spec.seed, offset);
      const span = recordSpan(record.size);
      const pad = span - head.length - record.payload.length;
      buffers.push(head, record.payload);
      if (pad > 0) buffers.push(PADDING[pad]!);
      offset += span;
    }
    return { headers, buffers, bytes: offset - this.#length };
  }

  async #replicate(
    offset: number,
    headers: readonly RecordHeader[],
    buffers: readonly Buffer[],
    bytes: number,
  ): Promise<{ reason: EndReason; failed: ServerId[]; error: unknown } | undefined> {
    const { spec } = this;
    const { store, clock, memberAckMs } = this.#deps;
    const frame = encodeAppend({
      block: spec.block,
      session: spec.session,
      offset,
      ackedLength: this.#ackedLength,
    });
    const sentAt = clock.monotonic();
    const sends = spec.others.map((member) => this.#send(member, frame, buffers, sentAt + memberAckMs));
    const batch = { offset, headers, buffers, bytes };
    const { onOwn } = this.#deps;
    const stored = store.appendBatch(spec.block, spec.session, batch);
    if (onOwn !== undefined)
      stored.then(
        () => onOwn(spec.block, headers),
        () => undefined,
      );
    const local = this.#inTime(stored);
    const [own, ...answers] = await Promise.allSettled([local, ...sends]);
    if (own.status === 'fulfilled' && answers.every((answer) => answer.status === 'fulfilled'))
      return undefined;
    // After a stop of this process, or of the machine, the answers may lie here unread: nobody was slow.
    const hasStalled = clock.monotonic() - sentAt > memberAckMs + OWN_STALL_MS_MIN;
    if (hasStalled) mark('session-stalled');
    const failed: ServerId[] = [];
    let error: unknown;
    answers.forEach((answer, i) => {
      if (answer.status !== 'rejected') return;
      error = answer.reason;
      // A member that fenced the block is healthy; one that did not answer in time or at all is to be avoided.
      if (isTfsError(answer.reason, 'SESSION_ENDED')) return;
      if (hasStalled && isTfsError(answer.reason, 'DEADLINE')) return;
      const { id } = spec.others[i]!;
      if (isTfsError(answer.reason, 'DEADLINE')) mark('session-ended-slow-member');
      failed.push(id);
      this.#failures.set(id, answer.reason);
    });
    if (own.status === 'rejected' && !(hasStalled && isTfsError(own.reason, 'DEADLINE')))
      return { reason: isTfsError(own.reason, 'SESSION_ENDED') ? 'member' : 'io', failed, error: own.reason };
    return { reason: 'member', failed, error: error ?? (own.status === 'rejected' ? own.reason : undefined) };
  }

  /** The own disk gets no more time than the others: one that hangs must not hold up what could go elsewhere. */
  #inTime(work: Promise<void>): Promise<void> {
    const { clock, memberAckMs } = this.#deps;
    return new Promise((resolve, reject) => {
      const timer = clock.after(memberAckMs, () =>
        reject(new TfsError('DEADLINE', `the own disk has not stored a batch within ${memberAckMs} ms`)),
      );
      work.finally(() => timer.cancel()).then(resolve, reject);
    });
  }

  /** A connection that is full is load, and no failure: what was not sent is sent again, until its time is over. */
  async #send(
    { address }: Member,
    frame: Buffer,
    buffers: readonly Buffer[],
    deadlineAt: number,
  ): Promise<void> {
    const { peers, clock } = this.#deps;
    for (;;) {
      const leftMs = deadlineAt - clock.monotonic();
      try {
        await peers.call(address, Op.APPEND, frame, buffers, leftMs);
        return;
      } catch (error) {
        if (!isTfsError(error, 'OVERLOADED') || leftMs <= SEND_AGAIN_MS) throw error;
      }
      await clock.sleep(SEND_AGAIN_MS);
    }
  }

  #stored(header: RecordHeader): Stored {
    return {
      block: this.spec.block,
      slot: header.slot,
      cookie: header.cookie,
      mtimeMs: header.mtimeMs,
      members: this.#members,
      targetReplicas: this.spec.targetReplicas,
    };
  }
}

function sessionEnded(block: BlockId, cause?: unknown): TfsError {
  const why = cause === undefined ? '' : `: ${toTfsError(cause).message}`;
  return new TfsError('SESSION_ENDED', `the write session of block ${block} is over${why}`, { cause });
}
