import { assert } from '../common/errors.ts';
import type { BlockId, Epoch, ServerId, Version } from '../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../common/limits.ts';
import { mark } from '../common/marks.ts';
import { tunable } from '../common/tunables.ts';
import { type BlockEntry, BlockFlag, BlockState } from '../common/wire/messages.ts';
import { type BlockFacts, factsOf, isGood, locateIn, type Whereabouts } from './block-facts.ts';
import { BlockPage, idOf, SUSPECT_BIT, Whole } from './block-page.ts';
import { type OlderConfiguration, OlderConfigurations } from './older-configurations.ts';
import {
  generationsBehind,
  hasGoneBack,
  isStale,
  Replica,
  serverOf,
  stateOf,
  withFlags,
  withGeneration,
  withState,
} from './replica-word.ts';
import { TableDigests } from './table-digests.ts';

/** What a report changed, as bits. */
export const Effect = {
  /** A block, replica or state that was not known. */
  CHANGED: 1,
  /** The block as a whole is {@link Whole.UNSEALED}. */
  UNSEALED: 2,
  /** Some replica's operations are older than another's. */
  BEHIND: 4,
  /** The replica could not be noted: the block has too many. */
  OVERFULL: 8,
  /** The replica does not belong to the newest configuration, does not hold it, or not all of it any more. */
  STALE: 16,
  /** The replica has lost an operation that it had: see {@link hasGoneBack}. */
  GONE_BACK: 32,
} as const;

export interface BlockCounts {
  total: number;
  /** OPEN or OPENING. */
  open: number;
  sealed: number;
  awaitingSeal: number;
  suspect: number;
}

/** Numbers of pages: the upper half of a block id. */
export const PAGES = 0x1_0000;

const pageOf = (block: number): number => block >>> 16;
const rowOf = (block: number): number => block & 0xffff;

/**
 * Which DataServers hold which block: everything a NameServer knows about blocks, in columns of numbers. Pure state,
 * fed by reports; it decides nothing. Rebuilt from reports when lost.
 */
export class BlockMap {
  readonly counts: BlockCounts = { total: 0, open: 0, sealed: 0, awaitingSeal: 0, suspect: 0 };
  /** Blocks that are not sealed on all members: few, because only OPEN blocks become them. */
  readonly unsettled = new Set<BlockId>();
  /** Servers whose replicas, where they are not sealed, nobody waits for. */
  readonly #unsealing = new Set<ServerId>();
  /** Blocks with a replica that is suspect or quarantined. */
  readonly suspect = new Set<BlockId>();
  /** Blocks that were compacted, with a replica that was not. */
  readonly outdated = new Set<BlockId>();
  readonly #pages = new Array<BlockPage | undefined>(PAGES).fill(undefined);
  /** Their numbers, lowest first: most of all that there could be never are. Made anew when one comes, never changed. */
  #usedPages: readonly number[] = [];
  readonly #digests = new TableDigests();
  /** Blocks whose replicas are sealed at different lengths, and at which; hardly ever any. */
  readonly #sealedAt = new Map<BlockId, Map<ServerId, number>>();
  /** For each server the replicas that are stale: few, because only blocks with an absent member get a new configuration. */
  readonly #stale = new Map<ServerId, Set<BlockId>>();
  /** For each server the replicas that are behind: few, and most of them for a moment. */
  readonly #behind = new Map<ServerId, Set<BlockId>>();
  readonly #older = new OlderConfigurations();
  /** Servers that are gone for good. */
  readonly #lost = new Set<ServerId>();
  readonly #minWrite: number;

  /** @param minWrite servers that everything acknowledged is on, at least */
  constructor({ minWrite = 1 }: { readonly minWrite?: number } = {}) {
    this.#minWrite = minWrite;
  }

  has(block: BlockId): boolean {
    return this.#pages[pageOf(block)]?.has(rowOf(block)) ?? false;
  }

  /** A new block, before anyone holds it; the primary is `members[0]`. */
  open(
    block: BlockId,
    {
      version,
      members,
      targetReplicas,
    }: { version: Version; members: readonly ServerId[]; targetReplicas: number },
  ): void {
    assert(!this.has(block), `block id ${block} is used once`);
    const page = this.#page(block);
    const row = rowOf(block);
    this.counts.total++;
    this.#configure(page, row, { version, members, opsPrimary: members[0]!, targetReplicas });
    this.#reclassify(page, row, true);
  }

  /** Takes one replica as its DataServer reports it. @returns bits of {@link Effect} */
  report(server: ServerId, entry: BlockEntry): number {
    const { block } = entry;
    if (entry.state === BlockState.DROPPED) return this.#letGo(server, entry);
    const page = this.#page(block);
    const row = rowOf(block);
    const isNew = !page.has(row);
    if (isNew) this.counts.total++;
    const versionOrder = isNew ? 1 : compare(entry.version, page.epoch(row), page.n[row]!);
    // Who cannot read its superblock can only guess how many copies there are to be: it counts while nobody has said.
    const isGuess = (entry.flags & BlockFlag.QUARANTINED) !== 0 && !isNew;
    const targetReplicas = isGuess ? page.target(row) : entry.targetReplicas;
    const superseded = versionOrder > 0 && !isNew ? configurationOf(page, row) : undefined;
    if (versionOrder > 0) this.#configure(page, row, { ...entry, targetReplicas });
    else if (page.target(row) !== targetReplicas) {
      page.setTarget(row, targetReplicas);
      page.touch(row);
    }

    let i = page.indexOf(row, server);
    if (i < 0) i = page.addWord(row, server);
    if (i < 0) return Effect.OVERFULL;
    const before = page.word(row, i);
    let word = withGeneration(withFlags(withState(before, entry.state), entry.flags), entry.generation);
    word &= ~Replica.UNCONFIRMED;
    // Operations are compared within one configuration: across two the numbers say nothing.
    const opsOrder = versionOrder === 0 ? entry.seq - page.seq[row]! : versionOrder;
    if (versionOrder < 0) {
      word |= Replica.STALE;
      this.#older.note(block, server, entry);
    } else {
      word &= ~Replica.STALE;
      this.#older.forget(block, server);
    }
    if (versionOrder === 0 && opsOrder < 0) {
      word |= Replica.BEHIND;
      // Not one that never had what it lacks: by that the others can tell that nobody was told that it is done.
      if (hasGoneBack(before) || hadAll(before)) word |= Replica.STALE;
    } else word &= ~Replica.BEHIND;
    const isLoss = hasGoneBack(word) && !hasGoneBack(before);
    if (isLoss) mark('replica-gone-back');
    if (isOtherwise(page, row, entry, word)) word |= Replica.OUTDATED;
    else word &= ~Replica.OUTDATED;
    this.#setWord(page, row, i, word);
    if (opsOrder > 0) {
      page.seq[row] = entry.seq;
      if (!isNew) this.#flagOthers(page, row, i, superseded);
    }
    this.#measure(page, row, server, entry);
    this.#settleGeneration(page, row);
    const moved = this.#reclassify(page, row, false);
    if (versionOrder < 0 && this.#goBack(page, row)) word = page.word(row, page.indexOf(row, server));
    const changed = moved || ((word ^ before) & ~Replica.UNCONFIRMED) !== 0 || opsOrder > 0;
    if (changed) page.touch(row);
    return (
      (changed ? Effect.CHANGED : 0) |
      this.#unsealed(page, row) |
      (this.#anyBehind(page, row) ? Effect.BEHIND : 0) |
      (isStale(word) ? Effect.STALE : 0) |
      (isLoss ? Effect.GONE_BACK : 0)
    );
  }

  /** A whole report of this server begins: what it does not confirm before {@link endReport} it does not hold. */
  beginReport(server: ServerId): void {
    this.#eachWordOf(server, (page, row, i) => page.setWord(row, i, page.word(row, i) | Replica.UNCONFIRMED));
  }

  /** @returns replicas that the map had and the server does not */
  endReport(server: ServerId): number {
    let missing = 0;
    this.#eachWordOf(server, (page, row, i) => {
      const word = page.word(row, i);
      if ((word & Replica.UNCONFIRMED) === 0) return;
      if (stateOf(word) !== 0) missing++;
      this.#forgetReplica(page, row, i);
    });
    return missing;
  }

  /**
   * The server is gone for good, with all it held; a member of a block stays one that has not reported it.
   *
   * @returns blocks that go on with an older configuration, because the newest one had only begun there
   */
  lose(server: ServerId): BlockId[] {
    this.#lost.add(server);
    const blocks: BlockId[] = [];
    this.#eachWordOf(server, (page, row, i) => {
      blocks.push(idOf(page.number, row));
      this.#forgetReplica(page, row, i);
    });
    return blocks.filter((block) => this.has(block) && this.#goBack(this.#page(block), rowOf(block)));
  }

  /**
   * Whether replicas that the server has not sealed are waited for. Where they are not, a block that others have sealed is
   * as good as sealed; where they are again, they are sealed too.
   *
   * @returns blocks that are another whole than before
   */
  waitForSeals(server: ServerId, isWaitedFor: boolean): number {
    if (isWaitedFor !== this.#unsealing.has(server)) return 0;
    if (isWaitedFor) this.#unsealing.delete(server);
    else this.#unsealing.add(server);
    let changed = 0;
    this.#eachWordOf(server, (page, row, i) => {
      const state = stateOf(page.word(row, i));
      if (state !== 0 && state !== BlockState.SEALED && this.#reclassify(page, row, false)) changed++;
    });
    return changed;
  }

  /** @returns blocks with a replica on `server` and no good copy on a server that is not `away` */
  onlyOn(server: ServerId, away: ReadonlySet<ServerId>): number {
    let count = 0;
    this.#eachWordOf(server, (page, row) => {
      for (let i = 0; i < page.wordCount(row); i++)
        if (!away.has(serverOf(page.word(row, i))) && isGood(page.word(row, i))) return;
      count++;
    });
    return count;
  }

  /** The member has sealed the block at `length`. */
  sealed(block: BlockId, server: ServerId, length: number): void {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    const i = page?.has(row) ? page.indexOf(row, server) : -1;
    if (page === undefined || i < 0) return;
    this.#setWord(page, row, i, withState(page.word(row, i), BlockState.SEALED));
    if (page.generation[row] === 0) {
      this.#noteSealed(page, row, server, length);
      page.length[row] = length;
    }
    this.#reclassify(page, row, false);
    page.touch(row);
  }

  /** The server, asked, does not hold it. */
  absent(block: BlockId, server: ServerId): void {
    this.#drop(server, block);
  }

  /** The replica has every operation up to `seq` of the block's newest version. */
  caughtUp(block: BlockId, server: ServerId, seq: number): void {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    const i = page?.has(row) ? page.indexOf(row, server) : -1;
    if (page === undefined || i < 0 || seq < page.seq[row]!) return;
    const word = page.word(row, i);
    const rest = word & ~Replica.BEHIND;
    this.#setWord(page, row, i, hasGoneBack(word) ? rest & ~Replica.STALE : rest);
    page.touch(row);
  }

  /** `tableDigest` of all that the server is known to hold. */
  digestOf(server: ServerId): number {
    return this.#digests.of(server);
  }

  /** Replicas of this server that may lack what was acknowledged: they do not hold, or do not belong to, the newest configuration. */
  staleOf(server: ServerId): readonly BlockId[] {
    return [...(this.#stale.get(server) ?? [])];
  }

  /**
   * Replicas of this server that lack an operation which another replica holds, in the newest configuration. As a rule it
   * was not acknowledged then. But where the disk has lost it, by being set back, it may have been.
   */
  behindOf(server: ServerId): readonly BlockId[] {
    return [...(this.#behind.get(server) ?? [])];
  }

  /** Servers that have a replica that is stale. */
  get staleServers(): readonly ServerId[] {
    return [...this.#stale.keys()];
  }

  /** The server is about to be left out of the block's configuration: from now on its replica counts as stale. */
  doubt(block: BlockId, server: ServerId): void {
    this.#flag(block, server, Replica.DOUBTED);
  }

  /** It was not left out after all. */
  trust(block: BlockId, server: ServerId): void {
    this.#flag(block, server, 0, Replica.DOUBTED);
  }

  /** A configuration that is durable on all of its members. */
  configured(
    block: BlockId,
    configuration: {
      readonly version: Version;
      readonly members: readonly ServerId[];
      readonly opsPrimary: ServerId;
      readonly seq: number;
    },
  ): void {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    if (page === undefined || !page.has(row)) return;
    const { version, members, seq } = configuration;
    const superseded = configurationOf(page, row);
    if (compare(version, page.epoch(row), page.n[row]!) > 0) {
      this.#configure(page, row, { ...configuration, targetReplicas: page.target(row) });
      // Also where that is less: numbers of another configuration say nothing about this one.
      page.seq[row] = seq;
    }
    if (compare(version, page.epoch(row), page.n[row]!) !== 0) return;
    if (seq > page.seq[row]!) page.seq[row] = seq;
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i) & ~(Replica.STALE | Replica.BEHIND | Replica.DOUBTED);
      const isMember = members.includes(serverOf(word));
      if (isMember) this.#older.forget(block, serverOf(word));
      else this.#noteOlder(page, row, i, superseded);
      this.#setWord(page, row, i, isMember || stateOf(word) === 0 ? word : word | Replica.STALE);
    }
    this.#reclassify(page, row, false);
    page.touch(row);
  }

  #flag(block: BlockId, server: ServerId, set: number, clear = 0): void {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    const i = page?.has(row) ? page.indexOf(row, server) : -1;
    if (page !== undefined && i >= 0) this.#setWord(page, row, i, (page.word(row, i) & ~clear) | set);
  }

  /** No member knows it. */
  forget(block: BlockId): void {
    const page = this.#pages[pageOf(block)];
    if (page?.has(rowOf(block))) this.#remove(page, rowOf(block));
  }

  /** @returns undefined for an unknown block */
  facts(block: BlockId): BlockFacts | undefined {
    const page = this.#pages[pageOf(block)];
    return page?.has(rowOf(block))
      ? factsOf(page, rowOf(block), this.#sealedAt.get(block), this.#lost)
      : undefined;
  }

  /** Where to look for the block, best first. @returns undefined for an unknown block */
  locate(block: BlockId): Whereabouts | undefined {
    const page = this.#pages[pageOf(block)];
    return page?.has(rowOf(block)) ? locateIn(page, rowOf(block)) : undefined;
  }

  /** @returns undefined when no id of that page was ever used */
  page(number: number): BlockPage | undefined {
    return this.#pages[number];
  }

  /** @returns the number of the first page in use from there on; {@link PAGES} where there is none */
  nextPage(from: number): number {
    const used = this.#usedPages;
    let [low, high] = [0, used.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (used[middle]! < from) low = middle + 1;
      else high = middle;
    }
    return used[low] ?? PAGES;
  }

  /** Pages in use, lowest first. */
  *pages(): Generator<BlockPage> {
    for (const number of this.#usedPages) yield this.#pages[number]!;
  }

  /** The columns of a page that is to be filled from a checkpoint; end with {@link loaded}. */
  pageForLoad(number: number): BlockPage {
    return this.#page(idOf(number, 0));
  }

  /** Counts rows that were written into the columns of a page directly, and marks their replicas unconfirmed. */
  loaded(page: BlockPage, fromRow: number, toRow: number): void {
    for (let row = fromRow; row < Math.min(toRow, page.rows); row++) {
      if (!page.has(row)) continue;
      page.countInline(row);
      for (let i = 0; i < page.wordCount(row); i++)
        this.#setWord(page, row, i, (page.word(row, i) | Replica.UNCONFIRMED) & ~Replica.DOUBTED);
      const wasOpening = (page.state[row]! & ~SUSPECT_BIT) === Whole.OPENING;
      page.state[row] = 0;
      this.counts.total++;
      this.#reclassify(page, row, wasOpening);
    }
  }

  /** Of all columns. */
  get bytes(): number {
    let bytes = 0;
    for (const page of this.pages()) bytes += page.bytes;
    return bytes;
  }

  #page(block: BlockId): BlockPage {
    const number = pageOf(block);
    let page = this.#pages[number];
    if (page === undefined) {
      page = new BlockPage(number, this.#digests);
      this.#pages[number] = page;
      this.#usedPages = [...this.#usedPages, number].sort((a, b) => a - b);
    }
    page.reserve(rowOf(block));
    return page;
  }

  #configure(
    page: BlockPage,
    row: number,
    {
      version,
      members,
      opsPrimary,
      targetReplicas,
    }: {
      readonly version: Version;
      readonly members: readonly ServerId[];
      readonly opsPrimary: number;
      readonly targetReplicas: number;
    },
  ): void {
    page.setEpoch(row, version.epoch);
    page.n[row] = version.n;
    page.setTarget(row, targetReplicas);
    for (let i = page.wordCount(row) - 1; i >= 0; i--) {
      const word = page.word(row, i) & ~(Replica.MEMBER | Replica.PRIMARY);
      if (stateOf(word) === 0) page.removeWord(row, i);
      else this.#setWord(page, row, i, word);
    }
    for (const member of members) {
      let i = page.indexOf(row, member);
      if (i < 0) i = page.addWord(row, member);
      assert(i >= 0, 'a block has room for its members');
      const role = member === opsPrimary ? Replica.MEMBER | Replica.PRIMARY : Replica.MEMBER;
      this.#setWord(page, row, i, page.word(row, i) | role);
    }
    page.touch(row);
  }

  #measure(page: BlockPage, row: number, server: ServerId, entry: BlockEntry): void {
    const { length, generation } = entry;
    const isNewer = generation > page.generation[row]!;
    if (isNewer) {
      page.generation[row] = generation;
      page.length[row] = length;
      this.#sealedAt.delete(entry.block);
    } else if (generation < page.generation[row]!) return;
    const isFinal = entry.state === BlockState.SEALED && (entry.flags & BlockFlag.QUARANTINED) === 0;
    if (generation > 0) {
      // No seal decides any more: what the members have counts.
      const i = page.indexOf(row, server);
      if (isFinal && i >= 0 && (page.word(row, i) & Replica.OUTDATED) === 0) {
        page.length[row] = length;
        page.dead[row] = deadUnits(entry);
      }
      return;
    }
    if (isFinal) this.#noteSealed(page, row, server, length);
    else this.#forgetLength(page, row, server);
    // Once there is a seal, what a replica has beyond it says nothing.
    const isLonger = length > page.length[row]! && !this.#isSealedBut(page, row, server);
    if (isFinal || isLonger) page.length[row] = length;
    page.dead[row] = deadUnits(entry);
  }

  /**
   * Replicas of a generation before the newest are outdated; where nobody is left that has the newest, the one before it
   * is.
   */
  #settleGeneration(page: BlockPage, row: number): void {
    const newest = page.generation[row]!;
    if (newest === 0) return;
    let least = newest;
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      if (stateOf(word) !== 0) least = Math.min(least, generationsBehind(word, newest));
    }
    page.generation[row] = newest - least;
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      const isBehind = stateOf(word) !== 0 && generationsBehind(word, newest) > least;
      if (isBehind) page.setWord(row, i, word | Replica.OUTDATED);
      else if (least > 0) page.setWord(row, i, word & ~Replica.OUTDATED);
    }
  }

  /** Two leaders may have sealed a block at two lengths: such a block waits for its seal once more. */
  #noteSealed(page: BlockPage, row: number, server: ServerId, length: number): void {
    const block = idOf(page.number, row);
    const before = page.length[row]!;
    let lengths = this.#sealedAt.get(block);
    if (lengths === undefined) {
      if (length === before || !this.#isSealedBut(page, row, server)) return;
      lengths = new Map();
      for (let i = 0; i < page.wordCount(row); i++)
        if (isSealed(page.word(row, i))) lengths.set(serverOf(page.word(row, i)), before);
      this.#sealedAt.set(block, lengths);
    }
    lengths.set(server, length);
    if (new Set(lengths.values()).size === 1) this.#sealedAt.delete(block);
  }

  #isSealedBut(page: BlockPage, row: number, server: ServerId): boolean {
    for (let i = 0; i < page.wordCount(row); i++)
      if (isSealed(page.word(row, i)) && serverOf(page.word(row, i)) !== server) return true;
    return false;
  }

  /** @param superseded the configuration that was the newest one until now; undefined where it still is */
  #flagOthers(
    page: BlockPage,
    row: number,
    newest: number,
    superseded: OlderConfiguration | undefined,
  ): void {
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      if (i === newest || stateOf(word) === 0) continue;
      if (superseded !== undefined) this.#noteOlder(page, row, i, superseded);
      // One that holds an older configuration is not behind in this one.
      if (superseded !== undefined) this.#setWord(page, row, i, (word & ~Replica.BEHIND) | Replica.STALE);
      else if ((word & Replica.STALE) === 0) this.#setWord(page, row, i, word | Replica.BEHIND);
    }
  }

  /** The replica becomes stale, if it is not yet: what it holds is what was the newest until now. */
  #noteOlder(page: BlockPage, row: number, i: number, superseded: OlderConfiguration): void {
    const word = page.word(row, i);
    if (stateOf(word) === 0 || ((word & Replica.STALE) !== 0 && !hasGoneBack(word))) return;
    const seq = word & Replica.BEHIND ? 0 : superseded.seq;
    this.#older.note(idOf(page.number, row), serverOf(word), { ...superseded, seq });
  }

  /** Where nobody holds the newest configuration any more, and it never was in force, another one is the newest. */
  #goBack(page: BlockPage, row: number): boolean {
    const newest = this.#older.toGoBackTo(page, row, { lost: this.#lost, minWrite: this.#minWrite });
    if (newest === undefined || compare(newest.version, page.epoch(row), page.n[row]!) >= 0) return false;
    mark('configuration-gone-back');
    const older = new Map(this.#older.of(idOf(page.number, row)));
    this.#configure(page, row, { ...newest, targetReplicas: page.target(row) });
    page.seq[row] = newest.seq;
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      const its = older.get(serverOf(word));
      if (its === undefined || compare(its.version, page.epoch(row), page.n[row]!) !== 0) continue;
      this.#older.forget(idOf(page.number, row), serverOf(word));
      const rest = word & ~(Replica.STALE | Replica.BEHIND);
      this.#setWord(page, row, i, its.seq < newest.seq ? rest | Replica.BEHIND : rest);
    }
    return true;
  }

  /** Every change of a word that may change whether it is stale, or behind. */
  #setWord(page: BlockPage, row: number, i: number, word: number): void {
    page.setWord(row, i, word);
    const [server, block] = [serverOf(word), idOf(page.number, row)];
    note(this.#stale, server, block, isStale(word));
    note(this.#behind, server, block, (word & Replica.BEHIND) !== 0);
  }

  /** The word is about to go. */
  #forgetLags(page: BlockPage, row: number, word: number): void {
    const [server, block] = [serverOf(word), idOf(page.number, row)];
    note(this.#stale, server, block, false);
    note(this.#behind, server, block, false);
  }

  #unsealed(page: BlockPage, row: number): number {
    return (page.state[row]! & ~SUSPECT_BIT) === Whole.UNSEALED ? Effect.UNSEALED : 0;
  }

  #anyBehind(page: BlockPage, row: number): boolean {
    for (let i = 0; i < page.wordCount(row); i++) if (page.word(row, i) & Replica.BEHIND) return true;
    return false;
  }

  /** Brings the state of the whole, the counts and the unsettled set up to date. @returns whether the state moved */
  #reclassify(page: BlockPage, row: number, isOpening: boolean): boolean {
    const before = page.state[row]!;
    let reported = 0;
    let waitedFor = 0;
    let suspect = 0;
    let outdated = 0;
    for (let i = 0; i < page.wordCount(row); i++) {
      const word = page.word(row, i);
      outdated |= word & Replica.OUTDATED;
      if (word & (Replica.SUSPECT | Replica.QUARANTINED)) suspect = SUSPECT_BIT;
      // Members or not: whatever was not sealed yet has to be. But one that cannot be read never can.
      if ((word & Replica.QUARANTINED) !== 0) continue;
      reported |= 1 << stateOf(word);
      if (stateOf(word) === BlockState.SEALED || !this.#unsealing.has(serverOf(word)))
        waitedFor |= 1 << stateOf(word);
    }
    if ((waitedFor & ~1) === 1 << BlockState.SEALED) reported = waitedFor;
    const stillOpening = isOpening || (before & ~SUSPECT_BIT) === Whole.OPENING;
    const block = idOf(page.number, row);
    if (outdated !== 0) this.outdated.add(block);
    else this.outdated.delete(block);
    const whole = this.#sealedAt.has(block) ? Whole.UNSEALED : wholeOf(reported & ~1, stillOpening);
    const after = whole | suspect;
    if (after === before) return false;
    this.#count(before, -1);
    this.#count(after, 1);
    page.state[row] = after;
    if (whole === Whole.SEALED) this.unsettled.delete(block);
    else this.unsettled.add(block);
    if (suspect !== 0) this.suspect.add(block);
    else this.suspect.delete(block);
    page.touch(row);
    return true;
  }

  #count(state: number, by: 1 | -1): void {
    const whole = state & ~SUSPECT_BIT;
    if (state & SUSPECT_BIT) this.counts.suspect += by;
    if (whole === Whole.SEALED) this.counts.sealed += by;
    else if (whole === Whole.UNSEALED) this.counts.awaitingSeal += by;
    else if (whole !== 0) this.counts.open += by;
  }

  /**
   * The server says that it has dropped its replica. Of a block that never held anything the last one to go takes it along,
   * as with the leader that ordered it: to whoever leads next nobody could say what became of the others. The server says
   * whether it is one, as nobody else may have heard that it was sealed before it went.
   */
  #letGo(server: ServerId, { block, flags }: BlockEntry): number {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    if (page === undefined || !page.has(row)) return 0;
    const heldNothing = (flags & BlockFlag.RETIRED) !== 0 || this.#holdsNothing(page, row, server);
    const effect = this.#drop(server, block);
    if (!heldNothing || !page.has(row)) return effect;
    for (let other = 0; other < page.wordCount(row); other++)
      if (stateOf(page.word(row, other)) !== 0) return effect;
    this.#remove(page, row);
    return Effect.CHANGED;
  }

  #holdsNothing(page: BlockPage, row: number, server: ServerId): boolean {
    const i = page.indexOf(row, server);
    return (
      i >= 0 &&
      stateOf(page.word(row, i)) === BlockState.SEALED &&
      page.length[row] === SUPERBLOCK_BYTES &&
      page.generation[row] === 0 &&
      !this.#sealedAt.has(idOf(page.number, row))
    );
  }

  #drop(server: ServerId, block: BlockId): number {
    const page = this.#pages[pageOf(block)];
    const row = rowOf(block);
    const i = page?.has(row) ? page.indexOf(row, server) : -1;
    if (page === undefined || i < 0) return 0;
    this.#forgetReplica(page, row, i);
    return Effect.CHANGED | this.#unsealed(page, row);
  }

  /** A member stays, as one that has not reported the block; anything else goes. */
  #forgetReplica(page: BlockPage, row: number, i: number): void {
    const word = page.word(row, i);
    this.#forgetLags(page, row, word);
    this.#forgetLength(page, row, serverOf(word));
    this.#older.forget(idOf(page.number, row), serverOf(word));
    if (word & Replica.MEMBER) page.setWord(row, i, word & (0xffff | Replica.MEMBER | Replica.PRIMARY));
    else page.removeWord(row, i);
    page.touch(row);
    this.#settleGeneration(page, row);
    if (page.wordCount(row) === 0) this.#remove(page, row);
    else this.#reclassify(page, row, false);
  }

  #forgetLength(page: BlockPage, row: number, server: ServerId): void {
    const block = idOf(page.number, row);
    const lengths = this.#sealedAt.get(block);
    if (lengths === undefined) return;
    lengths.delete(server);
    const [length, ...others] = new Set(lengths.values());
    if (others.length > 0) return;
    this.#sealedAt.delete(block);
    if (length !== undefined) page.length[row] = length;
  }

  #remove(page: BlockPage, row: number): void {
    this.#sealedAt.delete(idOf(page.number, row));
    this.#older.forgetBlock(idOf(page.number, row));
    for (let i = 0; i < page.wordCount(row); i++) this.#forgetLags(page, row, page.word(row, i));
    this.#count(page.state[row]!, -1);
    this.counts.total--;
    this.unsettled.delete(idOf(page.number, row));
    this.suspect.delete(idOf(page.number, row));
    this.outdated.delete(idOf(page.number, row));
    page.clear(row);
    page.touch(row);
  }

  #eachWordOf(server: ServerId, visit: (page: BlockPage, row: number, i: number) => void): void {
    for (const page of this.pages()) page.eachWordOf(server, (row, i) => visit(page, row, i));
  }
}

function note(blocks: Map<ServerId, Set<BlockId>>, server: ServerId, block: BlockId, isOne: boolean): void {
  const known = blocks.get(server);
  if (isOne) {
    if (known === undefined) blocks.set(server, new Set([block]));
    else known.add(block);
  } else if (known?.delete(block) && known.size === 0) blocks.delete(server);
}

/** As far as it was reported, the replica had every operation of the newest configuration that any had. */
const hadAll = (word: number): boolean =>
  stateOf(word) !== 0 && (word & (Replica.STALE | Replica.BEHIND)) === 0;

/** And can be read. */
const isSealed = (word: number): boolean =>
  stateOf(word) === BlockState.SEALED && (word & Replica.QUARANTINED) === 0;

const deadUnits = ({ deadBytes }: BlockEntry): number =>
  Math.min(0xffff, Math.floor(deadBytes / tunable.deadUnitBytes));

/**
 * No member of the block, of the newest generation, and of another length: it was made under an earlier leader, of whom
 * the members did not know.
 */
function isOtherwise(
  page: BlockPage,
  row: number,
  { generation, length }: BlockEntry,
  word: number,
): boolean {
  if (generation !== page.generation[row]!) return false;
  const isMember = (word & Replica.MEMBER) !== 0;
  return generation > 0 && !isMember && page.length[row] !== 0 && length !== page.length[row]!;
}

/** @param reported a bit for each state that some replica was reported in */
function wholeOf(reported: number, isOpening: boolean): Whole {
  if (reported === 0) return isOpening ? Whole.OPENING : Whole.UNSEALED;
  if (reported === 1 << BlockState.OPEN) return Whole.OPEN;
  if (reported === 1 << BlockState.SEALED) return Whole.SEALED;
  return Whole.UNSEALED;
}

/** The newest one that was reported. */
function configurationOf(page: BlockPage, row: number): OlderConfiguration {
  const members: ServerId[] = [];
  let opsPrimary = 0;
  for (let i = 0; i < page.wordCount(row); i++) {
    const word = page.word(row, i);
    if (word & Replica.MEMBER) members.push(serverOf(word));
    if (word & Replica.PRIMARY) opsPrimary = serverOf(word);
  }
  const version = { epoch: page.epoch(row) as Epoch, n: page.n[row]! };
  return { version, members, opsPrimary, seq: page.seq[row]! };
}

const compare = (version: Version, epoch: number, n: number): number =>
  version.epoch - epoch || version.n - n;
