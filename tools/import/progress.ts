import cliProgress from 'cli-progress';

/** How far an import is: a bar on a terminal, now and then a line elsewhere. On standard error. */
export interface Progress {
  /** A file of this many bytes is done, whatever came of it. */
  step(bytes: number): void;
  stop(): void;
}

export interface ProgressTotals {
  readonly files: number;
  readonly bytes: number;
}

const LINE_EVERY_MS = 10_000;
const MIB = 1024 * 1024;

export function openProgress(totals: ProgressTotals, terminal: boolean): Progress {
  const meter = new Meter(totals);
  if (!terminal) return lines(meter);
  const bar = new cliProgress.SingleBar(
    {
      format: (options, params) =>
        `${cliProgress.Format.BarFormat(params.progress, options)} ${meter.text()}`,
      stream: process.stderr,
      hideCursor: true,
      etaBuffer: 50,
      fps: 8,
    },
    cliProgress.Presets.shades_classic,
  );
  // An import of nothing but empty files is done from the start.
  bar.start(Math.max(1, totals.bytes), 0);
  return {
    step: (bytes) => {
      meter.add(bytes);
      bar.update(meter.bytes);
    },
    stop: () => bar.stop(),
  };
}

function lines(meter: Meter): Progress {
  const timer = setInterval(() => process.stderr.write(`${meter.text()}\n`), LINE_EVERY_MS);
  timer.unref();
  return {
    step: (bytes) => meter.add(bytes),
    stop: () => clearInterval(timer),
  };
}

/** Rate over everything since the start: what is left takes as long as what is done did. */
class Meter {
  bytes = 0;
  #files = 0;
  readonly #totals: ProgressTotals;
  readonly #startedMs = performance.now();

  constructor(totals: ProgressTotals) {
    this.#totals = totals;
  }

  add(bytes: number): void {
    this.bytes += bytes;
    this.#files++;
  }

  text(): string {
    const seconds = Math.max(0.001, (performance.now() - this.#startedMs) / 1000);
    const { files, bytes } = this.#totals;
    // Small files cost by number, large ones by size: the slower of the two views is the honest one.
    const left = Math.max(
      this.#files > 0 ? ((files - this.#files) / this.#files) * seconds : Number.NaN,
      this.bytes > 0 ? ((bytes - this.bytes) / this.bytes) * seconds : 0,
    );
    const percent = Math.floor((100 * this.#files) / Math.max(1, files));
    return (
      `${String(percent).padStart(3)}%  ${this.#files}/${files} files  ` +
      `${(this.#files / seconds).toFixed(0)}/s  ${(this.bytes / MIB / seconds).toFixed(1)} MiB/s  ` +
      `ETA ${Number.isNaN(left) ? '?' : duration(left)}`
    );
  }
}

export function duration(seconds: number): string {
  const s = Math.ceil(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
