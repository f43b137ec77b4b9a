import { isTfsError, TfsError, toTfsError } from '../../common/errors.ts';
import type { BlockId } from '../../common/ids.ts';
import {
  SCRUB_FIRST_MS,
  SCRUB_LOOK_MS,
  SCRUB_PASS_MS_DEFAULT,
  SCRUB_PIECE_BYTES,
  SCRUBBED_BLOCKS_MAX,
  SCRUBBED_MS,
  SCRUBS_AT_FULL_SPEED,
} from '../../common/limits.ts';
import type { Log } from '../../common/log.ts';
import type { Clock } from '../../common/seams/clock.ts';
import type { Scrub, ScrubFigures } from '../../common/wire/scrub.ts';
import type { BlockStore, ReadPace } from '../block/store.ts';
import type { ScrubLedger } from './ledger.ts';
import { Meter } from './meter.ts';
import { Bucket, rateFor, restMs } from './pace.ts';
import { beginPass, type Due, dueIn, isPassDue, isScrubbed, isSetBack, type Pass } from './pass.ts';
import type { ReadClock } from './read-times.ts';

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
  #restMs = 0;
  #leftReplicas = 0;
  #leftBytes = 0;
  #closed = false;
  #running: Promise<void> | undefined;

  constructor(deps: ScrubberDeps) {
    this.#deps = deps;
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
    if (this.#closed) throw new TfsError('CLOSED', 'this DataServer stops');
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

  async #run(): Promise<void> {
    const { ledger, clock, passMs, log } = this.#deps;
    await this.#sleep(SCRUB_FIRST_MS);
    while (!this.#closed) {
      const { pass } = ledger;
      try {
        if (isPassDue(pass, clock.now(), passMs)) await this.#beginPass(false);
        else if (pass === undefined || pass.endedAtMs !== undefined) await this.#sleep(SCRUB_LOOK_MS);
        else await this.#goOn(pass);
      } catch (error) {
        if (this.#closed) return;
        log.warn({ err: toTfsError(error) }, 'a scrub was interrupted; it goes on');
        await this.#sleep(SCRUB_LOOK_MS);
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
    const { store, ledger, clock } = this.#deps;
    const infos = store.blocks.flatMap((block) => store.info(block) ?? []);
    // The pass may begin a moment from now; see above.
    const nowMs = Math.max(clock.now(), pass.startedAtMs);
    return dueIn(pass, infos, (block) => ledger.readAtMs(block), nowMs);
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
    const { store, ledger, clock, log } = this.#deps;
    const info = store.info(block);
    // Found damaged by somebody else since: its repair reads all of it.
    const isThere = info !== undefined && isScrubbed(info);
    const begunAtMs = Math.max(clock.now(), pass.startedAtMs);
    let found = { bytes: 0, problems: 0 };
    if (isThere) found = await this.#verify(block);
    this.#leftReplicas--;
    this.#leftBytes -= bytes;
    // Of a pass that has begun since, this reading is no part.
    if (!this.#isOf(pass)) return;
    const now = ledger.pass!;
    const isDamaged = found.problems > 0;
    this.stats.damaged += isDamaged ? 1 : 0;
    if (isDamaged) log.warn({ block, problems: found.problems }, 'a scrub has found damage');
    if (!isThere) return;
    await ledger.read(block, begunAtMs, {
      ...now,
      replicas: now.replicas + 1,
      bytes: now.bytes + found.bytes,
      damaged: now.damaged + (isDamaged ? 1 : 0),
      problems: now.problems + found.problems,
    });
  }

  async #verify(block: BlockId): Promise<{ readonly bytes: number; readonly problems: number }> {
    const { store, clock, log } = this.#deps;
    try {
      const { bytes, problems, lost } = await store.verify(block, this.#pace);
      // A replica that was replaced while it was read says nothing of the one that is there now.
      const info = store.info(block);
      const isDamaged = info !== undefined && info.flags !== 0;
      this.stats.replicas++;
      this.#scrubbed.set(block, clock.monotonic());
      return { bytes, problems: isDamaged ? problems.length - (lost > 0 ? 1 : 0) : 0 };
    } catch (error) {
      if (this.#closed) throw error;
      // It was dropped.
      if (!isTfsError(error, 'DONT_KNOW'))
        log.warn({ block, err: toTfsError(error) }, 'a replica could not be scrubbed');
      return { bytes: 0, problems: 0 };
    }
  }

  readonly #pace: ReadPace = {
    pieceBytes: SCRUB_PIECE_BYTES,
    read: async (bytes, work) => {
      const { reads, clock } = this.#deps;
      await this.#turn(bytes);
      if (this.#closed) throw new TfsError('CLOSED', 'this DataServer stops');
      const result = await reads.piece(work);
      this.stats.bytes += bytes;
      this.#meter.add(bytes, clock.monotonic());
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
