import { OpType } from '../../common/format/ops.ts';
import { collectMarks, forgetMarks, type MarkName, marksReached, wasReached } from '../../common/marks.ts';
import { tune, untune } from '../../common/tunables.ts';
import { dataServerFaults, type PlantedBugName } from '../kit/planted-bugs.ts';
import { SimCluster } from './cluster.ts';
import { type HealedCluster, whyNotConverged } from './converged.ts';
import { FaultPlanner } from './faults.ts';
import { checkEnd } from './final-checks.ts';
import { SimLoad } from './load.ts';
import { Violation } from './observed.ts';
import { Observer } from './observer.ts';
import { SimOperator } from './operator.ts';
import { DESTRUCTIVE, type FaultKind, type Plan, type PlanOptions, planOf } from './plan.ts';
import { Scheduler, type Trace } from './scheduler.ts';
import { AT_REST } from './tuning.ts';

export interface RunOptions extends PlanOptions {
  readonly trace?: Trace;
  /** Planted in every server. */
  readonly bug?: PlantedBugName;
  /** Numbers of faults that do not happen. */
  readonly skip?: ReadonlySet<number>;
  /** Clients stop after so many operations, as they would have been with all of them. */
  readonly stopAfter?: number;
}

export interface RunResult {
  readonly plan: Plan;
  /** The same for the same seed, options and code. */
  readonly hash: string;
  readonly events: number;
  readonly virtualMs: number;
  readonly operations: number;
  /** Of these, nobody could say anything definite about. */
  readonly unknown: number;
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly faultsDrawn: number;
  /** Rare branches that were taken, and how often. */
  readonly marks: ReadonlyMap<MarkName, number>;
  /** What was found to be wrong: a {@link Violation}, or an error that no code handled. */
  readonly error: unknown;
}

/** Faults and load together last no longer. */
const LOAD_MS_MAX = 40_000;
/** A healed cluster comes to rest within this. */
const CONVERGE_MS_MAX = 150_000;
/** What is looked at this often comes to rest by then. */
const CONVERGE_LOOK_MS = 500;
/** How often the last checks begin again where the cluster was not at rest any more when they failed. */
const CHECK_ROUNDS = 4;
/** An end to seeds in which something turns in circles. */
const EVENTS_MAX = 400_000;

const MUTATIONS = {
  delete: OpType.DELETE,
  undelete: OpType.UNDELETE,
  hide: OpType.HIDE,
  reveal: OpType.REVEAL,
} as const;

/** What a server may take for damage of what it stored, and rightly. */
const HARMS_FILES: ReadonlySet<FaultKind> = new Set<FaultKind>([
  ...DESTRUCTIVE,
  'disk-eio-read',
  'disk-eio-write',
  'disk-eio-sync',
  'disks-swapped',
]);

/** Where no fault harms files, a server that finds one damaged has made it so, or an index that does not belong to it. */
function checkNothingDamaged(): void {
  if (wasReached('block-suspect') && !wasReached('seal-record-lost'))
    throw new Violation('I15', {}, 'a replica was found damaged, and no fault has harmed a file');
}

/** Runs one seed from its beginning to its end. Never rejects: what went wrong is in the result. */
export async function runSeed(seed: number, options: RunOptions = {}): Promise<RunResult> {
  const plan = planOf(seed, options);
  const run = new Run(plan, options);
  let error: unknown;
  const onStray = (stray: unknown) => run.scheduler.fail(stray);
  process.on('unhandledRejection', onStray);
  untune();
  tune(plan.tunables);
  collectMarks();
  try {
    await run.toEnd();
  } catch (caught) {
    error = caught;
  } finally {
    process.off('unhandledRejection', onStray);
    untune();
  }
  const { scheduler, load, faults } = run;
  const marks = marksReached();
  forgetMarks();
  return {
    plan,
    hash: scheduler.hash,
    events: scheduler.events,
    virtualMs: scheduler.now,
    operations: load?.operations ?? 0,
    unknown: load?.unknown ?? 0,
    faults: faults?.counts ?? new Map(),
    faultsDrawn: faults?.drawn ?? 0,
    marks,
    error,
  };
}

class Run {
  readonly plan: Plan;
  readonly scheduler: Scheduler;
  load: SimLoad | undefined;
  faults: FaultPlanner | undefined;

  readonly options: RunOptions;

  constructor(plan: Plan, options: RunOptions) {
    this.plan = plan;
    this.options = options;
    this.scheduler = new Scheduler(plan.seed);
    this.scheduler.trace = options.trace;
  }

  async toEnd(): Promise<void> {
    const { plan, scheduler, options } = this;
    const cluster = await SimCluster.open(plan, scheduler, options.bug);
    const observer = new Observer({
      servers: cluster.dataservers,
      nameservers: cluster.nameservers,
      minWrite: plan.minWrite,
      now: () => scheduler.now,
      ...(options.bug === undefined ? {} : { faults: dataServerFaults(options.bug) }),
    });
    const isHarmless = ![...plan.faults.keys()].some((kind) => HARMS_FILES.has(kind));
    scheduler.afterEvent = () => {
      observer.step();
      if (isHarmless) checkNothingDamaged();
    };
    const load = new SimLoad(cluster, {
      acked: ({ name, key, sha1 }, payload) => observer.acked(name, { key, sha1, payload }),
      changed: (kind, { name, stored }, opId) =>
        observer.mutated(name, stored.key, { type: MUTATIONS[kind], opId }),
    });
    const { skip, stopAfter = plan.operations } = options;
    const faults = new FaultPlanner(cluster, {
      replaced: (server, change) => observer.replaced(server, change),
      ...(skip === undefined ? {} : { skip }),
    });
    this.load = load;
    this.faults = faults;
    load.start();
    faults.start();
    await this.#until(
      () => load.isOver || load.operations >= stopAfter || scheduler.now > LOAD_MS_MAX,
      'the load ends',
    );

    scheduler.note('healed');
    load.isStopped = true;
    faults.stop();
    tune(AT_REST);
    cluster.heal();
    const operator = new SimOperator(cluster, (fresh) => observer.add(fresh));
    operator.start();
    await this.#until(() => load.isOver && operator.isDone, 'the last clients end');
    const healed: HealedCluster = {
      servers: cluster.dataservers,
      nameservers: cluster.nameservers,
      replicas: plan.replicas,
      forced: operator.forced,
      read: (key) => cluster.clients[0]!.client.get(key),
    };
    for (let rounds = 1; ; rounds++) {
      await this.#converge(healed, operator);
      scheduler.note('converged');
      const failure = checkEnd(healed, observer, {
        history: load.history,
        now: () => scheduler.now,
        faults: faults.windows,
        undeleteWindowMs: plan.undeleteWindowMs,
      }).then(
        () => undefined,
        (error: unknown) => error,
      );
      // What the observer finds meanwhile is thrown here, and is never looked at again.
      await this.#meanwhile(failure);
      const error = await failure;
      if (error === undefined) return;
      // An undelete window ended while it looked, and a block is compacted: what is wrong is so when that is done, too.
      if (rounds === CHECK_ROUNDS || whyNotConverged(healed) === undefined) throw error;
    }
  }

  async #converge(healed: HealedCluster, operator: SimOperator): Promise<void> {
    const { scheduler } = this;
    const endMs = scheduler.now + CONVERGE_MS_MAX;
    let lookAt = 0;
    let why: string | undefined;
    await this.#until(() => {
      if (scheduler.now < lookAt) return false;
      lookAt = scheduler.now + CONVERGE_LOOK_MS;
      why = operator.isDone ? whyNotConverged(healed) : 'the operator is not done';
      return why === undefined || scheduler.now > endMs;
    }, 'the cluster comes to rest');
    if (why !== undefined)
      throw new Violation(
        'convergence',
        {},
        `not at rest ${CONVERGE_MS_MAX / 1000} s after all was mended: ${why}`,
      );
  }

  /** Lets time go on while this is worked on. */
  async #meanwhile(work: Promise<unknown>): Promise<void> {
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    work.then(done, done);
    await this.#until(() => isDone, 'the last checks end');
    await work;
  }

  async #until(done: () => boolean, what: string): Promise<void> {
    const { scheduler } = this;
    await scheduler.run(() => done() || scheduler.events > EVENTS_MAX);
    if (scheduler.events > EVENTS_MAX)
      throw new Violation('convergence', {}, `${EVENTS_MAX} events, and still waiting until ${what}`);
  }
}
