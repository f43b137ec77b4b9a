import { Violation } from './observed.ts';
import { type RunOptions, type RunResult, runSeed } from './run.ts';

export interface Minimized {
  readonly result: RunResult;
  readonly options: RunOptions;
  /** Runs that it took. */
  readonly runs: number;
}

/** Two failures that look like the same one. */
function kindOf(error: unknown): string {
  if (error instanceof Violation) return error.kind;
  return error instanceof Error ? `${error.name} ${error.message.slice(0, 40)}` : String(error);
}

/**
 * Leaves out faults, and operations at the end, as long as the seed still fails in the same way.
 *
 * @param told hears of each step that was kept
 */
export async function minimize(
  first: RunResult,
  options: RunOptions,
  { runsMax = 200, told }: { readonly runsMax?: number; readonly told: (line: string) => void },
): Promise<Minimized> {
  const { seed } = first.plan;
  const wanted = kindOf(first.error);
  let runs = 0;
  let best = { result: first, options };
  const tryWith = async (change: Partial<RunOptions>, what: string): Promise<boolean> => {
    if (runs >= runsMax) return false;
    runs++;
    const changed = { ...best.options, ...change };
    const result = await runSeed(seed, changed);
    if (result.error === undefined || kindOf(result.error) !== wanted) return false;
    best = { result, options: changed };
    told(`${what}: still fails, after ${result.events} events`);
    return true;
  };
  // Everything behind the failure is of no use.
  const operations = first.operations;
  for (let after = Math.floor(operations / 2); after > 0; after = Math.floor(after / 2))
    if (!(await tryWith({ stopAfter: after }, `${after} operations`))) break;
  let kept = Array.from({ length: best.result.faultsDrawn }, (_, n) => n);
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length; ) {
      const without = kept.slice(at, at + size);
      const skip = new Set([...(best.options.skip ?? []), ...without]);
      if (await tryWith({ skip }, `without faults ${without.join(' ')}`))
        kept = kept.filter((n) => !without.includes(n));
      else at += size;
    }
  }
  return { ...best, runs };
}
