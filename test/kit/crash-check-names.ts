import { isTfsError } from '../../common/errors.ts';
import { nameFlagsOf, type OpsState } from '../../common/format/ops.ts';
import { ALIAS_BIT, type BlockId, type Cookie, type FileId } from '../../common/ids.ts';
import { NameFlag } from '../../common/wire/messages.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import type { Written } from './block-world.ts';
import { demand, type ModelBlock, outcome } from './crash-model.ts';

/** All of a payload. */
export const WHOLE = { offset: 0, length: 0xffff_ffff };

export async function checkRecord(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  record: Written,
  state: OpsState,
): Promise<void> {
  const fileId = record.slot as number as FileId;
  const flags = nameFlagsOf(state, fileId) ?? 0;
  await checkName(store, id, block, { fileId, cookie: record.cookie, flags, record, alias: false });
}

export async function checkAliases(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  state: OpsState,
  slots: number,
): Promise<void> {
  const { aliases } = state;
  for (let i = 0; i < (aliases?.count ?? 0); i++) {
    const target = aliases!.targetAt(i);
    if (target >= slots) continue;
    const fileId = aliases!.idAt(i);
    const flags = nameFlagsOf(state, fileId)!;
    const record = block.given[target]!;
    await checkName(store, id, block, { fileId, cookie: aliases!.cookieAt(i), flags, record, alias: true });
  }
}

async function checkName(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  name: { fileId: FileId; cookie: Cookie; flags: number; record: Written; alias: boolean },
): Promise<void> {
  const { fileId, cookie, flags, record } = name;
  const label = `${name.alias ? 'alias' : 'record'} ${fileId} of block ${id}`;
  const range = { offset: 0, length: record.payload.length + 10 };
  const purged = (flags & NameFlag.PURGED) !== 0;
  const hidden = (flags & (NameFlag.DELETED | NameFlag.HIDDEN)) !== 0;
  const seen = await outcome(() => store.read(id, fileId, cookie, range, false));
  if (block.damaged && 'error' in seen && isTfsError(seen.error, 'CORRUPT')) return;
  if (purged || hidden)
    demand('error' in seen && missed(seen.error), `${label} is deleted or hidden and was answered`);
  else {
    demand(
      'value' in seen,
      `${label} was confirmed and cannot be read: ${'error' in seen && String(seen.error)}`,
    );
    demand(seen.value.payload.equals(record.payload), `${label} reads as other bytes`);
    demand(seen.value.alias === name.alias, `${label} is taken for what it is not`);
  }
  if (hidden && !purged) {
    const forced = await outcome(() => store.read(id, fileId, cookie, range, true));
    if (block.damaged && 'error' in forced && isTfsError(forced.error, 'CORRUPT')) return;
    demand(
      'value' in forced && forced.value.payload.equals(record.payload),
      `${label} is gone although only hidden`,
    );
    demand(
      forced.value.nameFlags === flags,
      `${label} has flags ${forced.value.nameFlags} instead of ${flags}`,
    );
  }
}

export async function checkMisses(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  slots: number,
  sealed: boolean,
): Promise<void> {
  const range = { offset: 0, length: 1 };
  const beyond = await outcome(() => store.read(id, slots as FileId, undefined, range, true));
  demand(
    'error' in beyond && missed(beyond.error),
    `block ${id} answers for slot ${slots}, which it has not`,
  );
  if (sealed && !block.damaged)
    demand(
      isTfsError(beyond.error, 'NOT_FOUND'),
      `a sealed block does not know what it has not: ${beyond.error}`,
    );
  const alias = await outcome(() =>
    store.read(id, (ALIAS_BIT + 0x7fff_ffff) as FileId, undefined, range, true),
  );
  demand('error' in alias && missed(alias.error), `block ${id} answers for an alias that it has not`);
  const first = block.given[0];
  if (slots === 0 || first === undefined || block.damaged) return;
  const wrong = ((first.cookie ^ 1) >>> 0) as Cookie;
  const guessed = await outcome(() => store.read(id, 0 as FileId, wrong, range, true));
  demand('error' in guessed && missed(guessed.error), `block ${id} answers to a wrong cookie`);
}

const missed = (error: unknown): boolean => isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'DONT_KNOW');
