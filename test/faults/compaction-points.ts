import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockId } from '../../common/ids.ts';
import { areAlike } from '../kit/replicas-alike.ts';
import { type BlockWork, freshBlock, type Sweep } from './kill-points.ts';
import type { Scene, SceneOptions } from './scene.ts';

const UNDELETE_WINDOW_MS = 1_000;
const NAMES_MIN = 20;
const DELETED_SHARE = 0.4;
/** OLD_GENERATION_MS, and the timer behind it. */
const OLD_FILE_MS = 45_000;

const GARBAGE_PERCENT = 70;
const BLOCK_BYTES = 1 << 20;

/** Only what is asked for is begun, so that it begins when the steps are counted. What was begun goes on by itself. */
export const COMPACTION_SCENE: Partial<SceneOptions> = {
  steps: true,
  config: {
    dataserver: { undeleteWindowMs: UNDELETE_WINDOW_MS, openBlocks: 1, blockBytes: BLOCK_BYTES },
    compaction: { garbagePercent: GARBAGE_PERCENT },
  },
};

type Role = 'sequencer' | 'member';

/** A block of which a good part was deleted, longer ago than it may be undeleted. */
export async function garbageRich(
  scene: Scene,
): Promise<{ block: BlockId; sequencer: number; member: number }> {
  const copies = await freshBlock(scene, { copies: 3, namesMin: NAMES_MIN });
  const { block, opsPrimary } = copies[0]!.entry;
  await scene.load.thinOut(block, DELETED_SHARE);
  await sleep(2 * UNDELETE_WINDOW_MS);
  return { block, sequencer: opsPrimary, member: copies.find(({ server }) => server !== opsPrimary)!.server };
}

const compactionOn =
  (role: Role, tailMs: number) =>
  async (scene: Scene): Promise<BlockWork> => {
    const { block, ...servers } = await garbageRich(scene);
    return {
      block,
      worker: `ds${servers[role]}`,
      ask: () => scene.probe.compact(block),
      isDone: (replicas) =>
        replicas.length === 3 && areAlike(replicas) && replicas.every(({ entry }) => entry.generation > 0),
      tailMs,
    };
  };

const leader = async (scene: Scene) => scene.find('leader');

export const COMPACTION_SWEEPS: readonly Sweep[] = [
  { name: 'a member is killed before', when: 'before', begin: compactionOn('member', OLD_FILE_MS) },
  { name: 'the sequencer is killed after', when: 'after', begin: compactionOn('sequencer', OLD_FILE_MS) },
  {
    name: 'the leader is killed while a member is before',
    when: 'before',
    begin: compactionOn('member', 0),
    victim: leader,
  },
  {
    name: 'the leader is killed while the sequencer is before',
    when: 'before',
    begin: compactionOn('sequencer', 0),
    victim: leader,
  },
];
