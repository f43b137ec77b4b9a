import type { BlockId, Epoch, ServerId, Version } from '../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../common/limits.ts';
import { tunable } from '../common/tunables.ts';
import type { BlockState } from '../common/wire/messages.ts';
import { type BlockPage, INLINE_REPLICAS, idOf, SUSPECT_BIT, Whole } from './block-page.ts';
import { hasGoneBack, isStale, Replica, serverOf, stateOf } from './replica-word.ts';

export interface ReplicaFacts {
  readonly server: ServerId;
  /** 0 when the member has not reported it. */
  readonly state: BlockState | 0;
  readonly member: boolean;
  readonly behind: boolean;
  readonly confirmed: boolean;
  /** May lack operations that were acknowledged: it holds an older configuration than another replica, or has gone back. */
  readonly stale: boolean;
  /** Stale although it holds the newest configuration: it once had an operation of it that it has not any more. */
  readonly goneBack: boolean;
  /** Its server is gone for good. */
  readonly lost: boolean;
  /** The block was compacted, and this replica not with it: it still has every name that lives. */
  readonly outdated: boolean;
  /** Neither suspect nor quarantined. */
  readonly good: boolean;
  /** Not quarantined: its superblock and its ops log can be read. */
  readonly readable: boolean;
  /** Where replicas are sealed at different lengths: at which this one is. */
  readonly sealedAt: number | undefined;
}

export interface BlockFacts {
  readonly block: BlockId;
  readonly whole: Whole;
  readonly generation: number;
  readonly length: number;
  readonly seq: number;
  readonly version: Version;
  /** Undefined while no configuration is known. */
  readonly opsPrimary: ServerId | undefined;
  readonly targetReplicas: number;
  readonly deadBytes: number;
  readonly replicas: readonly ReplicaFacts[];
}

/** It never held an acknowledged name: it was sealed without one record. As {@link BlockPage.isEmpty}. */
export const isEmpty = ({ whole, generation, length }: BlockFacts): boolean =>
  whole === Whole.SEALED && generation === 0 && length === SUPERBLOCK_BYTES;

export function factsOf(
  page: BlockPage,
  row: number,
  sealedAt?: ReadonlyMap<ServerId, number>,
  lost?: ReadonlySet<ServerId>,
): BlockFacts {
  const replicas: ReplicaFacts[] = [];
  let opsPrimary: ServerId | undefined;
  for (let i = 0; i < page.wordCount(row); i++) {
    const word = page.word(row, i);
    if (word & Replica.PRIMARY) opsPrimary = serverOf(word);
    replicas.push({
      server: serverOf(word),
      state: stateOf(word),
      member: (word & Replica.MEMBER) !== 0,
      behind: (word & Replica.BEHIND) !== 0,
      confirmed: (word & Replica.UNCONFIRMED) === 0,
      stale: (word & Replica.STALE) !== 0,
      goneBack: hasGoneBack(word),
      lost: lost?.has(serverOf(word)) ?? false,
      outdated: (word & Replica.OUTDATED) !== 0,
      good: (word & (Replica.SUSPECT | Replica.QUARANTINED)) === 0,
      readable: (word & Replica.QUARANTINED) === 0,
      sealedAt: sealedAt?.get(serverOf(word)),
    });
  }
  return {
    block: idOf(page.number, row),
    whole: (page.state[row]! & ~SUSPECT_BIT) as Whole,
    generation: page.generation[row]!,
    length: page.length[row]!,
    seq: page.seq[row]!,
    version: { epoch: page.epoch(row) as Epoch, n: page.n[row]! },
    opsPrimary,
    targetReplicas: page.target(row),
    deadBytes: page.dead[row]! * tunable.deadUnitBytes,
    replicas,
  };
}

export interface Whereabouts {
  /** Sequencer of the block's operations; 0 when not known. */
  readonly opsPrimary: number;
  /** The operations' primary, other good replicas, suspect ones, members that have not reported it. */
  readonly members: ServerId[];
}

const RANKS = 4;

function rankOf(word: number): number {
  if (stateOf(word) === 0) return 3;
  if (word & (Replica.SUSPECT | Replica.QUARANTINED)) return 2;
  return word & Replica.PRIMARY ? 0 : 1;
}

export function locateIn(page: BlockPage, row: number): Whereabouts {
  const count = page.wordCount(row);
  const members: ServerId[] = [];
  let opsPrimary = 0;
  for (let rank = 0; rank < RANKS && members.length < count; rank++) {
    for (let i = 0; i < count; i++) {
      const word = page.word(row, i);
      if (word & Replica.PRIMARY) opsPrimary = serverOf(word);
      if (rankOf(word) === rank) members.push(serverOf(word));
    }
  }
  return { opsPrimary, members };
}

/** What {@link countCopies} adds up, over blocks that were ever reported and were not sealed without a record. */
export interface CopyCounts {
  /** Blocks by the number of their good copies on servers that are there; the last one counts more copies too. */
  readonly byCopies: number[];
  /** Blocks with fewer of them than wanted. */
  short: number;
  /** Members of a configuration without a good copy that can be had now. */
  absent: number;
  /** Replicas on servers that are there and that lack, or may lack, operations that were acknowledged. */
  stale: number;
  /** Replicas, wherever they are, whose superblock or operations cannot be read. */
  quarantined: number;
}

/** @param copiesMax of this many copies and more is not told apart */
export const noCopies = (copiesMax: number): CopyCounts => ({
  byCopies: new Array<number>(copiesMax + 1).fill(0),
  short: 0,
  absent: 0,
  stale: 0,
  quarantined: 0,
});

/** Of a replica word, as bits. */
const Kind = { GOOD: 1, MEMBER: 2, STALE: 4, QUARANTINED: 8 } as const;

/** Whether the replica has everything that was acknowledged, as far as is known. */
export const isGood = (word: number): boolean => (KINDS[word >>> 16]! & Kind.GOOD) !== 0;

/** By the upper half of the word, which is all of it but the server. */
const KINDS = Uint8Array.from({ length: 0x1_0000 }, (_, upper) => kindOf(upper << 16));

function kindOf(word: number): number {
  const lags = isStale(word);
  const isGood =
    stateOf(word) !== 0 &&
    !lags &&
    (word & (Replica.SUSPECT | Replica.QUARANTINED | Replica.UNCONFIRMED)) === 0;
  return (
    (isGood ? Kind.GOOD : 0) |
    (word & Replica.MEMBER ? Kind.MEMBER : 0) |
    (lags ? Kind.STALE : 0) |
    (word & Replica.QUARANTINED ? Kind.QUARANTINED : 0)
  );
}

/**
 * Adds the blocks of a page to the counts. Over the bare columns and with a table: this is done for every block of the
 * cluster, again and again.
 *
 * @param isAway by server id: 1 for a server that does not answer now, or has not reported all it holds
 */
export function countCopies(page: BlockPage, isAway: Uint8Array, counts: CopyCounts): void {
  const { words, shape, state, rows } = page;
  const { byCopies } = counts;
  const last = byCopies.length - 1;
  const opening: number = Whole.OPENING;
  const inline = INLINE_REPLICAS;
  const kinds = KINDS;
  let [short, absent, stale, quarantined] = [0, 0, 0, 0];
  for (let row = 0; row < rows; row++) {
    const count = shape[row]! & 15;
    if (count === 0 || (state[row]! & ~SUSPECT_BIT) === opening) continue;
    // What holds nothing lacks nothing; it is about to be retired, replica by replica.
    if (page.isEmpty(row)) continue;
    let good = 0;
    for (let i = 0; i < count; i++) {
      const word = i < inline ? words[row * inline + i]! : page.word(row, i);
      const kind = kinds[word >>> 16]!;
      const isThere = isAway[word & 0xffff] === 0;
      if (isThere && (kind & Kind.GOOD) !== 0) good++;
      else if ((kind & Kind.MEMBER) !== 0) absent++;
      if (isThere && (kind & Kind.STALE) !== 0) stale++;
      if ((kind & Kind.QUARANTINED) !== 0) quarantined++;
    }
    byCopies[good < last ? good : last]!++;
    if (good < shape[row]! >>> 4) short++;
  }
  counts.short += short;
  counts.absent += absent;
  counts.stale += stale;
  counts.quarantined += quarantined;
}
