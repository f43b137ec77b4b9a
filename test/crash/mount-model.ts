import { parseBlockFileName } from '../../common/format/file-names.ts';
import { type BlockId, type ServerId, serverId } from '../../common/ids.ts';
import { compareReigns, type Reign } from '../../common/wire/control.ts';
import { checkStore } from '../kit/crash-check.ts';
import type { CrashCause } from '../kit/crash-explorer.ts';
import { demand, keyOf, type Model, type ModelBlock, snapshotOf } from '../kit/crash-model.ts';
import type { Mount } from './mount.ts';

/** A value that is replaced as a whole: a crash leaves the confirmed one, or one that was given after it. */
export interface Given<T> {
  readonly acked: T;
  readonly given: readonly T[];
}

/** What a mount was told, and what it has confirmed. */
export interface MountModel {
  readonly blocks: Model;
  /** Of the last life that anybody can have heard of. */
  incarnation: number;
  reign: Given<Reign>;
  members: Given<readonly ServerId[]>;
  nonce: Given<string | undefined>;
}

export const emptyModel = (): MountModel => ({
  blocks: new Map(),
  incarnation: 0,
  reign: { acked: { epoch: 0 as Reign['epoch'], nameserver: 0 }, given: [] },
  members: { acked: [], given: [] },
  nonce: { acked: undefined, given: [] },
});

export const keyOfMount = ({ blocks, incarnation, reign, members, nonce }: MountModel): string =>
  `${keyOf(blocks)} ${incarnation} ${JSON.stringify([reign, members, nonce])}`;

export const copyOf = (model: MountModel): MountModel => ({ ...model, blocks: snapshotOf(model.blocks) });

/**
 * @param found blocks that were found good before; only where nothing is done with the mount afterwards
 * @returns the model as it is from now on
 * @throws Violation
 */
export async function checkMount(
  mount: Mount,
  model: MountModel,
  cause: CrashCause,
  found?: Map<string, ModelBlock>,
): Promise<MountModel> {
  demand(mount.incarnation >= model.incarnation, `incarnation ${mount.incarnation} was used before`);
  const { disk, store } = mount;
  const filesOf = (id: BlockId) => disk.fingerprint(`blocks/${id}.`);
  const known = found === undefined ? undefined : { found, filesOf };
  const blocks = await checkStore(store, model.blocks, cause, known);
  await checkFiles(mount);
  return {
    blocks,
    incarnation: mount.incarnation,
    // Whatever it finds it shows: from then on it must not go down.
    reign: decide('the promise', mount.promise.reign, model.reign, (a, b) => compareReigns(a, b) === 0),
    members: decide('the known members', mount.promise.members, model.members, isSameList),
    nonce: decide('the nonce', mount.nonces.of(1), model.nonce, (a, b) => a === b),
  };
}

function decide<T>(what: string, found: T, model: Given<T>, isSame: (a: T, b: T) => boolean): Given<T> {
  const isKnown = [model.acked, ...model.given].some((value) => isSame(found, value));
  const [held, acked] = [JSON.stringify(found), JSON.stringify(model.acked)];
  demand(isKnown, `${what}: ${held} is there, ${acked} was confirmed`);
  return { acked: found, given: [] };
}

const isSameList = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && [...a].sort().join() === [...b].sort().join();

export const memberIds = (...ids: number[]): ServerId[] => ids.map(serverId);

/** Of every block there are the files of its one generation, and nothing takes space that belongs to no block. */
async function checkFiles({ disk, store }: Mount): Promise<void> {
  for (const name of await disk.list('blocks')) {
    if (name === 'ops.reserve') continue;
    const file = parseBlockFileName(name);
    demand(file !== undefined, `${name} is left in the directory of blocks`);
    const info = store.info(file.block);
    demand(info !== undefined, `${name} is of a block that is not there`);
    if (info.flags !== 0 || file.kind === 'ops') continue;
    demand(file.number === info.generation, `${name} is left of a block of generation ${info.generation}`);
  }
}
