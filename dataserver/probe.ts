import { isTfsError, type TfsError, toTfsError } from '../common/errors.ts';
import { DISK_SLOW_MS, DISK_STEADY_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { Disk, DiskFile } from '../common/seams/disk.ts';

const PROBE_FILE = 'probe.bin';
const PROBE_EVERY_MS = 1000;
/** A probe that takes longer means the disk hangs, whatever it says later. */
const HUNG_AFTER_MS = 5000;
/** One long probe among these is no sign: it may have met a burst. */
const SMOOTHED = 3;

export interface DiskHealth {
  readonly healthy: boolean;
  /** Of the last probe that ended, or of the one that has not yet, milliseconds. */
  readonly probeMs: number;
  /** Most of the last probes took long. */
  readonly slow: boolean;
  /** For a person: what is wrong, and what to do. */
  readonly reason?: string;
}

export interface ProbeDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  /** Why the disk is not the one any more that this process opened, if so; see {@link MountWatch}. */
  readonly look: () => Promise<TfsError | undefined>;
  /** Told once, when it is not. */
  readonly onLost: (error: TfsError) => void;
}

/** Finds out once a second whether the disk still takes writes: 512 bytes and an fdatasync, for real. */
export class DiskProbe {
  readonly #deps: ProbeDeps;
  readonly #block = Buffer.alloc(512);
  #file: DiskFile | undefined;
  #timer: Timer | undefined;
  #startedAt: number | undefined;
  #recentMs: number[] = [];
  #isSlow = false;
  #failure: string | undefined;
  #lost: TfsError | undefined;
  /** Since when a write of somebody else has been waited for in vain; over when a probe that began later has ended. */
  #doubtedAt: number | undefined;
  #inFlight: Promise<void> | undefined;

  private constructor(deps: ProbeDeps) {
    this.#deps = deps;
  }

  static async open(deps: ProbeDeps): Promise<DiskProbe> {
    const probe = new DiskProbe(deps);
    await probe.#probe();
    probe.#timer = deps.clock.every(PROBE_EVERY_MS, () => {
      // A hung probe is not joined by a second one: it would only take another thread.
      probe.#inFlight ??= probe.#probe().finally(() => {
        probe.#inFlight = undefined;
      });
    });
    return probe;
  }

  get health(): DiskHealth {
    const pendingMs = this.#startedAt === undefined ? 0 : this.#deps.clock.monotonic() - this.#startedAt;
    const isHung = pendingMs > HUNG_AFTER_MS || this.#doubtedAt !== undefined;
    const lastMs = this.#recentMs.at(-1) ?? 0;
    const failure =
      this.#lost?.message ??
      this.#failure ??
      (isHung
        ? 'the disk hangs: a write has not ended for seconds; it is used again when it does. Look at the kernel log and at the controller'
        : undefined);
    const slow = this.#isSlow || isHung;
    const reason = failure ?? (slow ? slowReason(median(this.#recentMs)) : undefined);
    return {
      healthy: failure === undefined,
      probeMs: Math.max(lastMs, isHung ? pendingMs : 0),
      slow,
      ...(reason === undefined ? {} : { reason }),
    };
  }

  /** A write took too long: until a probe shows otherwise the disk hangs. */
  doubt(): void {
    this.#doubtedAt = this.#deps.clock.monotonic();
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#inFlight;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #probe(): Promise<void> {
    const { clock, log, look, onLost } = this.#deps;
    const startedAt = clock.monotonic();
    this.#startedAt = startedAt;
    try {
      // Before the write: on another file system it would prove nothing.
      const lost = this.#lost ?? (await look());
      if (lost === undefined) await this.#write();
      else if (this.#lost === undefined) {
        this.#lost = lost;
        log.error({ reason: lost.message }, 'the disk is not the one that was opened');
        onLost(lost);
      }
      if (this.#failure !== undefined) log.info({}, 'the disk takes writes again');
      this.#failure = undefined;
      if (this.#doubtedAt !== undefined && startedAt >= this.#doubtedAt) this.#doubtedAt = undefined;
    } catch (error) {
      const reason = `a probe write fails: ${toTfsError(error, 'IO').message}`;
      if (this.#failure === undefined) log.error({ reason }, 'the disk fails');
      // Only its own file was touched: when that can be written again the disk is as good as before.
      this.#failure = reason;
    } finally {
      this.#note(clock.monotonic() - startedAt);
      this.#startedAt = undefined;
    }
  }

  async #write(): Promise<void> {
    const { disk, clock } = this.#deps;
    try {
      this.#file ??= await disk.open(PROBE_FILE, 'create');
      this.#block.writeDoubleLE(clock.now(), 0);
      await this.#file.write([this.#block], 0);
      await this.#file.datasync();
    } catch (error) {
      // A full disk is in order: it only has no room.
      if (!isTfsError(error, 'DISK_FULL')) throw error;
    }
  }

  #note(tookMs: number): void {
    this.#recentMs.push(tookMs);
    if (this.#recentMs.length > SMOOTHED) this.#recentMs.shift();
    const usualMs = median(this.#recentMs);
    if (this.#recentMs.length < SMOOTHED) return;
    const isSlow = this.#isSlow ? usualMs > DISK_STEADY_MS : usualMs > DISK_SLOW_MS;
    if (isSlow === this.#isSlow) return;
    this.#isSlow = isSlow;
    if (isSlow) this.#deps.log.warn({ probeMs: Math.round(usualMs) }, slowReason(usualMs));
    else this.#deps.log.info({ probeMs: Math.round(usualMs) }, 'the disk is as fast as it should be again');
  }
}

const slowReason = (ms: number): string =>
  `the disk is slow: a write of 512 bytes takes ${Math.round(ms)} ms; it is used where nothing faster is. Look for what else uses it, or replace it`;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] ?? 0;
}
