import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { type BlockId, formatHostPort, type HostPort, type ServerId } from '../common/ids.ts';
import { REAPPEND_MS_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { mark } from '../common/marks.ts';
import type { Timer } from '../common/seams/clock.ts';
import { tunable } from '../common/tunables.ts';
import { type EndSession, zEmpty } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Faults } from './block/store.ts';
import { type OpenBlockDeps, openBlock } from './open-block.ts';
import { type NewRecord, type SessionDeps, type SessionEnd, type Stored, WriteSession } from './session.ts';

const MAINTAIN_MS = 500;
/** A session with less room than this share of its block counts as nearly full: the next one is opened already. */
const NEARLY_FULL = 0.12;
const OPEN_RETRY_MS_MIN = 100;
const OPEN_RETRY_MS_MAX = 1000;

export interface SessionPoolDeps extends OpenBlockDeps {
  /** OPEN blocks to keep as the primary. */
  readonly openBlocks: number;
  readonly memberAckMs: number;
  readonly log: Log;
  /** Why nothing new should be put on this disk now; undefined while it takes writes. */
  readonly unfit: () => TfsError | undefined;
  /** The own disk did not store a batch in time. */
  readonly onDiskLate: () => void;
  readonly faults?: Faults;
  readonly onOwn?: NonNullable<SessionDeps['onOwn']>;
}

/**
 * The OPEN blocks of which this DataServer is the primary. Keeps a few open, gives each record to one of them, and
 * stores it again in another when a session ends before the record was durable everywhere.
 */
export class SessionPool {
  readonly stats = { batches: 0, records: 0 };
  readonly #deps: SessionPoolDeps;
  #sessions: WriteSession[] = [];
  #opening = 0;
  #openNotBeforeMs = 0;
  #openRetryMs = OPEN_RETRY_MS_MIN;
  #openError: TfsError | undefined;
  #waiters: (() => void)[] = [];
  /** Sessions that ended and of which the leader has not heard yet. */
  readonly #ended = new Map<BlockId, EndSession>();
  #reporting: Promise<void> | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(deps: SessionPoolDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#timer = this.#deps.clock.every(MAINTAIN_MS, () => this.#maintain());
    this.#maintain();
  }

  get openCount(): number {
    return this.#sessions.length;
  }

  /** Blocks that are being written as the primary. */
  get openBlocks(): BlockId[] {
    return this.#sessions.map((session) => session.spec.block);
  }

  /**
   * Resolves when the record is durable on every member of a write set.
   *
   * @throws TfsError RETRY_ELSEWHERE after {@link REAPPEND_MS_MAX} without success; details: `avoid`, the members
   *   that failed; at once where this disk hangs or has no room. TOO_LARGE when it fits no block. READ_ONLY when this
   *   disk takes no writes.
   */
  async append(record: NewRecord): Promise<Stored> {
    const { clock } = this.#deps;
    const giveUpAt = clock.monotonic() + REAPPEND_MS_MAX;
    let last: TfsError | undefined;
    for (;;) {
      if (this.#closed)
        throw new TfsError('RETRY_ELSEWHERE', 'this DataServer is stopping', { retryAfterMs: 500 });
      const unfit = this.#deps.unfit();
      if (unfit !== undefined) throw unfit;
      const session = this.#pick(record.size);
      if (session !== undefined) {
        try {
          return await session.append(record);
        } catch (error) {
          if (!isTfsError(error, 'SESSION_ENDED')) throw error;
          mark('record-stored-again');
          last = error;
        }
      }
      const leftMs = giveUpAt - clock.monotonic();
      if (leftMs <= 0 || (session === undefined && this.#isHopeless)) throw this.#giveUp(last);
      this.#maintain();
      if (session === undefined) await this.#change(leftMs);
    }
  }

  /** A leader that was waited for, or another one: what failed for want of it is tried now. */
  leaderFound(): void {
    this.#openNotBeforeMs = 0;
    this.#openRetryMs = OPEN_RETRY_MS_MIN;
    this.#maintain();
  }

  /**
   * A connection to a peer is over: whether it still has what was sent, and whether it is the same process when it
   * answers again, nobody knows. Every session with it ends now, and not one after the other as their batches fail.
   */
  peerLost(address: HostPort): void {
    if (this.#deps.faults?.has('session-outlives-connection')) return;
    for (const session of [...this.#sessions])
      for (const member of session.spec.others)
        if (formatHostPort(member.address) === formatHostPort(address)) {
          mark('session-ended-connection-lost');
          session.end('member', [member.id], new TfsError('CONNECTION_LOST', formatHostPort(address)));
        }
  }

  /** The leader has fenced the block: nothing that is given to its session now could become durable. */
  fenced(block: BlockId): void {
    this.#sessions.find((session) => session.spec.block === block)?.end('fenced');
  }

  /** Their blocks wait for their seal; others are opened where that is possible. */
  endAll(reason: 'io' | 'stop'): void {
    for (const session of [...this.#sessions]) session.end(reason);
  }

  /** Ends every session; the blocks wait for their seal. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.endAll('stop');
    this.#notify();
    // One try: a leader that does not hear it finds out from the restart.
    await this.#report();
  }

  /**
   * Fills one block while its backlog is short, so that batches are large and fsyncs few; the others take over when it
   * falls behind.
   */
  #pick(size: number): WriteSession | undefined {
    let best: WriteSession | undefined;
    let full: WriteSession | undefined;
    for (const session of this.#sessions) {
      if (!session.fits(size)) {
        full = session;
        continue;
      }
      if (best === undefined || session.backlogBytes < best.backlogBytes) best = session;
      if (best.backlogBytes < tunable.shortBacklogBytes) break;
    }
    if (full !== undefined && (best === undefined || full.roomBytes < full.spec.blockBytes * NEARLY_FULL)) {
      if (full.backlogBytes === 0) full.end('full');
    }
    return best;
  }

  #maintain(): void {
    if (this.#closed) return;
    const { clock, openBlocks, blockBytes, unfit } = this.#deps;
    const now = clock.monotonic();
    if (unfit() !== undefined) this.endAll('io');
    for (const session of [...this.#sessions]) {
      if (now - session.openedAtMs > tunable.openBlockAgeMsMax) session.end('age');
    }
    const roomy = this.#sessions.filter((session) => session.roomBytes >= blockBytes * NEARLY_FULL).length;
    if (unfit() === undefined && now >= this.#openNotBeforeMs) {
      for (let missing = openBlocks - roomy - this.#opening; missing > 0; missing--) void this.#open();
    }
    if (this.#ended.size > 0) void this.#report();
  }

  async #open(): Promise<void> {
    this.#opening++;
    try {
      const session = await this.#openOne();
      this.#openRetryMs = OPEN_RETRY_MS_MIN;
      this.#openError = undefined;
      if (this.#closed) session.end('stop');
      else this.#sessions.push(session);
    } catch (error) {
      const failure = toTfsError(error);
      if (this.#openError?.message !== failure.message) {
        this.#deps.log.warn(
          { code: failure.code, reason: failure.message },
          'cannot open a block; trying again',
        );
      }
      this.#openError = failure;
      // Slow peers are better than none: a stall of the whole machine makes everyone look slow to everyone.
      if (failure.code === 'NO_WRITE_SET') this.#deps.suspects.pardonSlow();
      this.#openNotBeforeMs = this.#deps.clock.monotonic() + this.#openRetryMs;
      this.#deps.clock.after(this.#openRetryMs, () => this.#maintain());
      this.#openRetryMs = Math.min(this.#openRetryMs * 2, OPEN_RETRY_MS_MAX);
    } finally {
      this.#opening--;
      this.#notify();
    }
  }

  async #openOne(): Promise<WriteSession> {
    const opened = await openBlock(this.#deps);
    if (!opened.ok) {
      this.#closeBlock(opened.block);
      this.#queueReport(opened.block, opened.session, 'member', opened.failed);
      throw opened.error;
    }
    return new WriteSession(opened.spec, {
      ...this.#deps,
      onCommit: (records) => {
        this.stats.batches++;
        this.stats.records += records;
      },
      onEnd: (end) => this.#onEnd(end),
    });
  }

  #onEnd({ session, reason, failed, error }: SessionEnd): void {
    const { spec } = session;
    if (reason === 'io') mark('session-ended-own-disk');
    if (reason === 'fenced') mark('session-ended-fenced');
    if (reason === 'age') mark('session-ended-age');
    if (reason === 'io' && isTfsError(error, 'DEADLINE')) this.#deps.onDiskLate();
    this.#sessions = this.#sessions.filter((other) => other !== session);
    for (const member of spec.others) {
      if (failed.includes(member.id)) {
        this.#deps.suspects.suspect(member.id, member.address, session.failureOf(member.id));
      }
    }
    // What is stored again must not wait for the same member once more.
    for (const other of [...this.#sessions]) {
      const shared = other.members.filter((id) => failed.includes(id));
      if (shared.length > 0) other.end('member', shared, session.failureOf(shared[0]!));
    }
    if (reason !== 'full')
      this.#deps.log.info({ block: spec.block, reason, failed }, 'a write session ended');
    this.#closeBlock(spec.block);
    // Of a fence the leader need not be told.
    if (reason !== 'fenced') this.#queueReport(spec.block, spec.session, reason, failed);
    // What was in the way of another block was, perhaps, the one that has just failed.
    if (failed.length > 0) this.#openNotBeforeMs = 0;
    this.#maintain();
    this.#notify();
  }

  /** Here nothing is appended any more; if the leader does not hear of it, it sees the state of the block. */
  #closeBlock(block: BlockId): void {
    const { store, log } = this.#deps;
    if (store.info(block) === undefined) return;
    store.endSession(block).catch((error: unknown) => {
      log.warn({ block, reason: toTfsError(error).message }, 'a block could not be closed for appends');
    });
  }

  #queueReport(
    block: BlockId,
    session: EndSession['session'],
    reason: EndSession['reason'],
    failed: readonly ServerId[],
  ): void {
    this.#ended.set(block, { server: this.#deps.server, block, session, reason, failed: [...failed] });
    void this.#report();
  }

  /** One run at a time; a call while it goes on waits for it. */
  #report(): Promise<void> {
    this.#reporting ??= this.#reportAll().finally(() => {
      this.#reporting = undefined;
    });
    return this.#reporting;
  }

  async #reportAll(): Promise<void> {
    try {
      for (const [block, end] of this.#ended) {
        await this.#deps.nameservers.callLeader(Op.END_SESSION, end, zEmpty, 1000);
        this.#ended.delete(block);
      }
    } catch (error) {
      // It stays queued for the next round of maintenance.
      this.#deps.log.debug(
        { reason: toTfsError(error).message },
        'the leader has not heard of an ended session yet',
      );
    }
  }

  /** The leader says that this server itself cannot be in a write set now. */
  get #isHopeless(): boolean {
    return this.#openError?.code === 'NO_WRITE_SET' && this.#openError.details?.['domains'] === 0;
  }

  #giveUp(last: TfsError | undefined): TfsError {
    mark('retry-elsewhere');
    const why = last ?? this.#openError;
    const message = `no block can take the picture now${why ? `: ${why.message}` : ''}`;
    return new TfsError('RETRY_ELSEWHERE', message, {
      cause: why,
      details: { avoid: this.#deps.suspects.all },
      retryAfterMs: 1000,
    });
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(Math.min(timeoutMs, MAINTAIN_MS), resolve);
      this.#waiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  #notify(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
