import type { Cut, Namespaces } from '../kit/namespaces.ts';
import type { ProcessName } from '../kit/process-cluster.ts';
import type { Cell } from './cell.ts';
import type { Scene } from './scene.ts';

const CUT_MS = 10_000;

const cell = (
  name: string,
  writesGoOn: boolean,
  cutsOf: (scene: Scene, namespaces: Namespaces) => Promise<readonly Cut[]>,
): Cell => ({
  name,
  needs: 'namespaces',
  brokenMs: CUT_MS,
  writesGoOn,
  breakIt: async (scene) => {
    const namespaces = scene.namespaces!;
    await namespaces.cut(await cutsOf(scene, namespaces));
    return () => namespaces.heal();
  },
});

/** The NameServer that leads and one gateway with one DataServer, the rest with two; Redis with the rest. */
async function halves(scene: Scene, namespaces: Namespaces, first: 'leader' | 'standby'): Promise<Cut[]> {
  const few: ProcessName[] = [await scene.find(first), 'ds1', 'gw0'];
  return namespaces.between(
    few,
    scene.cluster.names.filter((name) => !few.includes(name)),
  );
}

const others = (scene: Scene, one: ProcessName): ProcessName[] =>
  scene.cluster.names.filter((name) => name !== one);

/** Cut off are processes from each other; the test's own clients still reach every gateway. */
export const partitions: readonly Cell[] = [
  cell('a DataServer cut off', true, async (scene, namespaces) =>
    namespaces.isolation(await scene.find('primary')),
  ),
  cell('the leader cut off', true, async (scene, namespaces) =>
    namespaces.isolation(await scene.find('leader')),
  ),
  cell('a DataServer that hears nobody', true, async (scene) => {
    const to = await scene.find('primary');
    return others(scene, to).map((from) => ({ from, to }));
  }),
  cell('a DataServer that nobody hears', true, async (scene) => {
    const from = await scene.find('primary');
    return others(scene, from).map((to) => ({ from, to }));
  }),
  cell('halves, the leader with one DataServer', true, (scene, namespaces) =>
    halves(scene, namespaces, 'leader'),
  ),
  cell('halves, the leader with two DataServers', true, (scene, namespaces) =>
    halves(scene, namespaces, 'standby'),
  ),
];
