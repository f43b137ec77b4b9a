import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { blockSeed } from '../common/format/record.ts';
import { encodeSuperblock, type Superblock } from '../common/format/superblock.ts';
import { type BlockId, type Incarnation, type ServerId, sessionOf } from '../common/ids.ts';
import { OPEN_BLOCK_AGE_MS_MAX, REAPPEND_MS_MAX } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { Random } from '../common/seams/random.ts';
import { type EndSession, type OpenBlockReply, zEmpty, zOpenBlockReply } from '../common/wire/control.ts';
import { Op } from '../common/wire/messages.ts';
import type { Peers } from '../common/wire/peers.ts';
import type { BlockStore } from './block/store.ts';
import type { NameServers } from './nameservers.ts';
import type { PromiseKeeper } from './promise.ts';
import { type NewRecord, type SessionEnd, type Stored, WriteSession } from './session.ts';
import type { Suspects } from './suspects.ts';

const MAINTAIN_MS = 500;
/** A session with less room than this share of its block counts as nearly full: the next one is opened already. */
const NEARLY_FULL = 0.12;
/** About a third of a batch on the wire and another one waiting. */
const SHORT_BACKLOG_BYTES = 384 * 1024;
const OPEN_RETRY_MS_MIN = 100;
const OPEN_RETRY_MS_MAX = 1000;

export interface SessionPoolDeps {
  readonly server: ServerId;
  readonly incarnation: Incarnation;
  /** 32 hex digits. */
  readonly clusterUuid: string;
  readonly blockBytes: number;
  /** OPEN blocks to keep as the primary. */
  readonly openBlocks: number;
  readonly memberAckMs: number;
  readonly store: BlockStore;
  readonly peers: Peers;
  readonly nameservers: NameServers;
  readonly promise: PromiseKeeper;
  readonly suspects: Suspects;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
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

  isOpenHere(block: BlockId): boolean {
    return this.#sessions.some((session) => session.spec.block === block);
  }

  /**
   * Resolves when the record is durable on every member of a write set.
   *
   * @throws TfsError RETRY_ELSEWHERE after {@link REAPPEND_MS_MAX} without success; details: `avoid`, the members
   *   that failed. TOO_LARGE when it fits no block. READ_ONLY when this disk takes no writes.
   */
  async append(record: NewRecord): Promise<Stored> {
    const { clock } = this.#deps;
    const giveUpAt = clock.monotonic() + REAPPEND_MS_MAX;
    let last: TfsError | undefined;
    for (;;) {
      if (this.#closed)
        throw new TfsError('RETRY_ELSEWHERE', 'this DataServer is stopping', { retryAfterMs: 500 });
      if (this.#deps.store.readOnly)
        throw new TfsError('READ_ONLY', 'the disk of this DataServer takes no writes');
      const session = this.#pick(record.size);
      if (session !== undefined) {
        try {
          return await session.append(record);
        } catch (error) {
          if (!isTfsError(error, 'SESSION_ENDED')) throw error;
          last = error;
        }
      }
      const leftMs = giveUpAt - clock.monotonic();
      if (leftMs <= 0) throw this.#giveUp(last);
      this.#maintain();
      if (session === undefined) await this.#change(leftMs);
    }
  }

  /** The leader has fenced the block: nothing that is given to its session now could become durable. */
  fenced(block: BlockId): void {
    this.#sessions.find((session) => session.spec.block === block)?.end('fenced');
  }

  /** Ends every session; the blocks wait for their seal. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    for (const session of [...this.#sessions]) session.end('stop');
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
      if (best.backlogBytes < SHORT_BACKLOG_BYTES) break;
    }
    if (full !== undefined && (best === undefined || full.roomBytes < full.spec.blockBytes * NEARLY_FULL)) {
      if (full.backlogBytes === 0) full.end('full');
    }
    return best;
  }

  #maintain(): void {
    if (this.#closed) return;
    const { clock, openBlocks, blockBytes, store } = this.#deps;
    const now = clock.monotonic();
    for (const session of [...this.#sessions]) {
      if (now - session.openedAtMs > OPEN_BLOCK_AGE_MS_MAX) session.end('age');
    }
    const roomy = this.#sessions.filter((session) => session.roomBytes >= blockBytes * NEARLY_FULL).length;
    if (!store.readOnly && now >= this.#openNotBeforeMs) {
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
      this.#openNotBeforeMs = this.#deps.clock.monotonic() + this.#openRetryMs;
      this.#deps.clock.after(this.#openRetryMs, () => this.#maintain());
      this.#openRetryMs = Math.min(this.#openRetryMs * 2, OPEN_RETRY_MS_MAX);
    } finally {
      this.#opening--;
      this.#notify();
    }
  }

  async #openOne(): Promise<WriteSession> {
    const deps = this.#deps;
    const grant = await deps.nameservers.callLeader(
      Op.OPEN_BLOCK,
      { server: deps.server, incarnation: deps.incarnation, avoid: deps.suspects.all },
      zOpenBlockReply,
    );
    await deps.promise.accept(grant.reign);
    const superblock = this.#superblock(grant);
    const others = grant.members.filter((member) => member.id !== deps.server);
    const create = {
      block: grant.block,
      reign: grant.reign,
      version: grant.version,
      opsPrimary: deps.server,
      members: grant.members,
    };
    const image = encodeSuperblock(superblock);
    const outcomes = await Promise.allSettled([
      deps.store.create(superblock, {
        version: grant.version,
        opsPrimary: deps.server,
        members: grant.members.map((member) => member.id),
      }),
      ...others.map((member) =>
        deps.peers.callControl(member.address, Op.CREATE_BLOCK, create, zEmpty, [image]),
      ),
    ]);
    const failures = outcomes.flatMap((outcome, i) =>
      outcome.status === 'rejected' ? [{ i, error: outcome.reason }] : [],
    );
    if (failures.length > 0) {
      const failed = failures
        .filter(({ i }) => i > 0)
        .map(({ i, error }) => ({ member: others[i - 1]!, error }));
      for (const { member, error } of failed) deps.suspects.suspect(member.id, member.address, error);
      this.#queueReport(
        grant.block,
        superblock.session,
        'member',
        failed.map(({ member }) => member.id),
      );
      throw toTfsError(failures[0]!.error);
    }
    return new WriteSession(
      {
        block: grant.block,
        session: superblock.session,
        seed: blockSeed(superblock),
        blockBytes: deps.blockBytes,
        targetReplicas: grant.targetReplicas,
        self: deps.server,
        others,
      },
      {
        store: deps.store,
        peers: deps.peers,
        clock: deps.clock,
        random: deps.random,
        memberAckMs: deps.memberAckMs,
        onCommit: (records) => {
          this.stats.batches++;
          this.stats.records += records;
        },
        onEnd: (end) => this.#onEnd(end),
      },
    );
  }

  #superblock(grant: OpenBlockReply): Superblock {
    const deps = this.#deps;
    return {
      clusterUuid: deps.clusterUuid,
      block: grant.block,
      generation: 0,
      session: sessionOf(Math.max(1, deps.random.u32())),
      blockBytes: deps.blockBytes,
      targetReplicas: grant.targetReplicas,
      slotCount: 0,
      createdAtMs: deps.clock.now(),
      salt: deps.random.bytes(16),
      members: grant.members.map(({ id, incarnation }) => ({ id, incarnation })),
    };
  }

  #onEnd({ session, reason, failed }: SessionEnd): void {
    const { spec } = session;
    this.#sessions = this.#sessions.filter((other) => other !== session);
    for (const member of spec.others) {
      if (failed.includes(member.id)) {
        this.#deps.suspects.suspect(member.id, member.address, session.failureOf(member.id));
      }
    }
    if (reason !== 'full')
      this.#deps.log.info({ block: spec.block, reason, failed }, 'a write session ended');
    // Of a fence the leader need not be told.
    if (reason !== 'fenced') this.#queueReport(spec.block, spec.session, reason, failed);
    this.#maintain();
    this.#notify();
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

  #giveUp(last: TfsError | undefined): TfsError {
    const why = last ?? this.#openError;
    const message = `no block could take the picture within ${REAPPEND_MS_MAX} ms${why ? `: ${why.message}` : ''}`;
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
