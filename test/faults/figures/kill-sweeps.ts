import { setTimeout as sleep } from 'node:timers/promises';
import { strayFiles } from '../../kit/stray-files.ts';
import { seconds } from '../cell.ts';
import { COMPACTION_SCENE, COMPACTION_SWEEPS } from '../compaction-points.ts';
import { runPoint, type Sweep } from '../kill-points.ts';
import { REPLICATION_SCENE, REPLICATION_SWEEPS } from '../replication-points.ts';
import type { SceneOptions } from '../scene.ts';
import {
  type Figure,
  type FigureOptions,
  type FigureReport,
  percentile,
  verdict,
  withScene,
} from './report.ts';

const WARM_MS = 2_000;
const STRAYS_MS_MAX = 120_000;
const POINTS_MAX = 100;

/** A server is killed at each step of compactions, one point after the other on a cluster that lives on. */
export const compactionKills: Figure = (options) => killSweeps(options, COMPACTION_SCENE, COMPACTION_SWEEPS);

/** The same while a replica that a DataServer has lost is made again. */
export const replicationKills: Figure = (options) =>
  killSweeps(options, REPLICATION_SCENE, REPLICATION_SWEEPS);

/** @param options `times` is how many points of each sweep at most */
async function killSweeps(
  options: FigureOptions,
  sceneOptions: Partial<SceneOptions>,
  sweeps: readonly Sweep[],
): Promise<FigureReport> {
  return withScene({ ...options, ...sceneOptions }, async (scene) => {
    const load = scene.startLoad();
    const wrong: string[] = [];
    const steps = new Set<string>();
    const settledMs: number[] = [];
    let points = 0;
    await sleep(WARM_MS);
    const chosen = sweeps.filter(
      ({ name }) => options.only.length === 0 || options.only.some((part) => name.includes(part)),
    );
    for (const sweep of chosen) {
      for (let at = 1; at <= Math.min(POINTS_MAX, options.times ?? POINTS_MAX); at++) {
        const startedAt = performance.now();
        const result = await runPoint(scene, sweep, at);
        if (result.step !== undefined) {
          points++;
          steps.add(`${sweep.name}: ${result.step.replace(/^\S+ \S+ \d+ /, '')}`);
          settledMs.push(result.settledMs);
        }
        wrong.push(...result.wrong.map((line) => `${sweep.name} ${result.step}: ${line}`));
        console.log(
          `${sweep.name} ${result.step ?? 'there are no more'}: done ${seconds(result.settledMs)} after it was back, ` +
            `${result.names} names on ${result.replicas} replicas, ${result.wrong.length} wrong; all took ` +
            seconds(performance.now() - startedAt),
        );
        for (const line of result.wrong) console.log(`  ${line}`);
        if (result.step === undefined) break;
      }
      if (wrong.length > 0) break;
    }
    await load.stop();
    const all = await verdict(scene, load, scene.faults);
    const strays = await strayFiles(scene, { withinMs: STRAYS_MS_MAX });
    return {
      line:
        `${points} points at ${steps.size} different steps, each done ${seconds(percentile(settledMs, 0.5))} (median), at ` +
        `worst ${seconds(percentile(settledMs, 1))}, after everything ran again; ${all.text}; ${strays.length} files of nobody`,
      wrong: [...wrong, ...all.wrong, ...strays.map((file) => `a file of nobody: ${file}`)],
    };
  });
}
