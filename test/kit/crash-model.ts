import { isTfsError } from '../../common/errors.ts';
import {
  emptyOpsState,
  foldOp,
  nameFlagsOf,
  type Op,
  type OpsState,
  slotFlagsOf,
} from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import { ALIAS_BIT, type BlockId, type Cookie, type FileId, type Slot } from '../../common/ids.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { BlockStore, SealInfo, SealOrder } from '../../dataserver/block/store.ts';
import { batchAt, raw, type Writer, type Written } from './block-world.ts';
import { SeededRandom } from './seeded-random.ts';

/** What one block was told and what it has confirmed: the two ends between which a crash may leave it. */
export interface ModelBlock {
  readonly superblock: Superblock;
  readonly writer: Writer;
  created: boolean;
  /** Records whose append has been called, in order. */
  given: readonly Written[];
  /** Of those, how many are confirmed. */
  acked: number;
  /** Sequenced ops that were called for, in order, the CFG first. */
  opsGiven: readonly Op[];
  opsAcked: number;
  /** Length of the newest fence reply: no append may become durable beyond it. */
  fencedAt: number | undefined;
  sealing: SealOrder | undefined;
  sealed: SealInfo | undefined;
  /** Damage was done to it: it may be SUSPECT, and a read may fail, but not lie. */
  damaged: boolean;
}

export type Model = Map<BlockId, ModelBlock>;

export const snapshotOf = (model: Model): Model =>
  new Map(Array.from(model, ([id, block]) => [id, { ...block }]));

export const endOf = (block: ModelBlock, records: number): number =>
  records === 0 ? 4096 : block.given[records - 1]!.end;

/** Something a promise of the store forbids. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

function demand(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Violation(what);
}

/**
 * Everything that was confirmed is there, and nothing is there that was not asked for.
 *
 * @returns the model as it is from now on: what the crash has decided is decided
 * @throws Violation
 */
export async function checkStore(
  store: BlockStore,
  model: Model,
  cause: 'power' | 'kill' = 'power',
): Promise<Model> {
  const decided: Model = new Map();
  for (const [id, block] of model) {
    const info = store.info(id);
    if (info === undefined) {
      demand(!block.created, `block ${id}, which was confirmed, is gone`);
      continue;
    }
    const found = await checkBlock(store, id, block);
    // What a killed process had not synced reads well and is not confirmed by that; records are, once they were walked.
    const { created, opsAcked, sealed } = block;
    decided.set(id, cause === 'power' ? found : { ...found, created, opsAcked, sealed });
  }
  for (const id of store.blocks) demand(model.has(id), `block ${id}, which nobody made, is there`);
  return decided;
}

async function checkBlock(store: BlockStore, id: BlockId, block: ModelBlock): Promise<ModelBlock> {
  const info = store.info(id)!;
  const mereCrash = `block ${id} is flagged after a mere crash`;
  demand(block.damaged || info.flags === 0, mereCrash);
  await store.recover(id);
  demand(block.damaged || info.flags === 0, mereCrash);
  const sealed = info.state === BlockState.SEALED;
  demand(
    sealed || info.state === BlockState.RECOVERED,
    `block ${id} is in state ${info.state} after a restart`,
  );
  demand(!sealed || block.sealing !== undefined, `block ${id} is sealed and nobody asked for it`);
  demand(sealed || block.sealed === undefined, `block ${id} has lost its confirmed seal`);
  if (sealed && block.sealing !== undefined)
    demand(info.length === block.sealing.length, `block ${id} is sealed at ${info.length}`);
  if (block.sealed !== undefined)
    demand(info.seal!.digest.equals(block.sealed.digest), `block ${id} is sealed with another digest`);

  demand(info.slots >= block.acked, `block ${id} has ${info.slots} records of ${block.acked} confirmed ones`);
  demand(
    info.slots <= block.given.length,
    `block ${id} has ${info.slots} records, ${block.given.length} were given`,
  );
  demand(info.length === endOf(block, info.slots), `block ${id} ends at ${info.length}`);
  if (block.fencedAt !== undefined)
    demand(
      info.length <= block.fencedAt,
      `block ${id} has grown to ${info.length} behind a fence at ${block.fencedAt}`,
    );

  const state = await checkOps(store, id, block);
  for (let i = 0; i < info.slots; i++) await checkRecord(store, id, block, block.given[i]!, state);
  await checkAliases(store, id, block, state, info.slots);
  await checkMisses(store, id, block, info.slots, sealed);
  if (sealed && !block.damaged) {
    const report = await store.verify(id);
    demand(report.problems.length === 0, `block ${id} does not verify: ${report.problems[0]}`);
    demand(report.digest?.equals(info.seal!.digest), `block ${id} has not the digest of its seal`);
  }
  await checkIndex(store, id, block, info.slots, state);
  await checkSessionOver(store, id, block);
  return {
    ...block,
    created: true,
    given: block.given.slice(0, info.slots),
    acked: info.slots,
    opsGiven: block.opsGiven.slice(0, info.seq),
    opsAcked: info.seq,
    sealed: sealed ? info.seal : undefined,
  };
}

/** The state is that of the confirmed ops, or of some more of those that were given, in order. */
async function checkOps(store: BlockStore, id: BlockId, block: ModelBlock): Promise<OpsState> {
  const { seq } = store.info(id)!;
  demand(seq >= block.opsAcked, `block ${id} holds ops up to ${seq} of ${block.opsAcked} confirmed ones`);
  demand(seq <= block.opsGiven.length, `block ${id} holds op ${seq}, which nobody gave`);
  const state = emptyOpsState();
  for (const op of block.opsGiven.slice(0, seq)) foldOp(state, op);
  const held = await store.opsState(id);
  demand(
    held.seq === seq && (held.aliases?.count ?? 0) === (state.aliases?.count ?? 0),
    `block ${id}: ops state`,
  );
  for (const opId of state.recentOps?.keys() ?? [])
    demand(held.recentOps?.has(opId), `block ${id} has forgotten an op id`);
  return state;
}

async function checkRecord(
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

async function checkAliases(
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

async function checkMisses(
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

/** What the SHA-1 index would be rebuilt from is what was stored. */
async function checkIndex(
  store: BlockStore,
  id: BlockId,
  block: ModelBlock,
  slots: number,
  state: OpsState,
): Promise<void> {
  if (block.damaged) return;
  let count = 0;
  for await (const { slot, sha1 } of store.indexEntries(id)) {
    demand(sha1.equals(block.given[slot]!.sha1), `block ${id} has another SHA-1 for slot ${slot}`);
    count++;
  }
  let purged = 0;
  for (let slot = 0; slot < slots; slot++)
    if ((slotFlagsOf(state, slot as Slot) & NameFlag.PURGED) !== 0) purged++;
  demand(count === slots - purged, `block ${id} lists ${count} of ${slots} SHA-1s`);
}

/** A block has one session for life. */
async function checkSessionOver(store: BlockStore, id: BlockId, block: ModelBlock): Promise<void> {
  const slot = store.info(id)!.slots;
  const place = { offset: endOf(block, slot), slot, acked: 4096, seed: block.writer.seed };
  const batch = batchAt({ ...place, random: new SeededRandom(1) }, [Buffer.from('probe')]);
  const { session } = block.superblock;
  const appended = await outcome(() => store.appendBatch(id, session, batch));
  demand(
    'error' in appended && isTfsError(appended.error, 'SESSION_ENDED'),
    `block ${id} takes appends after a restart`,
  );
  const copied = await outcome(() => store.appendRaw(id, session, batch.offset, raw(batch), batch.offset));
  demand(
    'error' in copied && isTfsError(copied.error, 'SESSION_ENDED'),
    `block ${id} takes copies after a restart`,
  );
}

const missed = (error: unknown): boolean => isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'DONT_KNOW');

export async function outcome<T>(work: () => T | Promise<T>): Promise<{ value: T } | { error: unknown }> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof Violation) throw error;
    return { error };
  }
}
