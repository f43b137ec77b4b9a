import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockId } from '../../common/ids.ts';

/** Where a server is to be stopped: at a call by which it changes the files of one block. */
export interface StepPlan {
  readonly block: BlockId;
  /** The first is 1; 0 only writes all of them down. Or the first whose text has this in it. */
  readonly at: number | string;
  readonly when: 'before' | 'after';
  /** kill: SIGKILL, by itself. hold: the call waits until {@link Steps.go}, at most 20 s; only `before`. */
  readonly action: 'kill' | 'hold';
}

const LOOK_MS = 5;
const PRELOAD = join(import.meta.dirname, 'steps-preload.mjs');

/** One server that can be stopped at any step of its work on a block's files, without a hook in it. */
export class Steps {
  readonly #file: string;
  readonly #tell: (message: object) => void;

  constructor(file: string, tell: (message: object) => void) {
    this.#file = file;
    this.#tell = tell;
  }

  /** From now on, in the present life of the process. */
  arm(plan: StepPlan): void {
    mkdirSync(dirname(this.#file), { recursive: true });
    rmSync(this.#file, { force: true });
    this.#tell({ steps: plan });
  }

  /** What is held goes on. */
  go(): void {
    this.#tell({ go: true });
  }

  /** Lines of what the process wrote down since it was armed. */
  get seen(): string[] {
    return existsSync(this.#file) ? readFileSync(this.#file, 'utf8').split('\n').filter(Boolean) : [];
  }

  /** @returns at which step it was stopped, without the number of the block; undefined when it never came there */
  async reached(block: BlockId, giveUp: () => boolean): Promise<string | undefined> {
    for (;;) {
      const [line] = this.seen;
      if (line !== undefined) return line.replaceAll(`${block}.`, 'N.');
      if (giveUp()) return undefined;
      await sleep(LOOK_MS);
    }
  }
}

/** For the specification of a process whose steps are counted. */
export const stepsFile = (home: string, name: string): string => join(home, 'steps', name);
export const stepsArguments: readonly string[] = ['--import', PRELOAD];
export const stepsEnvironment = (file: string): NodeJS.ProcessEnv => ({ TFS_TEST_STEPS: file });
