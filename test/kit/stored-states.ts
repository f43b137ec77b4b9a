import { nodeClock } from '../../common/adapters/node-clock.ts';
import { NodeDisk } from '../../common/adapters/node-disk.ts';
import { nodeRandom } from '../../common/adapters/node-random.ts';
import { silentLog } from '../../common/log.ts';
import type { BlockState } from '../../common/wire/messages.ts';
import { BlockStore } from '../../dataserver/block/store.ts';
import { readMount } from '../../dataserver/mount.ts';

/** In which states a DataServer would find its blocks if it started now; nothing may run on the mount. */
export async function storedStates(path: string): Promise<BlockState[]> {
  const identity = await readMount(path);
  if (identity === undefined) throw new Error(`${path} is not a mount`);
  const store = await BlockStore.open({
    disk: await NodeDisk.open(path),
    clock: nodeClock,
    random: nodeRandom,
    clusterUuid: identity.clusterUuid,
    server: identity.server,
    budgets: { indexBytes: 1 << 20, openFiles: 16 },
    log: silentLog,
  });
  try {
    return store.blocks.map((block) => store.info(block)!.state);
  } finally {
    await store.close();
  }
}
