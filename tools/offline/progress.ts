import cliProgress from 'cli-progress';

/** How much of some bytes was read: a bar on a terminal, nothing elsewhere. On standard error. */
export interface ByteProgress {
  /** @param bytes done in all; @param detail shown behind the rate */
  at(bytes: number, detail: string): void;
  stop(): void;
}

const MIB = 1024 * 1024;

export function openByteProgress(total: number, terminal: boolean): ByteProgress {
  if (!terminal) return { at: () => undefined, stop: () => undefined };
  const startedMs = performance.now();
  const bar = new cliProgress.SingleBar(
    {
      format: '{bar} {percentage}%  {rate} MiB/s  ETA {eta_formatted}  {detail}',
      stream: process.stderr,
      hideCursor: true,
      fps: 8,
    },
    cliProgress.Presets.shades_classic,
  );
  bar.start(Math.max(1, total), 0, { rate: '0', detail: '' });
  const rateOf = (bytes: number): string => {
    const seconds = Math.max(0.001, (performance.now() - startedMs) / 1000);
    return (bytes / MIB / seconds).toFixed(1);
  };
  return {
    at: (bytes, detail) => bar.update(Math.min(bytes, Math.max(1, total)), { rate: rateOf(bytes), detail }),
    stop: () => bar.stop(),
  };
}
