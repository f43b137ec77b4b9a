import type { PlantedBugName } from '../kit/planted-bugs.ts';
import { AIMS, isSignOf } from './aims.ts';
import { describeError } from './report.ts';
import { runSeed } from './run.ts';

/** One seed that may show one bug. */
export interface Quarry {
  readonly bug: PlantedBugName;
  readonly seed: number;
}

export interface Trial extends Quarry {
  /**
   * Nothing was wrong; the bug was caught; the seed fails without the bug as well, so it says nothing; or it fails with the
   * bug alone, and in a way that is none of the bug's.
   */
  readonly outcome: 'good' | 'caught' | 'fails-without' | 'fails-otherwise';
  /** What was found to be wrong, with the bug or, where it fails without it, without. */
  readonly wrong: string | undefined;
  /** Of this process, and both runs. */
  readonly cpuMs: number;
}

/** Runs a seed with a bug, and one that fails once more without it: only what the bug does, and breaks, counts. */
export async function tryOne({ bug, seed }: Quarry): Promise<Trial> {
  const before = process.cpuUsage();
  const { outcome, error } = await judge({ bug, seed });
  const { user, system } = process.cpuUsage(before);
  const wrong = error === undefined ? undefined : describeError(error);
  return { bug, seed, outcome, wrong, cpuMs: (user + system) / 1000 };
}

async function judge({ bug, seed }: Quarry): Promise<{ outcome: Trial['outcome']; error: unknown }> {
  const aim = AIMS[bug];
  const { error } = await runSeed(seed, { ...aim, bug });
  if (error === undefined) return { outcome: 'good', error };
  const control = await runSeed(seed, aim);
  if (control.error !== undefined) return { outcome: 'fails-without', error: control.error };
  return { outcome: isSignOf(bug, error) ? 'caught' : 'fails-otherwise', error };
}
