import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerId } from '../../../common/ids.ts';
import type { History } from '../../kit/history.ts';
import type { ProcessName } from '../../kit/process-cluster.ts';
import { seconds } from '../cell.ts';
import type { Scene } from '../scene.ts';
import { type Figure, type FigureReport, verdict, withScene } from './report.ts';

const TIMES = 1;
const REST_MS = 4_000;
/** Long enough for configurations without it, deletes and seals. */
const AWAY_MS = 15_000;
/** How long the one that is back is watched for names that were deleted meanwhile. */
const WATCHED_MS = 10_000;
const LOOK_AGAIN_MS = 100;

interface Way {
  readonly name: string;
  readonly leave: (scene: Scene, server: ProcessName) => Promise<unknown>;
  readonly back: (scene: Scene, server: ProcessName) => Promise<unknown>;
}

const WAYS: readonly Way[] = [
  {
    name: 'killed',
    leave: ({ cluster }, server) => cluster.stopOne(server, 'SIGKILL'),
    back: ({ cluster }, server) => cluster.startOne(server),
  },
  {
    name: 'SIGSTOP',
    leave: async ({ cluster }, server) => cluster.signal(server, 'SIGSTOP'),
    back: async ({ cluster }, server) => cluster.signal(server, 'SIGCONT'),
  },
  {
    name: 'cut off',
    leave: async ({ namespaces }, server) => namespaces?.cut(namespaces.isolation(server)),
    back: async ({ namespaces }) => namespaces?.heal(),
  },
];

/** A DataServer leaves during uploads, and comes back with what it had: how long uploads pause, what it says then. */
export const dataServerDead: Figure = async (options) => {
  const reports: FigureReport[] = [];
  for (const way of WAYS)
    for (let time = 0; time < (options.times ?? TIMES); time++)
      reports.push(await withScene(options, (scene) => once(scene, way)));
  return {
    line: reports.map(({ line }) => line).join('\n       '),
    wrong: reports.flatMap(({ wrong }) => wrong),
  };
};

async function once(scene: Scene, { name, leave, back }: Way): Promise<FigureReport> {
  if (name === 'cut off' && scene.namespaces === undefined)
    return { line: `${name}: SKIPPED ${scene.namespacesRefused}`, wrong: [] };
  const load = scene.startLoad({ undeletes: false });
  await sleep(REST_MS);
  const server = await scene.find('secondary');
  const fromMs = performance.now();
  await leave(scene, server);
  await sleep(AWAY_MS);
  const backAt = performance.now();
  await back(scene, server);
  const risen = await watch(scene, server, deletedSince(scene.history, fromMs, backAt));
  const healedMs = performance.now();
  await sleep(REST_MS);
  await load.stop();
  const { text, wrong } = await verdict(scene, load, [{ fromMs, healedMs }]);
  return {
    line: `${name}: the longest time without an upload ${seconds(load.puts.longestGapMs)}; ${text}; ${risen.asked} answers of the one that was away about names deleted meanwhile, ${risen.wrong.length} of them wrong`,
    wrong: [...wrong, ...risen.wrong],
  };
}

/** Names whose delete was acknowledged in that time. */
const deletedSince = (history: History, fromMs: number, untilMs: number): string[] =>
  [...history.names].filter((name) =>
    history
      .of(name)
      .some(
        ({ kind, outcome, startMs, endMs }) =>
          kind === 'delete' && outcome === 'done' && startMs > fromMs && endMs < untilMs,
      ),
  );

/** Asks it for these names over and over from the moment it is back: "live" is a resurrection. */
async function watch(scene: Scene, server: ProcessName, names: readonly string[]) {
  const wrong: string[] = [];
  let asked = 0;
  const endAt = performance.now() + WATCHED_MS;
  while (performance.now() < endAt) {
    for (const name of names) {
      const answer = await scene.probe.readReplica(Number(server.slice(2)) as ServerId, name);
      asked++;
      // The load may have brought it back since.
      const isUndone = scene.history.of(name).some(({ kind }) => kind === 'undelete');
      if (answer.state === 'live' && !isUndone)
        wrong.push(`${name}: deleted while ${server} was away, and live on it`);
      if (performance.now() > endAt) break;
    }
    await sleep(LOOK_AGAIN_MS);
  }
  return { asked, wrong };
}
