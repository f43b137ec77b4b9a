import cliProgress from 'cli-progress';

/** How far something is: a bar on a terminal, nothing elsewhere. On standard error. */
export interface StepProgress {
  at(done: number, steps: number, detail: string): void;
  stop(): void;
}

export function openStepProgress(terminal: boolean): StepProgress {
  if (!terminal) return { at: () => undefined, stop: () => undefined };
  const bar = new cliProgress.SingleBar(
    { format: '{bar} {value}/{total}  {detail}', stream: process.stderr, hideCursor: true, fps: 8 },
    cliProgress.Presets.shades_classic,
  );
  bar.start(1, 0, { detail: '' });
  return {
    at: (done, steps, detail) => {
      bar.setTotal(Math.max(1, steps));
      bar.update(Math.min(done, steps), { detail });
    },
    stop: () => bar.stop(),
  };
}
