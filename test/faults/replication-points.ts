import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BlockId, ServerId } from '../../common/ids.ts';
import type { ProcessName } from '../kit/process-cluster.ts';
import { areAlike } from '../kit/replicas-alike.ts';
import { type BlockWork, freshBlock, type Sweep } from './kill-points.ts';
import type { Scene, SceneOptions } from './scene.ts';

const NAMES_MIN = 20;
const BLOCK_BYTES = 1 << 20;

export const REPLICATION_SCENE: Partial<SceneOptions> = {
  steps: true,
  config: { dataserver: { openBlocks: 1, blockBytes: BLOCK_BYTES } },
};

type Role = 'sequencer' | 'member';

/** A DataServer that has lost its replica of a block, and only it has not begun to get another. */
async function lostReplica(scene: Scene, role: Role): Promise<{ block: BlockId; receiver: ProcessName }> {
  const copies = await freshBlock(scene, { copies: 3, namesMin: NAMES_MIN });
  const { block, opsPrimary } = copies[0]!.entry;
  const { server } = copies.find((copy) => (copy.server === opsPrimary) === (role === 'sequencer'))!;
  await loseFiles(scene, server as ServerId, [block]);
  return { block, receiver: `ds${server}` };
}

/** So many blocks that one DataServer has lost. */
export async function lostReplicas(scene: Scene, server: ServerId, count: number): Promise<BlockId[]> {
  const blocks: BlockId[] = [];
  while (blocks.length < count)
    blocks.push((await freshBlock(scene, { copies: 3, namesMin: NAMES_MIN }))[0]!.entry.block);
  await loseFiles(scene, server, blocks);
  return blocks;
}

/** It is started again without them. */
async function loseFiles({ cluster, faults }: Scene, server: ServerId, blocks: readonly BlockId[]) {
  const fromMs = performance.now();
  await cluster.stopOne(`ds${server}`, 'SIGKILL');
  const directory = join(cluster.mountPath(server), 'blocks');
  for (const name of readdirSync(directory))
    if (blocks.some((block) => name.startsWith(`${block}.`))) rmSync(join(directory, name));
  await cluster.startOne(`ds${server}`);
  faults.push({ fromMs, healedMs: performance.now() });
}

const receptionBy =
  (role: Role) =>
  async (scene: Scene): Promise<BlockWork> => {
    const { block, receiver } = await lostReplica(scene, role);
    return {
      block,
      worker: receiver,
      // The leader finds out by itself.
      ask: async () => undefined,
      isDone: (replicas) => replicas.length === 3 && areAlike(replicas),
      tailMs: 1_000,
    };
  };

/** Any of the others: the receiver asks one after the other. */
const donor =
  (place: number) =>
  async (scene: Scene, { worker }: BlockWork): Promise<ProcessName> =>
    scene.cluster.names.filter((name) => name.startsWith('ds') && name !== worker)[place]!;

export const REPLICATION_SWEEPS: readonly Sweep[] = [
  { name: 'the receiver is killed before', when: 'before', begin: receptionBy('member') },
  {
    name: 'a receiver that is the sequencer is killed after',
    when: 'after',
    begin: receptionBy('sequencer'),
  },
  {
    name: 'the first giver is killed while the receiver is before',
    when: 'before',
    begin: receptionBy('member'),
    victim: donor(0),
  },
  {
    name: 'the second giver is killed while the receiver is before',
    when: 'before',
    begin: receptionBy('member'),
    victim: donor(1),
  },
  {
    name: 'the leader is killed while the receiver is before',
    when: 'before',
    begin: receptionBy('member'),
    victim: (scene) => scene.find('leader'),
  },
];
