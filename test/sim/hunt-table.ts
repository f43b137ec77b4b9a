import type { PlantedBugName } from '../kit/planted-bugs.ts';
import type { Quarry, Trial } from './trial.ts';

interface Hunted {
  readonly bug: PlantedBugName;
  /** Seeds that were handed out. */
  begun: number;
  cpuMs: number;
  /** Of those that caught it, the one with the lowest seed. */
  catch: Trial | undefined;
}

/** Which seeds of which bugs are run next, and what came of them. */
export class Hunt {
  readonly failedWithout: Trial[] = [];
  seedsRun = 0;
  readonly #hunted: Hunted[];
  readonly #first: number;
  readonly #seedsMax: number;

  /** @param seedsMax of each bug */
  constructor(
    bugs: readonly PlantedBugName[],
    { first, seedsMax }: { readonly first: number; readonly seedsMax: number },
  ) {
    this.#hunted = [...new Set(bugs)].map((bug) => ({ bug, begun: 0, cpuMs: 0, catch: undefined }));
    this.#first = first;
    this.#seedsMax = seedsMax;
  }

  /** Bugs that are looked for. */
  get size(): number {
    return this.#hunted.length;
  }

  get caught(): number {
    return this.#hunted.filter((hunted) => hunted.catch !== undefined).length;
  }

  /** The bug that was looked for with the fewest seeds so far: one that hides keeps no other waiting. */
  next(): Quarry | undefined {
    const open = this.#hunted.filter((hunted) => hunted.catch === undefined && hunted.begun < this.#seedsMax);
    const [next] = open.sort((a, b) => a.begun - b.begun);
    return next && { bug: next.bug, seed: this.#first + next.begun++ };
  }

  done(trial: Trial): void {
    const hunted = this.#hunted.find(({ bug }) => bug === trial.bug)!;
    this.seedsRun++;
    hunted.cpuMs += trial.cpuMs;
    if (trial.outcome === 'fails-without') this.failedWithout.push(trial);
    if (trial.outcome !== 'caught' || (hunted.catch?.seed ?? Number.POSITIVE_INFINITY) < trial.seed) return;
    hunted.catch = trial;
  }

  /** Lines of a table as it stands in a page of documentation, and what failed without any bug. */
  table(): string[] {
    const rows = this.#hunted.map(({ bug, begun, cpuMs, catch: found }) => {
      const seconds = Math.round(cpuMs / 1000);
      if (found === undefined) return `| ${bug} | not in ${begun} | – | ${seconds} |`;
      return `| ${bug} | ${found.seed - this.#first + 1} | ${found.wrong!.split('\n')[0]} | ${seconds} |`;
    });
    return [
      '| planted bug | seeds | found as | CPU seconds |',
      '|---|---|---|---|',
      ...rows,
      ...this.failedWithout.flatMap(({ bug, seed, wrong }) => [
        '',
        `seed ${seed} fails without the bug as well: npm run sim -- --aim ${bug} --seed ${seed}`,
        `  ${wrong}`,
      ]),
    ];
  }
}
