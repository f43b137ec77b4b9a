import { z } from 'zod';
import { JOB_KINDS, type JobKind } from '../../common/jobs.ts';
import type { Log } from '../../common/log.ts';
import { type NameStore, PAUSED_KEY } from '../name-store.ts';

/** A kind of which a later version knows is no reason to forget the others. */
const zPaused = z.array(z.string());

/** Kinds of jobs that an operator has stopped: none of them is queued or ordered until it is told otherwise. */
export class Pauses {
  readonly #store: NameStore;
  readonly #log: Log;
  #paused: ReadonlySet<JobKind>;
  #writing: Promise<unknown> = Promise.resolve();

  static async open(store: NameStore, log: Log): Promise<Pauses> {
    const stored = (await store.read(PAUSED_KEY, zPaused)) ?? [];
    return new Pauses(store, log, new Set(JOB_KINDS.filter((kind) => stored.includes(kind))));
  }

  private constructor(store: NameStore, log: Log, paused: ReadonlySet<JobKind>) {
    this.#store = store;
    this.#log = log;
    this.#paused = paused;
  }

  get all(): readonly JobKind[] {
    return [...this.#paused];
  }

  isPaused(kind: JobKind): boolean {
    return this.#paused.has(kind);
  }

  /** Resolves when durable. @throws TfsError IO, DISK_FULL */
  set(kind: JobKind, paused: boolean): Promise<void> {
    const work = this.#writing.then(async () => {
      const next = new Set(this.#paused);
      if (paused) next.add(kind);
      else next.delete(kind);
      await this.#store.write(PAUSED_KEY, [...next], 'which jobs are paused');
      this.#paused = next;
      this.#log.warn({ kind, paused }, paused ? 'an operator pauses jobs' : 'an operator lets jobs go on');
    });
    this.#writing = work.catch(() => undefined);
    return work;
  }
}
