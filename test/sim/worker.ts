// A process that runs seeds: it is told the options, then one seed after the other.
import { serveTasks } from '../kit/child-pool.ts';
import { type Summary, summaryOf } from './report.ts';
import { type RunOptions, runSeed } from './run.ts';

// Every refusal of a server is an error, and few are looked at: `npm run sim` shows where one came from.
Error.stackTraceLimit = 0;

serveTasks((options: Omit<RunOptions, 'trace' | 'skip'>) => async (seed: number): Promise<Summary> => {
  return summaryOf(await runSeed(seed, options));
});
