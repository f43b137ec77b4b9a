import {
  nameFlagsOf,
  type OpContent,
  type OpsState,
  OpType,
  purgeableSlots,
} from '../../common/format/ops.ts';
import { ALIAS_BIT, type Cookie, type FileId, type Slot } from '../../common/ids.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { ModelBlock } from '../kit/crash-model.ts';
import { MAIN, type World } from './world.ts';

/** What is done to the names of the main block: operations in its log. */

const nameOf = (slot: number): FileId => slot as FileId;

async function operate(
  world: World,
  choose: (state: OpsState, block: ModelBlock) => readonly OpContent[],
): Promise<void> {
  const block = world.model.blocks.get(MAIN)!;
  await world.operate(MAIN, choose(world.opsState(block), block));
}

/** The first slot of which some name has these flags, or none of them. */
function firstWith(state: OpsState, block: ModelBlock, isWanted: (flags: number) => boolean): FileId {
  const slot = block.given.findIndex(({ slot: each }) => isWanted(nameFlagsOf(state, nameOf(each)) ?? 0));
  return nameOf(Math.max(0, slot));
}

const isLive = (flags: number): boolean => (flags & (NameFlag.DELETED | NameFlag.PURGED)) === 0;
const isDeleted = (flags: number): boolean =>
  (flags & (NameFlag.DELETED | NameFlag.PURGED)) === NameFlag.DELETED;

export const remove = (world: World): Promise<void> =>
  operate(world, (state, block) => [{ type: OpType.DELETE, fileId: firstWith(state, block, isLive) }]);

export const undelete = (world: World): Promise<void> =>
  operate(world, (state, block) => [{ type: OpType.UNDELETE, fileId: firstWith(state, block, isDeleted) }]);

/** The last record, or shows it again. */
export const hide = (world: World): Promise<void> =>
  operate(world, (state, block) => {
    const fileId = nameOf(Math.max(0, block.given.length - 1));
    const isHidden = ((nameFlagsOf(state, fileId) ?? 0) & NameFlag.HIDDEN) !== 0;
    return [{ type: isHidden ? OpType.REVEAL : OpType.HIDE, fileId }];
  });

export const alias = (world: World): Promise<void> =>
  operate(world, (state, block) => [aliasOf(world, state, block)]);

/** So many that the log is folded into a new file. */
export const burst = (world: World): Promise<void> =>
  operate(world, (state, block) => Array.from({ length: 8 }, () => aliasOf(world, state, block)));

function aliasOf({ random }: World, state: OpsState, block: ModelBlock): OpContent {
  return {
    type: OpType.ALIAS,
    aliasId: ((ALIAS_BIT | random.u32()) >>> 0) as FileId,
    cookie: (random.u32() & 0x7fff_ffff) as Cookie,
    target: firstWith(state, block, isLive) as number as Slot,
  };
}

/** Of everything that is deleted with all its names; of the last record where nothing is. */
export const purge = (world: World): Promise<void> =>
  operate(world, (state, block) => {
    const slots = purgeableSlots(state, 0, 0);
    if (slots.length > 0) return [{ type: OpType.PURGE_INTENT, slots }];
    const last = Math.max(0, block.given.length - 1);
    const targets = Array.from({ length: state.aliases?.count ?? 0 }, (_, i) => state.aliases!.targetAt(i));
    if (targets.includes(last as Slot)) return [{ type: OpType.DELETE, fileId: nameOf(last) }];
    return [
      { type: OpType.DELETE, fileId: nameOf(last) },
      { type: OpType.PURGE_INTENT, slots: [last as Slot] },
    ];
  });

/** The next configuration, agreed on and begun. */
export async function configure(world: World): Promise<void> {
  const info = world.store.info(MAIN);
  const block = world.block();
  if (info === undefined || block === undefined) return;
  const { epoch, n } = block.opsGiven.at(-1)!.version;
  const version = { epoch, n: n + 1 };
  await world.store.prepareOps(MAIN, version);
  const { members, opsPrimary } = info;
  await world.operate(MAIN, [{ type: OpType.CFG, members, opsPrimary }], version);
}
