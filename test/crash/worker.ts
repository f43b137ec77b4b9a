// A process that crashes mounts: it is told an effort, then one task after the other.
import { serveTasks } from '../kit/child-pool.ts';
import { type Effort, type Task, TaskRunner } from './tasks.ts';

// Most of the time would go into stack traces of errors that are expected.
Error.stackTraceLimit = 0;

serveTasks((effort: Effort) => {
  const runner = new TaskRunner(effort);
  return (task: Task) => runner.run(task);
});
