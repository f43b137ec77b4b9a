import { TfsError } from '../../common/errors.ts';
import type { Disk, DiskFile } from '../../common/seams/disk.ts';
import { SimMedium } from './disk.ts';
import type { DiskUser } from './disk-seam.ts';
import { SimProcess } from './process.ts';
import { Scheduler } from './scheduler.ts';

const SEEDS = 200;
/** A sector each. */
export const [A, B, C, ZEROS] = ['a', 'b', 'c', '\0'].map((fill) => fill.repeat(512)) as [
  string,
  string,
  string,
  string,
];

export interface Place {
  readonly medium: SimMedium;
  readonly disk: Disk;
  readonly file: DiskFile;
}

/** A disk with a durable file `a`. */
export async function place(content: string, seed = 1): Promise<Place> {
  const medium = new SimMedium({ name: 'disk', seed });
  const disk = medium.direct();
  return { medium, disk, file: await durable(disk, 'a', content) };
}

export async function durable(disk: Disk, path: string, content: string): Promise<DiskFile> {
  const file = await disk.open(path, 'create');
  await file.writeDurable([Buffer.from(content)], 0);
  await disk.syncDirectory('');
  return file;
}

/** The code of what it fails with. */
export const outcome = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'good',
    (error: unknown) => (error instanceof TfsError ? error.code : String(error)),
  );

export const seenIn = (disk: Disk, path = 'a'): Promise<string> => disk.readFile(path).then(String);

/** What many seeds say, in order. */
export async function overSeeds(one: (seed: number) => Promise<string>): Promise<string[]> {
  const found = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) found.add(await one(seed));
  return [...found].sort();
}

/** One simulated disk, and one life of a process after the other on it, for tests of the disk. */
export class DiskRig {
  readonly scheduler: Scheduler;
  readonly medium: SimMedium;
  readonly #seed: number;
  #lives = 0;

  constructor(seed = 1) {
    this.#seed = seed;
    this.scheduler = new Scheduler(seed);
    this.medium = new SimMedium({ name: 'disk', seed });
  }

  process(): SimProcess {
    const name = `life-${++this.#lives}`;
    return new SimProcess({ name, host: 'host', scheduler: this.scheduler, seed: this.#seed });
  }

  /** Lets time pass until the work is done, or nothing is left to happen. @returns its result, if it came to one */
  async run<T>(work: (disk: Disk) => Promise<T>, process = this.process()): Promise<T | undefined> {
    let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
    work(this.medium.mount(process)).then(
      (value) => {
        outcome = { value };
      },
      (error: unknown) => {
        outcome = { error };
      },
    );
    await this.scheduler.run(() => outcome !== undefined);
    if (outcome === undefined) return undefined;
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }

  /** Somebody who knows nothing of virtual time: it passes while he waits. */
  flowing(): DiskUser {
    const process = this.process();
    let isRunning = false;
    const flow = async (): Promise<void> => {
      while (this.scheduler.pending > 0) await this.scheduler.run(() => false);
      isRunning = false;
    };
    return {
      isAlive: true,
      onKilled: [],
      clock: process.clock,
      at: (delayMs, what, run) => {
        process.at(delayMs, what, run);
        if (isRunning) return;
        isRunning = true;
        setImmediate(flow);
      },
    };
  }
}
