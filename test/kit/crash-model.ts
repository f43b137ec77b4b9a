import type { Op } from '../../common/format/ops.ts';
import type { Superblock } from '../../common/format/superblock.ts';
import type { BlockId } from '../../common/ids.ts';
import type {
  GenerationOrder,
  PreparedGeneration,
  SealInfo,
  SealOrder,
} from '../../dataserver/block/store.ts';
import type { Writer, Written } from './block-world.ts';
import type { CrashPath } from './crash-path.ts';

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
  /** It was let go of: it must not be there any more. */
  gone: boolean;
  /** It is being made of what others have: its files may be there before its log is. */
  receiving: boolean;
  generation: number;
  /** The file of that generation; undefined for the one it was written to. */
  made: PreparedGeneration | undefined;
  /** The next generation, while it is not confirmed that it is in place. */
  committing: GenerationOrder | undefined;
}

/** Of a block that nobody has asked for anything but to make it. */
export const NEW_BLOCK = {
  created: false,
  given: [],
  acked: 0,
  opsAcked: 1,
  fencedAt: undefined,
  sealing: undefined,
  sealed: undefined,
  damaged: false,
  gone: false,
  receiving: false,
  generation: 0,
  made: undefined,
  committing: undefined,
} as const;

export type Model = Map<BlockId, ModelBlock>;

export const snapshotOf = (model: Model): Model =>
  new Map(Array.from(model, ([id, block]) => [id, { ...block }]));

/** Equal for models of one run that a check could not tell apart. */
export const keyOf = (model: Model): string => {
  let key = '';
  for (const [id, block] of model) key += `${id} ${blockKeyOf(block)};`;
  return key;
};

export function blockKeyOf(block: ModelBlock): string {
  const { given, opsGiven, sealing, sealed, committing, made } = block;
  const bits = `${+block.created}${+block.gone}${+block.receiving}${+block.damaged}`;
  const records = `${given.length}.${given.at(-1)?.cookie}.${block.acked}.${block.fencedAt}`;
  const ops = `${opsGiven.length}.${opsGiven.at(-1)?.opId.toString('latin1')}.${block.opsAcked}`;
  const seals = `${sealing?.length}.${sealed?.length}.${block.generation}.${made?.length}.${committing?.length}`;
  return `${bits} ${records} ${ops} ${seals}`;
}

export const endOf = (block: ModelBlock, records: number): number =>
  records === 0 ? 4096 : block.given[records - 1]!.end;

/** Something a promise of the store forbids. */
export class Violation extends Error {
  override readonly name = 'Violation';
  /** The crash that showed it, where one did. */
  readonly path: CrashPath | undefined;

  constructor(message: string, path?: CrashPath) {
    super(message);
    this.path = path;
  }
}

/** @throws Violation */
export function demand(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Violation(what);
}

export async function outcome<T>(work: () => T | Promise<T>): Promise<{ value: T } | { error: unknown }> {
  try {
    return { value: await work() };
  } catch (error) {
    if (error instanceof Violation) throw error;
    return { error };
  }
}
