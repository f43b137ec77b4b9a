import { blockFileName, parseBlockFileName } from '../../common/format/file-names.ts';
import { decodeIdx, IDX_LOST } from '../../common/format/idx.ts';
import { nameFlagsOf } from '../../common/format/ops.ts';
import { slotOffset } from '../../common/format/slot-word.ts';
import { type FileId, isAlias } from '../../common/ids.ts';
import { BlockState, NameFlag } from '../../common/wire/messages.ts';
import { STORE_DIRECTORIES } from '../../dataserver/block/api.ts';
import { inBlocks } from '../../dataserver/block/context.ts';
import type { DataServer } from '../../dataserver/dataserver.ts';
import { type IndexEntry, readIndexEntry } from '../../dataserver/digest-index.ts';
import { isLedgerKey } from '../../dataserver/scrub/ledger.ts';
import { type Listing, straysIn } from '../kit/stray-files.ts';
import type { BlockStory } from './block-story.ts';
import { type ObservedServer, Violation } from './observed.ts';
import type { Observer } from './observer.ts';

/**
 * A mount at rest: index files, index in memory, SHA-1 index and space are as the files are.
 *
 * @throws Violation I15
 */
export async function checkMount(server: ObservedServer<DataServer>, observer: Observer): Promise<void> {
  checkIndexFiles(server, observer);
  await checkFlags(server, observer);
  await checkDigestIndex(server, observer);
  await checkSpace(server);
}

/** An index file says of a block in its first generation where its records are, as far as it says anything. */
function checkIndexFiles({ id, medium, live }: ObservedServer<DataServer>, observer: Observer): void {
  for (const block of live!.store.blocks) {
    const { state, generation, seal } = live!.store.info(block)!;
    const name = blockFileName(block, generation, 'idx');
    const path = inBlocks(name);
    const bytes = medium.durable(path);
    const story = observer.stories.get(block);
    if (state !== BlockState.SEALED || generation > 0 || seal!.lost !== undefined) continue;
    if (bytes === undefined || story === undefined || medium.damaged.has(path)) continue;
    const idx = decodeIdx(bytes);
    const where = { server: id, block, name };
    if (!idx.ok) throw new Violation('I15', where, idx.why);
    const { header, columns } = idx.value;
    // Of an earlier seal: it is not believed, and written anew when the block is loaded.
    if (header.length !== seal!.length || header.slots !== seal!.slots) continue;
    // Nor is one that was written with records lost that are none by the seal.
    if (columns.flags.some((flags) => (flags & IDX_LOST) !== 0)) continue;
    for (let slot = 0; slot < header.slots; slot++) {
      const isSame =
        slotOffset(columns.offsets[slot]!) === story.startOf(slot) &&
        columns.sha1s.subarray(20 * slot, 20 * slot + 20).equals(story.record(slot).header.sha1);
      if (!isSame)
        throw new Violation('I15', where, `slot ${slot} is not where it says, or is another picture`);
    }
  }
}

/** The flags of a name in memory are those that the operations on the disk add up to. */
async function checkFlags({ id, live }: ObservedServer<DataServer>, observer: Observer): Promise<void> {
  const { store } = live!;
  const { logs, drops } = observer.mounts.get(id)!;
  for (const [block, { state }] of logs) {
    const info = store.info(block);
    // A disk that was slow when it was begun may take half a minute for one call.
    if (info === undefined && store.isBusy(block)) continue;
    // Files that a disk did not remove at once are removed a little later: that they go is for checkSpace to see.
    if (info === undefined && drops.isDropped(block)) continue;
    if (info === undefined)
      throw new Violation(
        'I15',
        { server: id, block },
        'its files are there, and the server does not have it',
      );
    // What a killed process had written is in the page cache: it is written once more before anything is acknowledged on top
    // of it (docs/decisions/007). That what was acknowledged is durable on all members is looked at elsewhere.
    if (state.seq < info.seq) continue;
    for (let slot = 0; slot < info.slots; slot++) {
      const own = nameFlagsOf(state, slot as FileId) ?? 0;
      const flags = await store.check(block, slot as FileId);
      const [is, shouldBe] = [flags & ~NameFlag.LOST, own];
      if (is !== shouldBe && (is & shouldBe & NameFlag.PURGED) === 0)
        throw new Violation(
          'I15',
          { server: id, block },
          `slot ${slot} has flags ${is} in memory, ${shouldBe} in the log`,
        );
    }
  }
}

/** An entry leads to a record with that content, or with that opId, or to nothing that is there any more. */
async function checkDigestIndex({ id, live }: ObservedServer<DataServer>, observer: Observer): Promise<void> {
  const { options, index, store } = live!;
  await index.flush();
  for await (const [key, value] of options.kv.entries({})) {
    if (isLedgerKey(key)) continue;
    const entry = readIndexEntry(key, value);
    if (entry === undefined)
      throw new Violation(
        'I15',
        { server: id, name: key.toString('hex') },
        'an entry of the SHA-1 index does not verify',
      );
    const story = observer.stories.get(entry.block);
    if (story === undefined || store.info(entry.block) === undefined) continue;
    const why = whyMisled(entry, story);
    if (why !== undefined)
      throw new Violation('I15', { server: id, block: entry.block }, `the SHA-1 index: ${why}`);
  }
}

function whyMisled(entry: IndexEntry, story: BlockStory): string | undefined {
  if (entry.kind === 'block') return undefined;
  const slot = story.slotOf(entry);
  const header = slot === undefined ? undefined : story.seen(slot);
  if (header === undefined) return `${entry.kind} leads to ${entry.fileId}, which never was`;
  if (entry.kind === 'content')
    return header.sha1.equals(entry.sha1) ? undefined : `a content leads to slot ${slot}, which has another`;
  if (isAlias(entry.fileId) || header.opId.equals(entry.opId)) return undefined;
  return `a request leads to slot ${slot}, which is of another`;
}

/**
 * Files that are being made, or on their way out, need a moment: a block that was begun on a slow disk as long as one call
 * of it takes, which was begun while the disk was slow (16 s, a long one on the slowest), and ends as late after that.
 */
const LOOKS = 20;
const LOOK_AGAIN_MS = 1_000;

/** No file belongs to nothing, and what the store says that its files take is what they take. */
async function checkSpace({ id, live }: ObservedServer<DataServer>): Promise<void> {
  const { clock } = live!.options;
  for (let look = 1; ; look++) {
    const why = await whyNotAccounted(live!);
    if (why === undefined) return;
    if (look === LOOKS) throw new Violation('I15', { server: id }, why);
    await clock.sleep(LOOK_AGAIN_MS);
  }
}

async function whyNotAccounted(live: DataServer): Promise<string | undefined> {
  const { store, options } = live;
  const { disk } = options;
  const listing: Record<string, readonly string[]> = {};
  for (const directory of ['', STORE_DIRECTORIES.blocks, STORE_DIRECTORIES.spare])
    listing[directory] = await disk.list(directory);
  const sizeOf = async (path: string): Promise<number> => (await disk.stat(path))?.size ?? 0;
  let oldBytes = 0;
  for (const path of straysIn(listing as Listing, store.entries())) {
    const file = parseBlockFileName(path.slice(path.lastIndexOf('/') + 1));
    const held = file && store.info(file.block);
    // Of an earlier generation: kept for a while, and counted.
    if (held === undefined || file!.kind === 'ops' || file!.number >= held.generation)
      return `${path} belongs to nothing`;
    if (file!.kind === 'blk') oldBytes += await sizeOf(path);
  }
  let bytes = 0;
  for (const block of store.blocks) {
    // Dropped while others were looked at: then the totals say so, too, and it is looked again.
    const info = store.info(block);
    if (info !== undefined) bytes += await sizeOf(inBlocks(blockFileName(block, info.generation, 'blk')));
  }
  const spares = listing[STORE_DIRECTORIES.spare]!;
  for (const name of spares) bytes += await sizeOf(`${STORE_DIRECTORIES.spare}/${name}`);
  const totals = store.totals();
  if (oldBytes !== totals.generationBytes)
    return `files of earlier generations take ${oldBytes} bytes, it counts ${totals.generationBytes}`;
  if (bytes === totals.bytes && spares.length === totals.spares) return undefined;
  return `block files and ${spares.length} spares take ${bytes} bytes, it counts ${totals.bytes} and ${totals.spares}`;
}
