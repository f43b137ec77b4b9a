import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultWindow } from '../../kit/history.ts';
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
        `${spreadOf(gaveInMs)}; ${text}`,
      wrong,
    };
  });
