import { crc32 } from 'node:zlib';
import { isTfsError, TfsError, toTfsError } from '../common/errors.ts';
import { DISK_SLOW_MS, DISK_STEADY_MS } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { Disk, DiskFile } from '../common/seams/disk.ts';

const PROBE_FILE = 'probe.bin';
const PROBE_EVERY_MS = 1000;
const PROBE_BYTES = 512;
/** Twice the same, in sectors of their own: one that is damaged must not make the disk look younger. */
const COPIES_AT: readonly number[] = [0, 4096];
const AGE_AT = 8;
const CRC_AT = PROBE_BYTES - 4;
/** A probe that takes longer means the disk hangs, whatever it says later. */
const HUNG_AFTER_MS = 5000;
/** One long probe among these is no sign: it may have met a burst. */
const SMOOTHED = 3;

export interface DiskHealth {
  readonly healthy: boolean;
  /** A probe was refused, or this is another disk; not only that one has not ended yet. */
  readonly failed: boolean;
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
  /** Frees some space on a full disk, if it can. */
  readonly makeRoom?: () => Promise<boolean>;
}

/**
 * Finds out once a second whether the disk still takes writes: 512 bytes, twice, and an fdatasync, for real.
 *
 * What it writes is the age of the disk: in how many of those seconds it was in service. NameServers remember the age
 * that they were told last; a disk that is younger was set back to an older copy.
 */
export class DiskProbe {
  readonly #deps: ProbeDeps;
  readonly #block = Buffer.alloc(PROBE_BYTES);
  #file: DiskFile | undefined;
  #age: number;
  /** Not yet, where a process that was killed, or whose sync failed, left it in the page cache alone. */
  #isAgeDurable: boolean;
  #isInService = false;
  #timer: Timer | undefined;
  #startedAt: number | undefined;
  #recentMs: number[] = [];
  #isSlow = false;
  #failure: string | undefined;
  #lost: TfsError | undefined;
  /** Since when a write of somebody else has been waited for in vain; over when a probe that began later has ended. */
  #doubtedAt: number | undefined;
  #inFlight: Promise<void> | undefined;

  private constructor(deps: ProbeDeps, age: number) {
    this.#deps = deps;
    this.#age = age;
    this.#isAgeDurable = age === 0;
  }

  /**
   * @throws TfsError IO when the disk cannot be read, or does not take the age that was found on it: told, and then lost with
   *   the page cache, it would make a disk that lacks nothing look like one that was set back
   */
  static async open(deps: ProbeDeps): Promise<DiskProbe> {
    const probe = new DiskProbe(deps, await readAge(deps.disk));
    await probe.#probe();
    if (!probe.#isAgeDurable && !probe.health.failed && (await deps.makeRoom?.())) await probe.#probe();
    if (!probe.#isAgeDurable) {
      await probe.close();
      const reason = probe.health.reason ?? 'the disk is full';
      throw new TfsError(
        'IO',
        `how long the disk was in service cannot be written to it, which has to be before a NameServer is told: ${reason}. ` +
          'Look at the kernel log, check the disk and its free space',
      );
    }
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
    const refused = this.#lost?.message ?? this.#failure;
    const failure =
      refused ??
      (isHung
        ? 'the disk hangs: a write has not ended for seconds; it is used again when it does. Look at the kernel log and at the controller'
        : undefined);
    const slow = this.#isSlow || isHung;
    const reason = failure ?? (slow ? slowReason(median(this.#recentMs)) : undefined);
    return {
      healthy: failure === undefined,
      failed: refused !== undefined,
      probeMs: Math.max(lastMs, isHung ? pendingMs : 0),
      slow,
      ...(reason === undefined ? {} : { reason }),
    };
  }

  /** In seconds of service, as it is on the disk durably. */
  get age(): number {
    return this.#age;
  }

  /**
   * A NameServer has taken the disk for what it says it is: from now on it grows older. Not before, or a disk that was set
   * back would catch up while it waits for a NameServer.
   */
  inService(): void {
    this.#isInService = true;
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
    const { clock } = this.#deps;
    const age = this.#age + (this.#isInService ? 1 : 0);
    try {
      this.#file ??= await this.#open();
      this.#block.writeDoubleLE(clock.now(), 0);
      this.#block.writeUIntLE(age, AGE_AT, 6);
      this.#block.writeUInt32LE(crc32(this.#block.subarray(0, CRC_AT)), CRC_AT);
      for (const at of COPIES_AT) await this.#file.write([this.#block], at);
      await this.#file.datasync();
      this.#age = age;
      this.#isAgeDurable = true;
    } catch (error) {
      // A full disk is in order: it only has no room.
      if (!isTfsError(error, 'DISK_FULL')) throw error;
    }
  }

  async #open(): Promise<DiskFile> {
    const { disk } = this.#deps;
    try {
      return await disk.open(PROBE_FILE, 'write');
    } catch (error) {
      if (!isTfsError(error, 'NOT_FOUND')) throw error;
    }
    const file = await disk.open(PROBE_FILE, 'create');
    try {
      // Its name, too, is told of.
      await disk.syncDirectory('');
    } catch (error) {
      await file.close();
      throw error;
    }
    return file;
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

/** @returns 0 for a disk that was never in service, or was served by a version that wrote no age */
async function readAge(disk: Disk): Promise<number> {
  let bytes: Buffer;
  try {
    bytes = await disk.readFile(PROBE_FILE);
  } catch (error) {
    if (isTfsError(error, 'NOT_FOUND')) return 0;
    throw error;
  }
  const ages = COPIES_AT.map((at) => bytes.subarray(at, at + PROBE_BYTES))
    .filter((copy) => copy.length === PROBE_BYTES)
    .filter((copy) => copy.readUInt32LE(CRC_AT) === crc32(copy.subarray(0, CRC_AT)))
    .map((copy) => copy.readUIntLE(AGE_AT, 6));
  return Math.max(0, ...ages);
}

const slowReason = (ms: number): string =>
  `the disk is slow: a write of 512 bytes takes ${Math.round(ms)} ms; it is used where nothing faster is. Look for what else uses it, or replace it`;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[(sorted.length - 1) >> 1] ?? 0;
}
