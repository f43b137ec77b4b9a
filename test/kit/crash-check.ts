import { isTfsError } from '../../common/errors.ts';
import { emptyOpsState, foldOp, type OpsState, slotFlagsOf } from '../../common/format/ops.ts';
import type { BlockId, FileId, Slot } from '../../common/ids.ts';
import { BlockFlag, BlockState, NameFlag } from '../../common/wire/messages.ts';
import type { BlockInfo, BlockStore, PreparedGeneration } from '../../dataserver/block/store.ts';
import { batchAt, raw } from './block-world.ts';
import { checkAliases, checkMisses, checkRecord, WHOLE } from './crash-check-names.ts';
import { blockKeyOf, demand, endOf, type Model, type ModelBlock, outcome } from './crash-model.ts';
import { SeededRandom } from './seeded-random.ts';

/** Blocks that were found good before: the same files under the same model are not looked at once more. */
export interface KnownBlocks {
  readonly found: Map<string, ModelBlock>;
  /** Equal for the same files of a block. */
  filesOf(block: BlockId): string;
}

/**
 * Everything that was confirmed is there, and nothing is there that was not asked for.
 *
 * @param known only where nothing is done with the store afterwards
 * @returns the model as it is from now on: what the crash has decided is decided
 * @throws Violation
 */
export async function checkStore(
  store: BlockStore,
  model: Model,
  cause: 'power' | 'kill' = 'power',
  known?: KnownBlocks,
): Promise<Model> {
  const decided: Model = new Map();
  for (const [id, block] of model) {
    const info = store.info(id);
    if (info === undefined) {
      demand(!block.created, `block ${id}, which was confirmed, is gone`);
      decided.set(id, { ...block, gone: true, receiving: false });
      continue;
    }
    demand(!block.gone, `block ${id}, which was let go of or never made, is there`);
    if (block.receiving && (info.flags & BlockFlag.QUARANTINED) !== 0) {
      await checkQuarantined(store, id, block);
      decided.set(id, { ...block });
      continue;
    }
    const key = known === undefined ? '' : `${id} ${blockKeyOf(block)} ${known.filesOf(id)}`;
    const before = known?.found.get(key);
    if (before !== undefined) {
      decided.set(id, { ...before });
      continue;
    }
    const found = await checkBlock(store, id, block);
    // What a killed process had not synced reads well and is not confirmed by that; records are, once they were walked.
    const { created, opsAcked, sealed, generation, made, committing } = block;
    const unsure = { created, opsAcked, sealed, generation, made, committing };
    decided.set(id, cause === 'power' ? found : { ...found, ...unsure });
    known?.found.set(key, found);
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
  const made = madeOf(info, block);
  checkSeal(info, block, made);
  demand(info.slots >= block.acked, `block ${id} has ${info.slots} records of ${block.acked} confirmed ones`);
  demand(
    info.slots <= block.given.length,
    `block ${id} has ${info.slots} records, ${block.given.length} were given`,
  );
  demand(info.length === (made?.length ?? endOf(block, info.slots)), `block ${id} ends at ${info.length}`);
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
    // A log that was lost with its replica says so; what is here now has one.
    receiving: false,
    generation: info.generation,
    made,
    committing: undefined,
  };
}

/** The file that it has: the confirmed one, or the one that was about to take its place. */
function madeOf({ block: id, generation }: BlockInfo, block: ModelBlock): PreparedGeneration | undefined {
  const { committing } = block;
  if (generation === block.generation) return block.made;
  demand(generation === committing?.generation, `block ${id} is of generation ${generation}`);
  return committing;
}

function checkSeal(info: BlockInfo, block: ModelBlock, made: PreparedGeneration | undefined): void {
  const { block: id, length, seal } = info;
  const { sealing, sealed } = block;
  const isSealed = info.state === BlockState.SEALED;
  demand(!isSealed || sealing !== undefined, `block ${id} is sealed and nobody asked for it`);
  demand(isSealed || sealed === undefined, `block ${id} has lost its confirmed seal`);
  if (made !== undefined) {
    demand(seal?.digest.equals(made.digest), `block ${id} is compacted with another digest`);
    return;
  }
  if (!isSealed) return;
  demand(length === sealing?.length || length === sealed?.length, `block ${id} is sealed at ${length}`);
  if (sealed !== undefined && (length === sealed.length || sealing?.length === sealed.length))
    demand(seal!.digest.equals(sealed.digest), `block ${id} is sealed with another digest`);
}

/** Of a replica without its log nobody can say what became of a name. */
async function checkQuarantined(store: BlockStore, id: BlockId, block: ModelBlock): Promise<void> {
  for (const { slot, cookie } of block.given) {
    const seen = await outcome(() => store.read(id, slot as number as FileId, cookie, WHOLE, true));
    demand(
      'error' in seen && !isTfsError(seen.error, 'NOT_FOUND'),
      `block ${id}, which cannot be used, answers for slot ${slot}`,
    );
  }
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
  for await (const { slot, sha1 } of store.records.refs(id)) {
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
