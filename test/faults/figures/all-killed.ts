import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultWindow } from '../../kit/history.ts';
import { BlockIds } from './block-ids.ts';
import { type Figure, spreadOf, verdict, withScene } from './report.ts';

const TIMES = 5;
const LOAD_MS = 3_000;

/** Everything but the supervisor dies at once, again and again, while pictures are written. */
export const allKilledFigure: Figure = (options) =>
  withScene(options, async (scene) => {
    const { cluster } = scene;
    const load = scene.startLoad();
    const ids = new BlockIds();
    const writableMs: number[] = [];
    const faults: FaultWindow[] = [];
    for (let time = 0; time < (options.times ?? TIMES); time++) {
      await sleep(LOAD_MS);
      ids.collect(cluster);
      const killedAt = performance.now();
      for (const name of cluster.names) if (cluster.running(name)) cluster.signal(name, 'SIGKILL');
      await cluster.writable(120_000);
      writableMs.push(performance.now() - killedAt);
      console.log(`${time + 1}: everything killed; writable after ${Math.round(writableMs.at(-1)!)} ms`);
      await cluster.untilReady();
      faults.push({ fromMs: killedAt, healedMs: performance.now() });
    }
    await sleep(LOAD_MS);
    await load.stop();
    ids.collect(cluster);
    const { text, wrong } = await verdict(scene, load, faults);
    const twice = ids.usedTwice;
    return {
      line:
        `${writableMs.length} times; writable again after ${spreadOf(writableMs)} (the supervisor waits 0.2 s of it); ` +
        `${text}; ${ids.count} block ids, ${twice.length} used twice`,
      wrong: [...wrong, ...twice.map((block) => `block id ${block} was used twice`)],
    };
  });
