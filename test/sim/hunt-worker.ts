// A process that looks for planted bugs, one seed of one bug at a time.
import { serveTasks } from '../kit/child-pool.ts';
import { type Quarry, type Trial, tryOne } from './trial.ts';

Error.stackTraceLimit = 0;

serveTasks(
  () =>
    (quarry: Quarry): Promise<Trial> =>
      tryOne(quarry),
);
