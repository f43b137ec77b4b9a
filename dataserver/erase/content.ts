import { isTfsError } from '../../common/errors.ts';
import { type OpsState, slotFlagsOf } from '../../common/format/ops.ts';
import { type BlockId, type FileId, fileId, type Slot } from '../../common/ids.ts';
import { FIND_CONTENT_MS, FIND_CONTENT_NAMES_MAX } from '../../common/limits.ts';
import type { Clock } from '../../common/seams/clock.ts';
import { decodeControl, encodeControl } from '../../common/wire/control.ts';
import { type FoundContent, type FoundRecord, zFindContent } from '../../common/wire/erase.ts';
import { BlockState, EMPTY_BUFFER, NameFlag } from '../../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../../common/wire/rpc-server.ts';
import type { BlockStore } from '../block/store.ts';

export interface ContentDeps {
  readonly store: BlockStore;
  readonly clock: Clock;
}

/**
 * FIND_CONTENT: which records of this content are here, whatever became of their names? Looked for in every block and not
 * in the SHA-1 index, which is a hint and knows one place of each content. It goes by the index files of the blocks, 20
 * bytes a record, in pieces of half a second, because there may be tens of thousands of blocks.
 */
export async function findContent({ store, clock }: ContentDeps, { header }: RpcRequest): Promise<RpcResult> {
  const { sha1, from } = decodeControl(zFindContent, header, 'FIND_CONTENT');
  const wanted = Buffer.from(sha1, 'hex');
  const blocks = [...store.blocks].sort((a, b) => a - b);
  const found: FoundContent = {
    records: [],
    unread: [],
    unsettled: [],
    looked: 0,
    blocks: blocks.length,
  };
  const untilMs = clock.monotonic() + FIND_CONTENT_MS;
  let names = 0;
  for (const block of blocks) {
    if (block < from) continue;
    if (found.looked > 0 && (clock.monotonic() >= untilMs || names >= FIND_CONTENT_NAMES_MAX)) {
      found.next = block;
      break;
    }
    found.looked++;
    try {
      for (const slot of await store.records.slotsWith(block, wanted)) {
        const record = await recordAt(store, block, slot);
        names += record.names.length;
        found.records.push(record);
      }
      if (isUnsettled(store, block)) found.unsettled.push(block);
    } catch (error) {
      if (!isTfsError(error) || isTfsError(error, 'CLOSED')) throw error;
      // It may have been dropped since it was listed.
      if (store.info(block) !== undefined) found.unread.push(block);
    }
  }
  return { header: EMPTY_BUFFER, payload: [encodeControl(found)] };
}

/** An OPEN one has a session, which would have ended with the first write that failed. */
function isUnsettled(store: BlockStore, block: BlockId): boolean {
  const state = store.info(block)?.state;
  return state !== undefined && state !== BlockState.OPEN && state !== BlockState.SEALED;
}

async function recordAt(store: BlockStore, block: BlockId, slot: Slot): Promise<FoundRecord> {
  const state = await store.opsState(block);
  const { version, seq } = store.info(block)!;
  const cookie = await cookieAt(store, block, slot, state);
  const flags = slotFlagsOf(state, slot);
  const names: FoundRecord['names'] = [{ fileId: fileId(slot), ...cookie, flags }];
  const { aliases } = state;
  for (let i = 0; i < (aliases?.count ?? 0); i++)
    if (aliases!.targetAt(i) === slot)
      names.push({
        fileId: aliases!.idAt(i),
        cookie: aliases!.cookieAt(i),
        flags: aliases!.flagsAt(i) | (flags & NameFlag.PURGED),
      });
  return { block, slot, version, seq, names };
}

/** It stands in the record alone. Of one that is purged nobody needs it: there is nothing left to delete. */
async function cookieAt(
  store: BlockStore,
  block: BlockId,
  slot: Slot,
  state: OpsState,
): Promise<Pick<FoundRecord['names'][number], 'cookie'>> {
  if ((slotFlagsOf(state, slot) & NameFlag.PURGED) !== 0) return {};
  try {
    const id = slot as number as FileId;
    const { header } = await store.read(block, id, undefined, { offset: 0, length: 0 }, true);
    return { cookie: header.cookie };
  } catch (error) {
    if (isTfsError(error, 'CORRUPT')) return {};
    throw error;
  }
}
