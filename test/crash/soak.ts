import { extname, join } from 'node:path';
import { SingleBar } from 'cli-progress';
import { ChildPool } from '../kit/child-pool.ts';
import { CrashCounts } from '../kit/crash-explorer.ts';
import { LETTERS } from './alphabet.ts';
import {
  type Effort,
  type Finding,
  randomTasks,
  sequenceTasks,
  type Task,
  type TaskResult,
} from './tasks.ts';

const WORKER = join(import.meta.dirname, `worker${extname(import.meta.filename)}`);
/** Whoever has so many to look at has enough. */
const FINDINGS_MAX = 20;
/** Between two lines where the output is no terminal. */
const LINE_MS = 30_000;

export interface Soak {
  readonly effort: Effort;
  /** To be looked at, beside all the sequences. */
  readonly states: number;
  /** Of the longest sequences. */
  readonly lettersMax: number;
  readonly jobs: number;
  /** After which nothing new is begun. */
  readonly minutes: number | undefined;
}

export interface SoakResult {
  readonly counts: CrashCounts;
  readonly sequences: number;
  readonly sequencesWanted: number;
  /** Walks and campaigns. */
  readonly random: number;
  readonly findings: readonly Finding[];
  readonly seconds: number;
  /** All of it was looked at. */
  readonly isWhole: boolean;
}

/** All sequences, then walks and campaigns until there are states enough. Ends early by SIGINT, and says so. */
export async function soak({ effort, states, lettersMax, jobs, minutes }: Soak): Promise<SoakResult> {
  const tasks = sequenceTasks(lettersMax);
  const sequencesWanted = tasks.length * LETTERS.length;
  const startedMs = Date.now();
  const untilMs = minutes === undefined ? Number.POSITIVE_INFINITY : startedMs + minutes * 60_000;
  const counts = new CrashCounts();
  const findings: Finding[] = [];
  let [sequences, random] = [0, 0];
  const bar = new SingleBar({
    format: `{bar} {value}/{total} states, {rate}/s, {sequences} of ${sequencesWanted} sequences, {violations} violations`,
    noTTYOutput: true,
    notTTYSchedule: LINE_MS,
  });
  const queue = tasks.values();
  const more = randomTasks(effort.seed);
  const next = (): Task | undefined => {
    if (Date.now() >= untilMs || findings.length >= FINDINGS_MAX) return undefined;
    const sequence = queue.next();
    if (!sequence.done) return sequence.value;
    return counts.states >= states ? undefined : more.next().value;
  };
  const done = (result: TaskResult): void => {
    counts.add(result.counts);
    sequences += result.sequences;
    if (result.sequences === 0) random++;
    findings.push(...result.findings);
    const rate = Math.round((counts.states * 1000) / (Date.now() - startedMs));
    bar.update(Math.min(counts.states, states), { rate, sequences, violations: findings.length });
  };
  const pool = new ChildPool({ jobs, worker: WORKER, start: effort, next, done });
  const stop = () => pool.stop();
  process.once('SIGINT', stop);
  console.log(
    `seed ${effort.seed}, ${jobs} processes, ${sequencesWanted} sequences of up to ${lettersMax} of ${LETTERS.length} operations`,
  );
  bar.start(states, 0, { rate: 0, sequences: 0, violations: 0 });
  try {
    await pool.run();
  } finally {
    bar.stop();
    process.off('SIGINT', stop);
  }
  const isWhole = counts.states >= states && sequences >= sequencesWanted;
  const seconds = (Date.now() - startedMs) / 1000;
  return { counts, sequences, sequencesWanted, random, findings, seconds, isWhole };
}
