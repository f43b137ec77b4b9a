import { type ChildProcess, fork } from 'node:child_process';

export interface PoolOptions<Start, Task, Result> {
  readonly jobs: number;
  /** The module that the processes run, as it is compiled or as `.ts` where the caller is: it is sent `{ start }` once, then `{ task }` and answers each with its result. */
  readonly worker: string;
  readonly start: Start;
  /** @returns undefined when there is nothing left to do */
  readonly next: () => Task | undefined;
  readonly done: (result: Result) => void;
}

/** Processes of their own, each with one task at a time. */
export class ChildPool<Start, Task, Result> {
  readonly #options: PoolOptions<Start, Task, Result>;
  readonly #children: ChildProcess[] = [];

  constructor(options: PoolOptions<Start, Task, Result>) {
    this.#options = options;
  }

  /** Resolves when no task is left, and rejects when a process ends before it was told to. */
  async run(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: this.#options.jobs }, () => this.#work()));
    } finally {
      this.stop();
    }
  }

  /** Those that still work end in the middle of it. */
  stop(): void {
    for (const child of this.#children.splice(0)) if (child.connected) child.disconnect();
  }

  #work(): Promise<void> {
    const { worker, start, next, done } = this.#options;
    // What they make is garbage at once: the room for what is young is large.
    const tsx = worker.endsWith('.ts') ? ['--import', 'tsx'] : [];
    const child = fork(worker, { execArgv: ['--max-semi-space-size=64', ...tsx] });
    this.#children.push(child);
    return new Promise((resolve, reject) => {
      let isOver = false;
      const goOn = (): void => {
        const task = next();
        if (task !== undefined) {
          child.send({ task });
          return;
        }
        isOver = true;
        child.disconnect();
        resolve();
      };
      child.on('message', (result) => {
        done(result as Result);
        goOn();
      });
      child.on('error', reject);
      child.on('exit', (code, signal) => {
        if (!isOver && this.#children.includes(child))
          reject(new Error(`a process of the pool ended early (${signal ?? code})`));
        else resolve();
      });
      child.send({ start });
      goOn();
    });
  }
}

/** What {@link ChildPool} expects of the module that its processes run. */
export function serveTasks<Start, Task, Result>(
  begin: (start: Start) => (task: Task) => Promise<Result>,
): void {
  let run: ((task: Task) => Promise<Result>) | undefined;
  process.on('message', async (message: { start: Start } | { task: Task }) => {
    if ('start' in message) run = begin(message.start);
    else process.send!(await run!(message.task));
  });
  // The parent is gone, or has enough.
  process.on('disconnect', () => process.exit(0));
}
