import { setTimeout as sleep } from 'node:timers/promises';
import { toTfsError } from '../../../common/errors.ts';
import type { ServerId } from '../../../common/ids.ts';
import type { ClusterProbe } from '../../kit/cluster-probe.ts';
import type { FaultWindow } from '../../kit/history.ts';
import { BlockIds } from './block-ids.ts';
import { type Figure, spreadOf, verdict, withScene } from './report.ts';

const TIMES = 10;
const RESUME_MS_MAX = 60_000;
/** Between two kills, so that each finds a cluster at rest. */
const REST_MS = 4_000;
const ASK_AGAIN_MS = 10;

/** kill -9 of the leader under load, again and again: how long nobody commands, and whether anybody notices. */
export const leaderKills: Figure = (options) =>
  withScene(options, async (scene) => {
    const { cluster, probe } = scene;
    const load = scene.startLoad();
    const ids = new BlockIds();
    const ledMs: number[] = [];
    const resumedMs: number[] = [];
    const faults: FaultWindow[] = [];
    await sleep(REST_MS);
    for (let time = 0; time < (options.times ?? TIMES); time++) {
      const before = await probe.untilLed(RESUME_MS_MAX, ({ completeView }) => completeView);
      ids.collect(cluster);
      const killedAt = performance.now();
      cluster.signal(before.name, 'SIGKILL');
      const after = await probe.untilLed(RESUME_MS_MAX, (map) => map.reign.epoch > before.map.reign.epoch);
      ledMs.push(performance.now() - killedAt);
      await commanded(probe, before.map.reign.epoch);
      resumedMs.push(performance.now() - killedAt);
      console.log(
        `${time + 1}: ${before.name} killed; ${after.name} leads after ${Math.round(ledMs.at(-1)!)} ms and commands after ${Math.round(resumedMs.at(-1)!)} ms`,
      );
      await cluster.untilReady();
      faults.push({ fromMs: killedAt, healedMs: performance.now() });
      await sleep(REST_MS);
    }
    await load.stop();
    ids.collect(cluster);
    const { text, wrong } = await verdict(scene, load, faults);
    const twice = ids.usedTwice;
    return {
      line:
        `${resumedMs.length} kills; commands again after ${spreadOf(resumedMs)} (a new leader after ` +
        `${spreadOf(ledMs)}); ${text}; ${ids.count} block ids, ${twice.length} used twice`,
      wrong: [...wrong, ...twice.map((block) => `block id ${block} was used twice`)],
    };
  });

/** Resolves when a leader of a later epoch has given out a block. */
async function commanded(probe: ClusterProbe, epoch: number): Promise<void> {
  const deadlineAt = performance.now() + RESUME_MS_MAX;
  for (;;) {
    try {
      const { name, map } = await probe.untilLed(RESUME_MS_MAX, ({ reign }) => reign.epoch > epoch);
      const reply = await probe.openBlock(name, 1 as ServerId, map);
      if (reply.reign.epoch > epoch) return;
    } catch (error) {
      if (performance.now() > deadlineAt)
        throw new Error(`no block was given out: ${toTfsError(error).message}`, { cause: error });
    }
    await sleep(ASK_AGAIN_MS);
  }
}
