import type { ServerId } from '../../common/ids.ts';
import type { FaultWindow } from '../kit/history.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { SimCluster } from './cluster.ts';
import { DISK_FAULTS } from './disk-faults.ts';
import { NETWORK_FAULTS } from './network-faults.ts';
import type { FaultKind } from './plan.ts';
import { PROCESS_FAULTS } from './process-faults.ts';
import { SERVICE_FAULTS } from './service-faults.ts';

/** What a fault has to work with. */
export interface Stage {
  readonly cluster: SimCluster;
  readonly random: SeededRandom;
  /** Makes a change after which what this server has on its disk need not follow from what it had before. */
  readonly replaced: (server: ServerId, change: () => void) => void;
  /** @returns a uniform number of ms in the range */
  between(low: number, high: number): number;
}

/** Something that goes wrong for a while. */
export interface Mishap {
  readonly lastsMs: number;
  readonly mend?: () => void;
  /** Whether it is over, where that takes a while from when it is mended. */
  readonly isOver?: () => boolean;
  readonly what?: string;
}

/** Makes something go wrong. @returns undefined where it could not be done now */
export type Fault = (stage: Stage) => Mishap | undefined;

const FAULTS: Readonly<Record<FaultKind, Fault>> = {
  ...PROCESS_FAULTS,
  ...NETWORK_FAULTS,
  ...SERVICE_FAULTS,
  ...DISK_FAULTS,
};
const ACTIVE_MAX = 4;
/** How often one that is mended is looked at, until it is over. */
const OVER_LOOK_MS = 100;

/** Lets the faults of a plan happen, one after the other and several at a time, until it is stopped. */
export class FaultPlanner {
  /** That happened, by kind. */
  readonly counts = new Map<FaultKind, number>();
  readonly windows: FaultWindow[] = [];
  readonly #cluster: SimCluster;
  readonly #replaced: Stage['replaced'];
  readonly #random: SeededRandom;
  /** Faults drawn so far: each has a number. */
  drawn = 0;
  readonly #skip: ReadonlySet<number>;
  readonly #open = new Set<{ readonly fromMs: number; readonly mend: () => void }>();
  #isStopped = false;

  /** @param skip numbers of faults that do not happen: everything else is drawn as it is with them */
  constructor(
    cluster: SimCluster,
    { replaced, skip = new Set() }: Pick<Stage, 'replaced'> & { readonly skip?: ReadonlySet<number> },
  ) {
    this.#cluster = cluster;
    this.#replaced = replaced;
    this.#skip = skip;
    this.#random = new SeededRandom(cluster.plan.seed ^ 0xfa17_fa17);
  }

  start(): void {
    if (this.#cluster.plan.faults.size > 0) this.#later();
  }

  /** No more of them, and those that last are mended. */
  stop(): void {
    this.#isStopped = true;
    for (const open of [...this.#open]) open.mend();
  }

  #later(): void {
    const cluster = this.#cluster;
    const pauseMs = -Math.log(1 - this.#random.float()) * cluster.plan.faultEveryMs;
    cluster.scheduler.at(pauseMs, undefined, 'fault', () => {
      if (this.#isStopped) return;
      const kind = this.#draw();
      const random = new SeededRandom(this.#random.u32());
      const n = this.drawn++;
      if (this.#open.size < ACTIVE_MAX && !this.#skip.has(n)) this.#happen(kind, n, random);
      this.#later();
    });
  }

  #happen(kind: FaultKind, n: number, random: SeededRandom): void {
    const { scheduler } = this.#cluster;
    const fault = FAULTS[kind]({
      cluster: this.#cluster,
      random,
      replaced: this.#replaced,
      between: (low, high) => low + random.float() * (high - low),
    });
    if (fault === undefined) return;
    const { lastsMs, mend, isOver, what = '' } = fault;
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    scheduler.note(`FAULT ${n} ${kind} ${what} for ${lastsMs.toFixed(0)} ms`);
    const close = (): void => {
      if (!this.#isStopped && isOver?.() === false) {
        scheduler.at(OVER_LOOK_MS, undefined, 'mend', close);
        return;
      }
      scheduler.note(`MENDED ${n} ${kind} ${what}`);
      this.windows.push({ fromMs: open.fromMs, healedMs: scheduler.now });
    };
    const open = {
      fromMs: scheduler.now,
      mend: () => {
        if (!this.#open.delete(open)) return;
        mend?.();
        close();
      },
    };
    this.#open.add(open);
    scheduler.at(lastsMs, undefined, 'mend', open.mend);
  }

  #draw(): FaultKind {
    const { faults } = this.#cluster.plan;
    let at = this.#random.float() * [...faults.values()].reduce((sum, weight) => sum + weight, 0);
    for (const [kind, weight] of faults) {
      at -= weight;
      if (at < 0) return kind;
    }
    return [...faults.keys()][0]!;
  }
}
