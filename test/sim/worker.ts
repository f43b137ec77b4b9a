// A process that runs seeds: it is told the options, then one seed after the other.
import { serveTasks } from '../kit/child-pool.ts';
import { type Summary, summaryOf } from './report.ts';
import { type RunOptions, runSeed } from './run.ts';

serveTasks((options: Omit<RunOptions, 'trace' | 'skip'>) => async (seed: number): Promise<Summary> => {
  return summaryOf(await runSeed(seed, options));
});
