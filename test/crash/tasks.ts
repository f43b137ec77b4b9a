import type { FaultName } from '../../dataserver/block/store.ts';
import { faultsOf } from '../kit/block-world.ts';
import { runCampaign, TROUBLES, type Trouble } from '../kit/crash-campaign.ts';
import { CrashCounts } from '../kit/crash-explorer.ts';
import type { Violation } from '../kit/crash-model.ts';
import { type CrashPath, formatPath, parsePath } from '../kit/crash-path.ts';
import { isLetter, LETTERS, type LetterName } from './alphabet.ts';
import { type CrashOptions, type CrashResult, crashSequence, type Sequence } from './sequence.ts';
import { STARTS, type Start, Starter } from './start.ts';
import { crashWalk } from './walk.ts';

/** A piece of work for one process. */
export type Task =
  /** All sequences that are this one and one letter more. */
  | { readonly kind: 'sequences'; readonly start: Start; readonly letters: readonly LetterName[] }
  | { readonly kind: 'walk'; readonly seed: number }
  | { readonly kind: 'campaign'; readonly trouble: Trouble; readonly seed: number };

export interface Effort {
  readonly seed: number;
  readonly statesPerStep: number;
  readonly againEvery: number;
  readonly killEvery: number;
  /** Planted bugs. */
  readonly faults: readonly FaultName[];
}

/** A crash that has broken a promise. */
export interface Finding {
  /** What finds it again, and nothing else: see {@link runOnly}. */
  readonly only: string;
  readonly message: string;
}

export interface TaskResult {
  readonly counts: CrashCounts;
  /** Sequences of letters that were run. */
  readonly sequences: number;
  readonly findings: readonly Finding[];
}

/** All sequences of up to so many letters, in pieces. */
export function sequenceTasks(lettersMax: number): Task[] {
  const tasks: Task[] = [];
  const extend = (start: Start, letters: readonly LetterName[]): void => {
    if (letters.length >= lettersMax) return;
    tasks.push({ kind: 'sequences', start, letters });
    for (const letter of LETTERS) extend(start, [...letters, letter]);
  };
  for (const start of STARTS) extend(start, []);
  return tasks;
}

/** Longer ones, drawn from seeds: half of them walks, half campaigns with another trouble beside the power. */
export function* randomTasks(seed: number): Generator<Task, never> {
  for (let i = 0; ; i++) {
    yield { kind: 'walk', seed: seed * 1_000_003 + i };
    if (i % 2 === 0)
      yield { kind: 'campaign', trouble: TROUBLES[(i / 2) % TROUBLES.length]!, seed: seed * 1_000 + i };
  }
}

export class TaskRunner {
  readonly #effort: Effort;
  readonly #starter: Starter;

  constructor(effort: Effort) {
    this.#effort = effort;
    this.#starter = new Starter(faultsOf(...effort.faults));
  }

  async run(task: Task): Promise<TaskResult> {
    const counts = new CrashCounts();
    const findings: Finding[] = [];
    const note = (name: string, { counts: found, violation }: CrashResult): void => {
      counts.add(found);
      if (violation !== undefined) findings.push(findingOf(name, violation));
    };
    if (task.kind !== 'sequences') {
      note(nameOf(task), await this.#runOne(task));
      return { counts, sequences: 0, findings };
    }
    for (const letter of LETTERS) {
      const sequence = { start: task.start, letters: [...task.letters, letter] };
      note(nameOfSequence(sequence), await this.#sequence(sequence));
    }
    return { counts, sequences: LETTERS.length, findings };
  }

  /**
   * Runs what a finding names.
   *
   * @param text such as `open:put,seal,compact@10:0-2`; without the crash all crashes of it
   * @throws RangeError for a text that names nothing
   */
  async runOnly(text: string): Promise<TaskResult> {
    const [name = '', crash] = text.split('@');
    const path = crash === undefined ? undefined : parsePath(crash);
    const [kind = '', rest = '', seed = ''] = name.split(':');
    const { counts, violation } = await this.#named(name, { kind, rest, seed }, path);
    const findings = violation === undefined ? [] : [findingOf(name, violation)];
    return { counts, sequences: 1, findings };
  }

  #named(
    name: string,
    { kind, rest, seed }: { kind: string; rest: string; seed: string },
    path: CrashPath | undefined,
  ): Promise<CrashResult> {
    const start = STARTS.find((each) => each === kind);
    const letters = rest.split(',');
    if (start !== undefined && letters.every(isLetter)) return this.#sequence({ start, letters }, path);
    if (kind === 'walk' && isNumber(rest)) return this.#runOne({ kind, seed: Number(rest) }, path);
    const trouble = TROUBLES.find((each) => each === rest);
    if (kind === 'campaign' && trouble !== undefined && isNumber(seed))
      return this.#runOne({ kind, trouble, seed: Number(seed) }, path);
    throw new RangeError(`"${name}" is nothing to run: such as open:put,seal or walk:7 or campaign:none:3`);
  }

  #sequence(sequence: Sequence, only?: CrashPath): Promise<CrashResult> {
    return crashSequence(this.#starter, sequence, this.#options(this.#effort.seed, only));
  }

  #runOne(task: Exclude<Task, { kind: 'sequences' }>, only?: CrashPath): Promise<CrashResult> {
    if (task.kind === 'walk') return crashWalk(this.#starter, this.#options(task.seed, only, 4));
    const { trouble, seed } = task;
    const { statesPerStep, againEvery, faults } = this.#effort;
    return runCampaign({
      seed,
      trouble,
      statesPerStep: Math.ceil(statesPerStep / 4),
      actions: 24,
      againEvery,
      faults,
      ...(only === undefined ? {} : { only }),
    });
  }

  /** @param share of the states at a step: a long run has many steps */
  #options(seed: number, only: CrashPath | undefined, share = 1): CrashOptions {
    const { statesPerStep, againEvery, killEvery, faults } = this.#effort;
    return {
      seed,
      statesPerStep: Math.ceil(statesPerStep / share),
      againEvery,
      killEvery,
      faults: faultsOf(...faults),
      ...(only === undefined ? {} : { only }),
    };
  }
}

const isNumber = (text: string): boolean => /^\d{1,15}$/.test(text);

const nameOfSequence = ({ start, letters }: Sequence): string => `${start}:${letters.join(',')}`;

const nameOf = (task: Exclude<Task, { kind: 'sequences' }>): string =>
  task.kind === 'walk' ? `walk:${task.seed}` : `campaign:${task.trouble}:${task.seed}`;

const findingOf = (name: string, { message, path }: Violation): Finding => ({
  only: path === undefined ? name : `${name}@${formatPath(path)}`,
  message,
});
