import { setTimeout as sleep } from 'node:timers/promises';
import { isTfsError } from '../../../common/errors.ts';
import type { ServerId } from '../../../common/ids.ts';
import type { Reign } from '../../../common/wire/control.ts';
import { BlockState, Op } from '../../../common/wire/messages.ts';
import type { FaultWindow } from '../../kit/history.ts';
import type { Scene } from '../scene.ts';
import { type Figure, spreadOf, verdict, withScene } from './report.ts';

const TIMES = 3;
const STOPPED_MS = 10_000;
const REST_MS = 4_000;
const LED_MS_MAX = 60_000;

/** A leader that slept and does not know that it was deposed. */
export const leaderStopped: Figure = (options) =>
  withScene(options, async (scene) => {
    const { cluster, probe } = scene;
    const load = scene.startLoad();
    const faults: FaultWindow[] = [];
    const ledMs: number[] = [];
    const gaveInMs: number[] = [];
    const obeyed: string[] = [];
    let refused = 0;
    await sleep(REST_MS);
    for (let time = 0; time < (options.times ?? TIMES); time++) {
      const before = await probe.untilLed(LED_MS_MAX, ({ completeView }) => completeView);
      const stoppedAt = performance.now();
      cluster.signal(before.name, 'SIGSTOP');
      await probe.untilLed(LED_MS_MAX, (_, name) => name !== before.name);
      ledMs.push(performance.now() - stoppedAt);
      await sleep(Math.max(0, stoppedAt + STOPPED_MS - performance.now()));
      const wokenAt = performance.now();
      cluster.signal(before.name, 'SIGCONT');
      const told = await commandAll(scene, before.map.reign);
      refused += told.refused;
      obeyed.push(...told.obeyed);
      while ((await probe.mapOf(before.name)).leader) await sleep(10);
      gaveInMs.push(performance.now() - wokenAt);
      const now = await probe.untilLed(LED_MS_MAX);
      console.log(
        `${time + 1}: ${before.name} slept, ${now.name} led after ${Math.round(ledMs.at(-1)!)} ms; woken, it gave in after ${Math.round(gaveInMs.at(-1)!)} ms`,
      );
      faults.push({ fromMs: stoppedAt, healedMs: performance.now() });
      await sleep(REST_MS);
    }
    await load.stop();
    const { text, wrong } = await verdict(scene, load, faults);
    return {
      line:
        `${ledMs.length} times ${STOPPED_MS / 1000} s; a new leader after ${spreadOf(ledMs)}; the woken one gave in after ` +
        `${spreadOf(gaveInMs)}; of ${refused + obeyed.length} commands under its reign ${refused} were refused; ${text}`,
      wrong: [...wrong, ...obeyed],
    };
  });

/** What a deposed leader might still order: to fence every block that is being written, on every DataServer. */
async function commandAll(
  { cluster, probe }: Scene,
  reign: Reign,
): Promise<{ refused: number; obeyed: string[] }> {
  let refused = 0;
  const obeyed: string[] = [];
  for (const { id } of cluster.config.mounts) {
    const open = (await probe.entriesOf(id as ServerId)).filter(({ state }) => state === BlockState.OPEN);
    for (const { block } of open) {
      try {
        await probe.ask('nameserver', `ds${id}`, Op.FENCE, { block, reign });
        obeyed.push(`server ${id} has fenced block ${block} for epoch ${reign.epoch}, which was over`);
      } catch (error) {
        if (!isTfsError(error, 'STALE_EPOCH')) throw error;
        refused++;
      }
    }
  }
  return { refused, obeyed };
}
