import { isTfsError } from '../../common/errors.ts';
import { epochOf } from '../../common/ids.ts';
import { drop } from './letters-files.ts';
import { remove } from './letters-names.ts';
import { memberIds } from './mount-model.ts';
import { isRefusal, type World } from './world.ts';

/** What is done to the small files of a mount, to its process, and on a full disk. */

export async function promise(world: World): Promise<void> {
  const { reign } = world.mount.promise;
  const higher = { epoch: epochOf(reign.epoch + 1), nameserver: world.random.below(2) };
  await world.give('reign', higher, () => world.mount.promise.accept(higher));
}

export async function learn(world: World): Promise<void> {
  const { members } = world.mount.promise;
  const more = [...members, ...memberIds(members.length + 1)];
  await world.give('members', more, () => world.mount.promise.learnMembers(more, []));
}

export async function nonce(world: World): Promise<void> {
  const next = world.random.bytes(8).toString('hex');
  await world.give('nonce', next, () => world.mount.nonces.keep(1, next));
}

/** The process ends in good order, and another one begins with what the kernel has. */
export async function restart(world: World): Promise<void> {
  await world.mount.close();
  await world.restart(world.disk, 'kill');
}

/** The power fails, and nothing is kept that was not synced. */
export async function power(world: World): Promise<void> {
  const left = world.disk.crashPoint().image(() => false);
  await world.mount.close();
  await world.restart(left, 'power');
}

async function onFullDisk(world: World, work: (world: World) => Promise<void>): Promise<void> {
  const { disk } = world;
  const before = disk.capacityBytes;
  disk.capacityBytes = disk.usedBytes;
  try {
    await work(world);
  } catch (error) {
    // What is kept for such a day may be used up; and whether a drop is in the log is not known then.
    if (!isRefusal(error) && !isTfsError(error, 'IO')) throw error;
  } finally {
    disk.capacityBytes = before;
  }
}

export const removeFull = (world: World): Promise<void> => onFullDisk(world, remove);
export const dropFull = (world: World): Promise<void> => onFullDisk(world, drop);
export const promiseFull = (world: World): Promise<void> => onFullDisk(world, promise);
