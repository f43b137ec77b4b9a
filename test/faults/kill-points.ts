import { setTimeout as sleep } from 'node:timers/promises';
import { toTfsError } from '../../common/errors.ts';
import type { BlockId, ServerId } from '../../common/ids.ts';
import { BlockState } from '../../common/wire/messages.ts';
import { keyOf } from '../kit/cluster-probe.ts';
import type { ProcessName } from '../kit/process-cluster.ts';
import { readBack } from '../kit/read-back.ts';
import { areAlike, type Replica } from '../kit/replicas-alike.ts';
import type { StepPlan } from '../kit/steps.ts';
import { strayFiles } from '../kit/stray-files.ts';
import { seconds } from './cell.ts';
import type { Scene } from './scene.ts';

/** Work on one block, in the course of which somebody is killed. */
export interface BlockWork {
  readonly block: BlockId;
  /** Whose steps are counted. */
  readonly worker: ProcessName;
  /** Has it begun, or begun again; it need not be heard of how it ends. */
  readonly ask: () => Promise<unknown>;
  readonly isDone: (replicas: readonly Replica[]) => boolean;
  /** Something may still happen on the worker's disk this long after that. */
  readonly tailMs: number;
}

/** Everybody who is killed in one way, at one step after the other until there are no more. */
export interface Sweep {
  readonly name: string;
  readonly when: StepPlan['when'];
  readonly begin: (scene: Scene) => Promise<BlockWork>;
  /** Killed while the worker is held at its step; the worker itself when left out. */
  readonly victim?: (scene: Scene, work: BlockWork) => Promise<ProcessName>;
}

export interface PointResult {
  /** Undefined when the work was over before. */
  readonly step: string | undefined;
  readonly wrong: readonly string[];
  readonly names: number;
  readonly replicas: number;
  readonly settledMs: number;
}

const ASK_AGAIN_MS = 2_500;
const LOOK_MS = 300;
const DONE_MS_MAX = 180_000;
const STRAYS_MS_MAX = 60_000;

/** Kills at one step, has the work finished, and looks at the block everywhere. */
export async function runPoint(scene: Scene, sweep: Sweep, at: StepPlan['at']): Promise<PointResult> {
  const { cluster } = scene;
  const work = await sweep.begin(scene);
  const { block, worker } = work;
  const steps = cluster.steps(worker);
  steps.arm({ block, at, when: sweep.when, action: sweep.victim === undefined ? 'kill' : 'hold' });
  const fromMs = performance.now();
  let askedAt = fromMs;
  let answer = 'none';
  const ask = (): void => {
    askedAt = performance.now();
    work.ask().then(
      () => {
        answer = 'done';
      },
      (error: unknown) => {
        answer = toTfsError(error).message;
      },
    );
  };
  const untilDone = async (withinMs: number, giveUp = () => false): Promise<boolean> => {
    const deadlineAt = performance.now() + withinMs;
    while (performance.now() < deadlineAt && !giveUp()) {
      if (work.isDone(await replicasOf(scene, block))) return true;
      if (performance.now() - askedAt > ASK_AGAIN_MS) ask();
      await sleep(LOOK_MS);
    }
    return false;
  };
  ask();
  let step: string | undefined;
  let overAt = Number.POSITIVE_INFINITY;
  const working = untilDone(DONE_MS_MAX, () => step !== undefined).then((isDone) => {
    overAt = performance.now() + (isDone ? work.tailMs : 0);
  });
  step = await steps.reached(block, () => performance.now() > overAt);
  const killedAtMs = Date.now();
  if (step !== undefined && sweep.victim !== undefined) {
    cluster.signal(await sweep.victim(scene, work), 'SIGKILL');
    steps.go();
  }
  await working;
  await cluster.untilReady(DONE_MS_MAX);
  const healedMs = performance.now();
  const isDone = await untilDone(DONE_MS_MAX);
  // Mended is what was killed when it is taken in again, which the work waits for.
  if (step !== undefined) scene.faults.push({ fromMs, healedMs: performance.now() });
  const settledMs = performance.now() - healedMs;
  const names = [...scene.history.names].filter((name) => keyOf(name).block === block);
  const back = await readBack(scene.probe, scene.history, {
    names,
    ...scene.checks,
    withinMs: STRAYS_MS_MAX,
  });
  const wrong = back.violations.map(({ kind, name, why }) => `${kind} ${name}: ${why}`);
  if (!isDone) {
    wrong.push(`block ${block} is not done after ${seconds(DONE_MS_MAX)}; the last answer: ${answer}`);
    wrong.push(...(await scene.probe.describeBlocks(new Set([block]))));
  }
  if (step !== undefined && sweep.victim === undefined) {
    const servers = [Number(worker.slice(2)) as ServerId];
    wrong.push(
      ...(await strayFiles(scene, { servers, block, leftAtMs: killedAtMs, withinMs: STRAYS_MS_MAX })),
    );
  }
  return { step, wrong, names: names.length, replicas: back.replicas, settledMs };
}

export const replicasOf = async ({ probe }: Scene, block: BlockId): Promise<Replica[]> => {
  try {
    return (await probe.replicas()).filter(({ entry }) => entry.block === block);
  } catch {
    // One of them is down: nothing is known yet.
    return [];
  }
};

/** Until a block is sealed alike on so many servers, holds so many live names, and was not used yet. */
export async function freshBlock(
  scene: Scene,
  { copies, namesMin }: { readonly copies: number; readonly namesMin: number },
): Promise<readonly Replica[]> {
  const { load, usedBlocks } = scene;
  const deadlineAt = performance.now() + DONE_MS_MAX;
  for (;;) {
    const all = await scene.probe.replicas().catch(() => []);
    for (const block of new Set(all.map(({ entry }) => entry.block))) {
      if (usedBlocks.has(block) || load.liveIn(block).length < namesMin) continue;
      const group = all.filter(({ entry }) => entry.block === block);
      if (group.length !== copies || !areAlike(group) || group[0]!.entry.state !== BlockState.SEALED)
        continue;
      usedBlocks.add(block);
      return group;
    }
    if (performance.now() > deadlineAt) throw new Error('no block was sealed that could be used');
    await sleep(LOOK_MS);
  }
}
