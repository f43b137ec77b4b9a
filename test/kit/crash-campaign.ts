import { isTfsError } from '../../common/errors.ts';
import { blockFileName } from '../../common/format/file-names.ts';
import { decodeIdx, encodeIdx, SHA1_BYTES } from '../../common/format/idx.ts';
import { blockSeed } from '../../common/format/record.ts';
import { encodeSuperblock } from '../../common/format/superblock.ts';
import type { BlockId, Epoch, FileId } from '../../common/ids.ts';
import { type FaultName, type Faults, seededAs } from '../../dataserver/block/faults.ts';
import type { BlockStore } from '../../dataserver/block/store.ts';
import { batchAt, faultsOf, openStore, raw, superblockOf } from './block-world.ts';
import { checkStore } from './crash-check.ts';
import {
  type CrashCounts,
  CrashExplorer,
  type CrashSubject,
  type ExplorerOptions,
} from './crash-explorer.ts';
import { endOf, keyOf, type Model, type ModelBlock, outcome, snapshotOf, Violation } from './crash-model.ts';
import type { CrashPath } from './crash-path.ts';
import {
  append,
  appendGiven,
  create,
  fence,
  goOn,
  runWorkload,
  SMALL_BLOCK_BYTES,
} from './crash-workload.ts';
import { RecordingDisk } from './recording-disk.ts';
import { SeededRandom } from './seeded-random.ts';

/** What else goes wrong beside the power. */
export const TROUBLES = [
  'none',
  /** Bytes below a watermark change. */
  'damage',
  /** The disk cannot read something while a store recovers. */
  'unreadable',
  /** Index files describe more than the sealed block. */
  'index-ahead',
  /** Spares hold the records of an earlier block. */
  'recycled',
  /** An fdatasync fails. */
  'failed-sync',
  /** Before the power fails the process is killed, and another one goes on. */
  'killed',
] as const;
export type Trouble = (typeof TROUBLES)[number];

export interface Campaign {
  readonly seed: number;
  readonly trouble: Trouble;
  readonly statesPerStep: number;
  readonly actions: number;
  readonly againEvery?: number;
  /** Planted bugs. */
  readonly faults?: readonly FaultName[];
  /** This crash alone is looked at. */
  readonly only?: CrashPath;
}

export interface CampaignResult {
  readonly states: number;
  readonly counts: CrashCounts;
  readonly violation: Violation | undefined;
}

/** One seed: a store at work, crashed after every change of its disk. */
export async function runCampaign(campaign: Campaign): Promise<CampaignResult> {
  const { seed, trouble } = campaign;
  const random = new SeededRandom(seed);
  const faults = faultsOf(...(campaign.faults ?? []));
  const twist = TWISTS[trouble];
  const subject = storeSubject(faults, seed);
  const options: ExplorerOptions<BlockStore, Model> = {
    subject,
    random: new SeededRandom(seed * 7919),
    statesPerStep: campaign.statesPerStep,
    againEvery: campaign.againEvery ?? 0,
    ...(trouble === 'killed' ? { killEvery: 10 } : {}),
    ...(twist === undefined ? {} : { twist: twist(subject) }),
    ...(campaign.only === undefined ? {} : { only: campaign.only }),
  };
  const explorer = new CrashExplorer(options);
  const disk = new RecordingDisk();
  disk.tearing = () => random.float();
  const model: Model = new Map();
  if (trouble === 'recycled') await plantUsedSpares(disk, faults.has('unsalted-checksum'));
  const store = await subject.open(disk, true);
  explorer.watch(disk, model);
  if (trouble === 'failed-sync') disk.failure = { nth: 3 + random.below(25), code: 'IO', kinds: ['sync'] };
  const workload = { random, faults, actions: campaign.actions };
  if (trouble === 'recycled') await fillUsedSpares(store, model, workload);
  else await runWorkload(store, model, workload);
  // The last acknowledgement counts too, though nothing changes the disk after it.
  await disk.step();
  disk.onStep = undefined;
  disk.failure = undefined;
  await store.close();
  const { states, counts, violation } = explorer;
  return { states, counts, violation };
}

function storeSubject(faults: Faults, seed: number): CrashSubject<BlockStore, Model> {
  return {
    open: (disk) => openStore(disk, { faults, limits: { opsReserveBytes: 0, opsLogBytes: 700 } }),
    snapshot: snapshotOf,
    key: keyOf,
    check: (store, model, cause) => checkStore(store, model, cause),
    settle: settleOps,
    goOn: (store, model) => goOn(store, model, new SeededRandom(seed)),
  };
}

/** What is asked before anything is confirmed that was found in the log: from then on it holds. */
export async function settleOps(store: BlockStore, model: Model): Promise<void> {
  for (const [id, block] of model) {
    const info = store.info(id);
    if (block.gone || info === undefined || info.flags !== 0) continue;
    await store.appendOps(id, []);
    block.created = true;
    block.opsAcked = info.seq;
    block.sealed = info.seal;
    if (info.generation === block.generation) continue;
    block.generation = info.generation;
    block.made = block.committing;
    block.committing = undefined;
  }
}

type Subject = CrashSubject<BlockStore, Model>;
type Twist = NonNullable<ExplorerOptions<BlockStore, Model>['twist']>;

const TWISTS: Record<Trouble, ((subject: Subject) => Twist) | undefined> = {
  none: undefined,
  recycled: undefined,
  'failed-sync': undefined,
  killed: undefined,
  damage: (subject) => async (image, model, random) => {
    const marked = [...model].map(([id, block]) => [id, block, provenBy(block)] as const);
    const hurt = marked.filter(
      ([, block, proven]) => block.created && proven > 4096 && block.sealing === undefined,
    );
    if (hurt.length > 0) {
      const [id, block, proven] = random.pick(hurt);
      block.damaged = true;
      const at = 4096 + random.below(proven - 4096);
      image.corrupt(pathOf(id, 'blk'), (content) => {
        content[at] = content[at]! ^ (1 << random.below(8));
      });
    }
    await lookAt(image, model, subject);
  },
  unreadable: (subject) => async (image, model, random) => {
    image.failure = { nth: 1 + random.below(25), code: 'IO', kinds: ['read', 'open'] };
    const opened = await outcome(() => subject.open(image, true));
    if ('value' in opened) {
      const store = opened.value;
      for (const [id, block] of model) {
        const info = store.info(id);
        if (info === undefined) continue;
        const fenced = await outcome(() => store.fence(id, 1 as Epoch));
        if ('error' in fenced) continue;
        const wanted = endOf(block, block.acked);
        if (fenced.value.validLength < wanted)
          throw new Violation(
            `block ${id} reports ${fenced.value.validLength} of ${wanted} bytes: it could not read`,
          );
        const read = await outcome(() =>
          store.read(id, 0 as FileId, block.given[0]?.cookie, { offset: 0, length: 1 }, true),
        );
        if (
          block.acked > 0 &&
          info.slots > 0 &&
          'error' in read &&
          isTfsError(read.error, 'NOT_FOUND') &&
          !purgedFirst(block)
        )
          throw new Violation(`block ${id} says that its first record does not exist: it could not read`);
      }
      await store.close();
    }
    image.failure = undefined;
    // A disk that reads again has lost nothing: trying to recover did no harm.
    const fresh = image.settled();
    await lookAt(fresh, model, subject);
  },
  'index-ahead': (subject) => async (image, model) => {
    for (const id of model.keys()) {
      const path = pathOf(id, 'idx');
      if (!image.paths.includes(path)) continue;
      image.corrupt(path, (content) => oneMore(content));
    }
    await lookAt(image, model, subject);
  },
};

const pathOf = (id: BlockId, kind: 'blk' | 'idx'): string => `blocks/${blockFileName(id, 0, kind)}`;

const purgedFirst = (block: ModelBlock): boolean =>
  block.opsGiven.some((op) => 'slots' in op && Array.isArray(op.slots) && op.slots.includes(0 as never));

async function lookAt(image: RecordingDisk, model: Model, subject: Subject): Promise<void> {
  const store = await subject.open(image, true);
  await checkStore(store, model);
  await store.close();
}

/** What the headers of confirmed records prove to have been confirmed before them. */
function provenBy(block: ModelBlock): number {
  let proven = 0;
  for (const record of block.given.slice(0, block.acked)) proven = Math.max(proven, record.ackedLength);
  return proven;
}

/** A sound index file of a block with one more record than there is. */
function oneMore(content: Buffer): Buffer {
  const idx = decodeIdx(content);
  if (!idx.ok) return content;
  const { header, columns } = idx.value;
  const slots = header.slots + 1;
  const length = header.length + 88;
  const offsets = new Uint32Array(slots);
  offsets.set(columns.offsets);
  offsets[slots - 1] = header.length / 8;
  const sha1s = Buffer.concat([columns.sha1s, Buffer.alloc(SHA1_BYTES, 1)]);
  return encodeIdx({ ...header, slots, length }, { offsets, flags: new Uint8Array(slots), sha1s });
}

const SAME_BYTES = 500;

/** Spares with the whole contents of retired blocks: without a salt their records would fit a new block exactly. */
async function plantUsedSpares(disk: RecordingDisk, unsalted: boolean): Promise<void> {
  await disk.mkdir('spare');
  for (let i = 0; i < 4; i++) {
    const old = superblockOf(1000 + i, 5, '77', SMALL_BLOCK_BYTES);
    const seed = blockSeed(seededAs(old, faultsOf(...(unsalted ? (['unsalted-checksum'] as const) : []))));
    const payloads = Array.from({ length: 20 }, (_, n) => Buffer.alloc(SAME_BYTES, n));
    const batch = batchAt(
      { offset: 4096, slot: 0, acked: 4096, seed, random: new SeededRandom(i) },
      payloads,
    );
    const content = Buffer.alloc(SMALL_BLOCK_BYTES);
    encodeSuperblock(old).copy(content);
    raw(batch).copy(content, 4096);
    disk.plant(`spare/${i}.spare`, content);
  }
}

async function fillUsedSpares(
  store: BlockStore,
  model: Model,
  workload: Parameters<typeof create>[2],
): Promise<void> {
  for (let i = 0; i < 4; i++) {
    await create(store, model, workload);
    const [id, block] = [...model].at(-1)!;
    for (let k = 0; k < 3 && block.created; k++)
      await appendGiven(store, id, block, [Buffer.alloc(SAME_BYTES, 200 + k)]);
    await append(store, id, block, workload.random);
    await fence(store, id, block);
  }
}
