import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import {
  SCRUB_PASS_MS_DEFAULT,
  SCRUBBED_BLOCKS_MAX,
  SCRUBBED_MS,
  SCRUBS_AT_FULL_SPEED,
} from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { tunable } from '../../common/tunables.ts';
import type { Scrub, ScrubFigures } from '../../common/wire/scrub.ts';
import type { BlockInfo, BlockStore, ReadPace } from '../block/store.ts';
import type { Pace } from '../repair.ts';
import { jobPace } from './job-pace.ts';
import type { ScrubLedger } from './ledger.ts';
import { Meter } from './meter.ts';
import { type Overdue, OverdueList } from './overdue.ts';
import { Bucket, rateFor, restMs } from './pace.ts';
import { beginPass, type Due, dueIn, isPassDue, isScrubbed, isSetBack, type Pass } from './pass.ts';
import type { ReadClock } from './read-times.ts';

interface Found {
  readonly bytes: number;
  readonly problems: number;
}

export interface ScrubberDeps {
  readonly store: BlockStore;
  readonly ledger: ScrubLedger;
  readonly reads: ReadClock;
  readonly clock: Clock;
  readonly log: Log;
  /** 0: only when somebody asks for it. */
  readonly passMs: number;
  /** No pass reads faster, but one at full speed. */
  readonly bytesPerSecond: number;
}

/**
 * Reads all sealed replicas of the disk through, again and again, so that what has rotted is found while other replicas
 * are good. What does not verify is SUSPECT from then on, and the leader has it repaired. Open blocks are left out: they
 * are young, and verified when they are sealed.
 */
export class Scrubber {
  readonly stats = { replicas: 0, bytes: 0, damaged: 0 };
  readonly #deps: ScrubberDeps;
  readonly #meter = new Meter();
  readonly #bucket = new Bucket();
  /** Those whose sleep ends when there is something new. */
  readonly #sleepers = new Set<() => void>();
  /** Monotonic: when replicas were read through that are to be told of. */
  readonly #scrubbed = new Map<BlockId, number>();
  /** Replicas that are being read now. */
  readonly #reading = new Map<BlockId, Promise<Found>>();
  readonly #overdue: OverdueList;
  #restMs = 0;
  #leftReplicas = 0;
  #leftBytes = 0;
  #closed = false;
  #running: Promise<void> | undefined;

  constructor(deps: ScrubberDeps) {
    this.#deps = deps;
    const { clock, passMs, ledger } = deps;
    const readAtMs = (block: BlockId): number | undefined => ledger.readAtMs(block);
    this.#overdue = new OverdueList({ clock, passMs, replicas: () => this.#infos(), readAtMs });
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when nothing is read any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#running;
  }

  /** @throws TfsError CLOSED */
  async begin(how: Scrub['begin']): Promise<ScrubFigures> {
    this.#assertOpen();
    const { ledger, log } = this.#deps;
    const isUnderWay = ledger.pass !== undefined && ledger.pass.endedAtMs === undefined;
    if (how === 'full-speed' || (how === 'pass' && !isUnderWay)) {
      log.info({ fullSpeed: how === 'full-speed' }, 'a scrub of the whole disk begins, as was asked for');
      await this.#beginPass(how === 'full-speed');
      this.#wake();
    }
    return this.figures;
  }

  get figures(): ScrubFigures {
    const { ledger, store, clock } = this.#deps;
    const { pass, last } = ledger;
    const isUnderWay = pass !== undefined && pass.endedAtMs === undefined;
    return {
      ...(pass === undefined ? {} : { pass }),
      leftReplicas: isUnderWay ? this.#leftReplicas : 0,
      leftBytes: isUnderWay ? this.#leftBytes : 0,
      bytesPerSecond: Math.round(this.#meter.rate(clock.monotonic())),
      restsForReads: isUnderWay && !pass.fullSpeed && this.#restMs > 0,
      ...(last === undefined ? {} : { last }),
      suspects: store.totals().suspects,
    };
  }

  /** Replicas that were read through in the last moments, for the leader, which compares them with the others. */
  get scrubbed(): BlockId[] {
    const sinceMs = this.#deps.clock.monotonic() - SCRUBBED_MS;
    for (const [block, atMs] of this.#scrubbed) if (atMs < sinceMs) this.#scrubbed.delete(block);
    return [...this.#scrubbed.keys()].slice(-SCRUBBED_BLOCKS_MAX);
  }

  /** Replicas that were not read for far too long, for the leader: at most {@link OVERDUE_BLOCKS_MAX}. */
  get overdue(): Overdue[] {
    return this.#overdue.all.filter(({ block }) => !this.#reading.has(block));
  }

  /** It has just come to be there, and all of it was checked. */
  made(block: BlockId): void {
    const { ledger, clock } = this.#deps;
    void ledger.read(block, clock.now());
  }

  /**
   * Reads one replica through because a job says so, whichever pass is under way; it counts in that one.
   *
   * @throws TfsError DONT_KNOW for one that is not here; UNAVAILABLE where reads of pictures are always in the way; CLOSED; and
   *   what the pace says
   */
  async readThrough(block: BlockId, job: Pace): Promise<void> {
    const { store, ledger, clock, reads, bytesPerSecond } = this.#deps;
    this.#assertOpen();
    const info = store.info(block);
    if (info === undefined) throw new TfsError('DONT_KNOW', `block ${block} is not here`);
    // What a repair reads all of, or a pass reads already: at another pace, which a job need not wait for.
    if (!isScrubbed(info) || this.#reading.has(block)) return;
    const begunAtMs = clock.now();
    const pace = jobPace({
      job,
      reads,
      clock,
      bytesPerSecond,
      sleep: (ms) => this.#sleep(ms),
      assertOpen: () => this.#assertOpen(),
      onRead: (bytes) => this.#counted(bytes),
    });
    const found = await this.#verify(block, pace);
    const { pass } = ledger;
    const isInPass = pass !== undefined && pass.endedAtMs === undefined && begunAtMs >= pass.startedAtMs;
    await this.#note(block, begunAtMs, found, isInPass ? pass : undefined);
  }

  async #run(): Promise<void> {
    const { ledger, clock, passMs, log } = this.#deps;
    await this.#sleep(tunable.scrubFirstMs);
    while (!this.#closed) {
      const { pass } = ledger;
      try {
        if (isPassDue(pass, clock.now(), passMs)) await this.#beginPass(false);
        else if (pass === undefined || pass.endedAtMs !== undefined) await this.#sleep(tunable.scrubLookMs);
        else await this.#goOn(pass);
      } catch (error) {
        if (this.#closed) return;
        log.warn({ err: toTfsError(error) }, 'a scrub was interrupted; it goes on');
        await this.#sleep(tunable.scrubLookMs);
      }
    }
  }

  async #beginPass(fullSpeed: boolean): Promise<void> {
    const { ledger, clock } = this.#deps;
    // Behind all that was begun to be read before, whose bytes may be older than the wish for this pass.
    const startedAtMs =
      Math.max(clock.now(), isSetBack(ledger.pass, clock.now()) ? 0 : (ledger.pass?.startedAtMs ?? 0)) + 1;
    this.#restMs = 0;
    await ledger.begin(beginPass(startedAtMs, fullSpeed));
    this.#count(this.#due(ledger.pass!));
  }

  #due(pass: Pass): Due[] {
    return this.#dueOf(pass, this.#infos());
  }

  #dueOf(pass: Pass, infos: readonly BlockInfo[]): Due[] {
    const { ledger, clock } = this.#deps;
    // The pass may begin a moment from now; see above.
    const nowMs = Math.max(clock.now(), pass.startedAtMs);
    return dueIn(pass, infos, (block) => ledger.readAtMs(block), nowMs);
  }

  #infos(): BlockInfo[] {
    const { store } = this.#deps;
    return store.blocks.flatMap((block) => store.info(block) ?? []);
  }

  #count(due: readonly Due[]): void {
    this.#leftReplicas = due.length;
    this.#leftBytes = due.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Reads what is due now. A pass ends when nothing is any more. */
  async #goOn(pass: Pass): Promise<void> {
    const { ledger, clock, log } = this.#deps;
    const due = this.#due(pass);
    this.#count(due);
    if (due.length === 0) {
      const ended = { ...ledger.pass!, endedAtMs: clock.now() };
      await ledger.end(ended);
      const { startedAtMs, replicas, bytes, damaged, problems, fullSpeed } = ended;
      const seconds = Math.round((ended.endedAtMs - startedAtMs) / 1000);
      log.info({ seconds, replicas, bytes, damaged, problems, fullSpeed }, 'the disk was read through');
      return;
    }
    const work = async (): Promise<void> => {
      for (let next = due.shift(); next !== undefined; next = due.shift()) {
        if (this.#closed || !this.#isOf(pass)) return;
        await this.#read(next, pass);
      }
    };
    const workers = Array.from({ length: pass.fullSpeed ? SCRUBS_AT_FULL_SPEED : 1 }, work);
    const failed = (await Promise.allSettled(workers)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
  }

  #isOf({ startedAtMs, fullSpeed }: Pass): boolean {
    const { pass } = this.#deps.ledger;
    return pass?.startedAtMs === startedAtMs && pass.fullSpeed === fullSpeed;
  }

  async #read({ block, bytes }: Due, pass: Pass): Promise<void> {
    const { store, ledger, clock } = this.#deps;
    const info = store.info(block);
    // Found damaged by somebody else since: its repair reads all of it.
    const isThere = info !== undefined && isScrubbed(info);
    const begunAtMs = Math.max(clock.now(), pass.startedAtMs);
    // A job is at it, or was.
    await this.#reading.get(block)?.catch(() => undefined);
    const isRead = info !== undefined && this.#dueOf(pass, [info]).length === 0;
    let found: Found = { bytes: 0, problems: 0 };
    if (isThere && !isRead) found = await this.#verifyIfThere(block);
    this.#leftReplicas--;
    this.#leftBytes -= bytes;
    // Of a pass that has begun since, this reading is no part.
    if (isThere && !isRead && this.#isOf(pass)) await this.#note(block, begunAtMs, found, ledger.pass);
  }

  /** @param pass in which it was read, as it stands now */
  async #note(block: BlockId, begunAtMs: number, found: Found, pass: Pass | undefined): Promise<void> {
    const { ledger, log } = this.#deps;
    const { bytes, problems } = found;
    const damaged = problems > 0 ? 1 : 0;
    this.stats.damaged += damaged;
    if (damaged > 0) log.warn({ block, problems }, 'a scrub has found damage');
    const next = pass && {
      ...pass,
      replicas: pass.replicas + 1,
      bytes: pass.bytes + bytes,
      damaged: pass.damaged + damaged,
      problems: pass.problems + problems,
    };
    await ledger.read(block, begunAtMs, next);
  }

  async #verifyIfThere(block: BlockId): Promise<Found> {
    try {
      return await this.#verify(block, this.#pace);
    } catch (error) {
      if (this.#closed) throw error;
      // It was dropped.
      if (!isTfsError(error, 'DONT_KNOW'))
        this.#deps.log.warn({ block, err: toTfsError(error) }, 'a replica could not be scrubbed');
      return { bytes: 0, problems: 0 };
    }
  }

  #verify(block: BlockId, pace: ReadPace): Promise<Found> {
    const running = this.#readAll(block, pace).finally(() => this.#reading.delete(block));
    this.#reading.set(block, running);
    return running;
  }

  async #readAll(block: BlockId, pace: ReadPace): Promise<Found> {
    const { store, clock } = this.#deps;
    const { bytes, problems, lost } = await store.verify(block, pace);
    // A replica that was replaced while it was read says nothing of the one that is there now.
    const info = store.info(block);
    const isDamaged = info !== undefined && info.flags !== 0;
    this.stats.replicas++;
    this.#scrubbed.set(block, clock.monotonic());
    return { bytes, problems: isDamaged ? problems.length - (lost > 0 ? 1 : 0) : 0 };
  }

  #assertOpen(): void {
    if (this.#closed) throw new TfsError('CLOSED', 'this DataServer stops');
  }

  #counted(bytes: number): void {
    this.stats.bytes += bytes;
    this.#meter.add(bytes, this.#deps.clock.monotonic());
  }

  readonly #pace: ReadPace = {
    pieceBytes: tunable.scrubPieceBytes,
    read: async (bytes, work) => {
      await this.#turn(bytes);
      this.#assertOpen();
      const result = await this.#deps.reads.piece(work);
      this.#counted(bytes);
      return result;
    },
  };

  /** Waits until the next piece may be read. */
  async #turn(bytes: number): Promise<void> {
    const { ledger, clock, passMs, bytesPerSecond, reads } = this.#deps;
    const { pass } = ledger;
    if (pass === undefined || pass.fullSpeed || this.#closed) return;
    const sinceMs = clock.now() - pass.startedAtMs;
    const rate = rateFor(this.#leftBytes, sinceMs, passMs || SCRUB_PASS_MS_DEFAULT, bytesPerSecond);
    this.#restMs = restMs(this.#restMs, reads.times);
    const waitMs = Math.max(this.#restMs, this.#bucket.take(bytes, rate, clock.monotonic()));
    if (waitMs > 0) await this.#sleep(waitMs);
  }

  #sleep(delayMs: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        this.#sleepers.delete(done);
        resolve();
      };
      const timer = this.#deps.clock.after(delayMs, done);
      this.#sleepers.add(done);
    });
  }

  #wake(): void {
    for (const done of [...this.#sleepers]) done();
  }
}
