import type { Faults } from '../../dataserver/block/faults.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { openStore, type WorldOptions } from './block-world.ts';
import { checkStore, type Model, snapshotOf, Violation } from './crash-model.ts';
import type { RecordingDisk } from './recording-disk.ts';
import type { SeededRandom } from './seeded-random.ts';

export interface ExplorerOptions {
  readonly random: SeededRandom;
  readonly world: WorldOptions;
  /** Images looked at after each change of the disk. */
  readonly statesPerStep: number;
  /** One image in so many is not only looked at: the store goes on in it, and crashes again. 0: none. */
  readonly againEvery: number;
  readonly faults?: Faults;
  /** After one change in so many the process is killed too, and another goes on with what the kernel has. 0: never. */
  readonly killEvery?: number;
  /** What a store goes on with after a crash. */
  readonly goOn?: (store: BlockStore, model: Model) => Promise<void>;
  /** Does something else to an image before it is opened, or looks at it in another way. */
  readonly twist?: (image: RecordingDisk, model: Model, explorer: CrashExplorer) => Promise<void>;
}

/**
 * Crashes a store after every change of its disk, in every way that is legal, opens a store on what is left, and
 * compares it with what had been confirmed by then.
 */
export class CrashExplorer {
  readonly #options: ExplorerOptions;
  states = 0;
  violation: Violation | undefined;
  #turn: Promise<void> = Promise.resolve();
  #images = 0;
  #steps = 0;

  constructor(options: ExplorerOptions) {
    this.#options = options;
  }

  /** From now on every change of the disk is followed by crashes. The model is read at that moment. */
  watch(disk: RecordingDisk, model: Model, depth = 0): void {
    disk.onStep = () => this.#step(disk, model, depth);
  }

  open(disk: RecordingDisk): Promise<BlockStore> {
    const { world, faults } = this.#options;
    return openStore(disk, faults === undefined ? world : { ...world, faults });
  }

  #step(disk: RecordingDisk, model: Model, depth: number): Promise<void> {
    if (this.violation !== undefined) return Promise.resolve();
    // Taken now, as the disk goes on when it is another's turn; the model is what is confirmed at this moment.
    const point = disk.crashPoint();
    const then = snapshotOf(model);
    const { killEvery = 0 } = this.#options;
    const killed = depth === 0 && killEvery > 0 && ++this.#steps % killEvery === 0 ? disk.fork() : undefined;
    const run = async (): Promise<void> => {
      if (killed !== undefined) await this.#guard(() => this.#goOnAfterKill(killed, then), 'killed');
      const budget = depth === 0 ? this.#options.statesPerStep : Math.ceil(this.#options.statesPerStep / 4);
      for (const kept of subsets(point.units, budget, this.#options.random)) {
        if (this.violation !== undefined) return;
        await this.#look(
          point.image((unit) => kept.has(unit)),
          then,
          depth,
          [...kept],
        );
      }
    };
    // Looking at images must not wait for another look: at a deeper level the one above waits for this.
    if (depth > 0) return run();
    const turn = this.#turn.then(run);
    this.#turn = turn;
    return turn;
  }

  #look(image: RecordingDisk, model: Model, depth: number, kept: readonly number[]): Promise<void> {
    const { againEvery, goOn, twist } = this.#options;
    this.#images++;
    const again = depth === 0 && againEvery > 0 && this.#images % againEvery === 0;
    return this.#guard(
      async () => {
        if (twist !== undefined) return twist(image, snapshotOf(model), this);
        // Recovery itself may crash: it is watched like everything else.
        if (again) this.watch(image, model, depth + 1);
        const store = await this.open(image);
        const decided = await checkStore(store, model);
        if (again) {
          this.watch(image, decided, depth + 1);
          await goOn?.(store, decided);
        }
        await store.close();
        if (again) await this.#restart(image, decided);
      },
      `depth ${depth}, kept units ${kept.join(',')}`,
    );
  }

  async #goOnAfterKill(disk: RecordingDisk, model: Model): Promise<void> {
    this.watch(disk, model, 1);
    const store = await this.open(disk);
    const decided = await checkStore(store, model, 'kill');
    this.watch(disk, decided, 1);
    for (const [id, block] of decided) {
      // What is asked before an op is confirmed that was found in the log.
      await store.appendOps(id, []);
      block.opsAcked = store.info(id)!.seq;
    }
    await this.#options.goOn?.(store, decided);
    await store.close();
    await this.#restart(disk, decided);
  }

  async #restart(disk: RecordingDisk, model: Model): Promise<void> {
    disk.onStep = undefined;
    const store = await this.open(disk.settled());
    await checkStore(store, model);
    await store.close();
  }

  async #guard(work: () => Promise<void>, where: string): Promise<void> {
    this.states++;
    try {
      await work();
    } catch (error) {
      this.violation ??=
        error instanceof Violation
          ? new Violation(`${error.message} (${where})`)
          : new Violation(
              `recovery failed: ${error instanceof Error ? error.stack : String(error)} (${where})`,
            );
    }
  }
}

/** All subsets of 0..n-1 if there are few; else those that show most, and random ones. */
function* subsets(n: number, budget: number, random: SeededRandom): Generator<Set<number>> {
  if (n <= 16 && 1 << n <= budget) {
    for (let mask = 0; mask < 1 << n; mask++)
      yield new Set(Array.from({ length: n }, (_, i) => i).filter((i) => (mask >> i) % 2 === 1));
    return;
  }
  const units = Array.from({ length: n }, (_, i) => i);
  const seen = new Set<string>();
  const fresh = (set: Set<number>): boolean => {
    const key = [...set].join();
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  };
  const third = Math.max(1, Math.floor(budget / 3));
  const candidates = [new Set<number>(), new Set(units)];
  for (let i = 0; i < third / 2; i++) {
    const cut = random.below(n + 1);
    candidates.push(new Set(units.slice(0, cut)), new Set(units.slice(cut)));
    const one = random.below(n);
    candidates.push(new Set([one]), new Set(units.filter((unit) => unit !== one)));
  }
  while (candidates.length < budget) {
    const share = random.float();
    candidates.push(new Set(units.filter(() => random.float() < share)));
  }
  for (const set of candidates) if (fresh(set)) yield set;
}
