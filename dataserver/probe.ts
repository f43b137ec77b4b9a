import { toTfsError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { Clock, Timer } from '../common/seams/clock.ts';
import type { Disk, DiskFile } from '../common/seams/disk.ts';

const PROBE_FILE = 'probe.bin';
const PROBE_EVERY_MS = 1000;
/** A probe that takes longer means the disk hangs, whatever it says later. */
const HUNG_AFTER_MS = 5000;

export interface DiskHealth {
  readonly healthy: boolean;
  readonly readOnly: boolean;
  /** Of the last probe that ended, or of the one that has not yet, milliseconds. */
  readonly probeMs: number;
  readonly reason?: string;
}

/** Finds out once a second whether the disk still takes writes: 512 bytes and an fdatasync, for real. */
export class DiskProbe {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #block = Buffer.alloc(512);
  #file: DiskFile | undefined;
  #timer: Timer | undefined;
  #startedAt: number | undefined;
  #lastMs = 0;
  #failure: string | undefined;
  #inFlight: Promise<void> | undefined;

  private constructor(deps: { disk: Disk; clock: Clock; log: Log }) {
    this.#disk = deps.disk;
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  static async open(deps: { disk: Disk; clock: Clock; log: Log }): Promise<DiskProbe> {
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
    const pendingMs = this.#startedAt === undefined ? 0 : this.#clock.monotonic() - this.#startedAt;
    const hung = pendingMs > HUNG_AFTER_MS;
    const reason =
      this.#failure ?? (hung ? `a probe write has not ended for ${Math.round(pendingMs)} ms` : undefined);
    return {
      healthy: reason === undefined,
      readOnly: false,
      probeMs: Math.max(this.#lastMs, hung ? pendingMs : 0),
      ...(reason === undefined ? {} : { reason }),
    };
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.#inFlight;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #probe(): Promise<void> {
    const startedAt = this.#clock.monotonic();
    this.#startedAt = startedAt;
    try {
      this.#file ??= await this.#disk.open(PROBE_FILE, 'create');
      this.#block.writeDoubleLE(this.#clock.now(), 0);
      await this.#file.write([this.#block], 0);
      await this.#file.datasync();
      if (this.#failure !== undefined) this.#log.info({}, 'the disk takes writes again');
      this.#failure = undefined;
    } catch (error) {
      const { message } = toTfsError(error, 'IO');
      if (this.#failure === undefined) this.#log.error({ reason: message }, 'the disk fails a probe write');
      this.#failure = message;
    } finally {
      this.#lastMs = this.#clock.monotonic() - startedAt;
      this.#startedAt = undefined;
    }
  }
}
