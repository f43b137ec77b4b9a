import { crc32 } from 'node:zlib';
import { Violation } from './crash-model.ts';
import { type CrashPath, formatPath } from './crash-path.ts';
import { isExhaustive, subsets } from './crash-subsets.ts';
import type { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

/** What ended before a subject was opened: the machine, or its process alone. */
export type CrashCause = 'power' | 'kill';

/** What is crashed, and how it is told whether a crash has broken a promise. */
export interface CrashSubject<S extends { close(): Promise<void> }, M> {
  /** @param isWhole everything that a start does; else what is needed to look at it */
  open(disk: RecordingDisk, isWhole: boolean): Promise<S>;
  /** A copy that what goes on does not change. */
  snapshot(model: M): M;
  /** Equal for models of one run that a check could not tell apart. */
  key(model: M): string;
  /** @returns the model as it is from now on: what the crash has decided is decided @throws Violation */
  check(subject: S, model: M, cause: CrashCause): Promise<M>;
  /** What is asked before anything is confirmed that a killed process had written. */
  settle(subject: S, model: M): Promise<void>;
  /** What follows a crash. */
  goOn(subject: S, model: M): Promise<void>;
}

export interface ExplorerOptions<S extends { close(): Promise<void> }, M> {
  readonly subject: CrashSubject<S, M>;
  readonly random: SeededRandom;
  /** Images looked at after each change of the disk. */
  readonly statesPerStep: number;
  /** One image in so many is not only looked at: the subject goes on in it, and crashes again. 0: never. */
  readonly againEvery: number;
  /** After one change in so many the process is killed too, and another goes on with what the kernel has. 0: never. */
  readonly killEvery?: number;
  /** Does something else to an image before it is opened, or looks at it in another way. */
  readonly twist?: (image: RecordingDisk, model: M, random: SeededRandom) => Promise<void>;
  /** This crash alone is looked at. */
  readonly only?: CrashPath;
}

export class CrashCounts {
  /** Images that were opened and checked, the killed processes among them. */
  states = 0;
  /** Of those, the ones of a crash in what followed a crash. */
  again = 0;
  /** Of those, after a step of which every possible image was looked at. */
  exhaustive = 0;
  /** Not looked at: the same as one before, under the same model. */
  repeated = 0;
  /** Of the states: not the machine, but the process ended. */
  killed = 0;

  add(other: Readonly<Record<(typeof COUNTED)[number], number>>): void {
    for (const key of COUNTED) this[key] += other[key];
  }
}

export const COUNTED = ['states', 'again', 'exhaustive', 'repeated', 'killed'] as const;

/** Where a disk that is watched comes from. */
interface Place {
  readonly path: CrashPath;
  /** Images that were looked at, each with its model. */
  readonly seen: Set<string>;
  steps: number;
}

/**
 * Crashes something after every change of its disk, in every way that is legal, opens it on what is left, and compares
 * that with what had been confirmed by then.
 */
export class CrashExplorer<S extends { close(): Promise<void> }, M> {
  readonly counts = new CrashCounts();
  violation: Violation | undefined;
  readonly #options: ExplorerOptions<S, M>;
  readonly #top: Place = { path: [], seen: new Set(), steps: 0 };
  #turn: Promise<void> = Promise.resolve();

  constructor(options: ExplorerOptions<S, M>) {
    this.#options = options;
  }

  get states(): number {
    return this.counts.states;
  }

  /**
   * From now on every change of the disk is followed by crashes. The model is read at that moment. Steps are counted on
   * from those of the disk that was watched before.
   */
  watch(disk: RecordingDisk, model: M): void {
    this.#watch(disk, model, this.#top);
  }

  #watch(disk: RecordingDisk, model: M, place: Place): void {
    disk.onStep = () => this.#step(disk, model, place);
  }

  #step(disk: RecordingDisk, model: M, place: Place): Promise<void> {
    const { subject, killEvery = 0, only } = this.#options;
    const { path } = place;
    const step = place.steps++;
    const wanted = only?.[path.length];
    if (this.violation !== undefined || (only !== undefined && wanted?.step !== step))
      return Promise.resolve();
    const depth = path.length;
    // Taken now, as the disk goes on when it is another's turn; the model is what is confirmed at this moment.
    const point = disk.crashPoint();
    const then = subject.snapshot(model);
    const key = subject.key(then);
    const isTurn =
      only === undefined ? isDrawn(`${key} ${disk.fingerprint()}`, killEvery) : wanted?.kept === 'kill';
    const killed = depth === 0 && isTurn ? disk.fork() : undefined;
    const run = async (): Promise<void> => {
      if (killed !== undefined) await this.#kill(killed, then, [...path, { step, kept: 'kill' }]);
      if (wanted?.kept === 'kill') return;
      const budget = depth === 0 ? this.#options.statesPerStep : Math.ceil(this.#options.statesPerStep / 4);
      const sets = wanted === undefined ? subsets(point.units, budget, this.#options.random) : [wanted.kept];
      for (const kept of sets) {
        if (this.violation !== undefined) return;
        const held = new Set(kept);
        const image = point.image((unit) => held.has(unit));
        const print = `${key} ${image.fingerprint()}`;
        if (place.seen.has(print)) {
          this.counts.repeated++;
          continue;
        }
        place.seen.add(print);
        if (isExhaustive(point.units, budget)) this.counts.exhaustive++;
        await this.#look(image, then, [...path, { step, kept }], print);
      }
    };
    // Looking at images must not wait for another look: at a deeper level the one above waits for this.
    if (depth > 0) return run();
    const turn = this.#turn.then(run);
    this.#turn = turn;
    return turn;
  }

  #look(image: RecordingDisk, model: M, path: CrashPath, print: string): Promise<void> {
    const { subject, againEvery, twist, only } = this.#options;
    const isTurn = only === undefined ? isDrawn(print, againEvery) : only.length > path.length;
    const again = path.length === 1 && isTurn;
    return this.#guard(async () => {
      if (twist !== undefined) {
        // The same for the same image, whatever else was looked at.
        return twist(image, subject.snapshot(model), new SeededRandom(crc32(print)));
      }
      if (again) return this.#goOn(image, model, path, 'power');
      const opened = await subject.open(image, false);
      await subject.check(opened, model, 'power');
      await opened.close();
    }, path);
  }

  #kill(disk: RecordingDisk, model: M, path: CrashPath): Promise<void> {
    this.counts.killed++;
    return this.#guard(() => this.#goOn(disk, model, path, 'kill'), path);
  }

  /** Recovery itself may crash: it is watched like everything else. */
  async #goOn(disk: RecordingDisk, model: M, path: CrashPath, cause: CrashCause): Promise<void> {
    const { subject } = this.#options;
    const place: Place = { path, seen: new Set(), steps: 0 };
    this.#watch(disk, model, place);
    const opened = await subject.open(disk, true);
    const decided = await subject.check(opened, model, cause);
    this.#watch(disk, decided, place);
    if (cause === 'kill') await subject.settle(opened, decided);
    await subject.goOn(opened, decided);
    // The last acknowledgement counts too, though nothing changes the disk after it.
    await disk.step();
    await opened.close();
    disk.onStep = undefined;
    const restarted = await subject.open(disk.settled(), true);
    await subject.check(restarted, decided, 'power');
    await restarted.close();
  }

  async #guard(work: () => Promise<void>, path: CrashPath): Promise<void> {
    this.counts.states++;
    if (path.length > 1) this.counts.again++;
    try {
      await work();
    } catch (error) {
      const isFound = error instanceof Violation;
      const what = isFound
        ? error.message
        : `recovery failed: ${error instanceof Error ? error.stack : error}`;
      this.violation ??= new Violation(`${what} (crash ${formatPath(path)})`, path);
    }
  }
}

/** One in so many, whatever else was looked at before. */
const isDrawn = (print: string, every: number): boolean => every > 0 && crc32(print) % every === 0;
