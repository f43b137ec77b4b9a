import { isTfsError } from '../common/errors.ts';
import {
  ALIAS_BIT,
  compareVersions,
  cookieOf,
  type FileId,
  fileId,
  isAlias,
  type ServerId,
} from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import type { Random } from '../common/seams/random.ts';
import { tunable } from '../common/tunables.ts';
import { isPrivate, NameFlag, type PutReply } from '../common/wire/messages.ts';
import type { BlockStore, Faults, ReadResult } from './block/store.ts';
import type { DigestIndex, Place } from './digest-index.ts';
import type { OpsSequencer } from './ops-sequencer.ts';
import type { NewRecord } from './session.ts';

export interface DedupDeps {
  readonly server: ServerId;
  readonly store: BlockStore;
  readonly index: DigestIndex;
  readonly ops: OpsSequencer;
  readonly random: Random;
  readonly faults?: Faults | undefined;
}

/**
 * Finds out whether a picture is stored already. A hit counts only on a record that is known to be durable on every
 * member of its write set and whose name lives; whatever else is found, the picture is stored afresh. That, and
 * comparing every byte, is what makes an answer from here as good as one after a write.
 */
export class Deduplicator {
  readonly #deps: DedupDeps;

  constructor(deps: DedupDeps) {
    this.#deps = deps;
  }

  /** @returns what to answer without storing a payload, or undefined */
  async find(record: NewRecord, noDedup: boolean): Promise<PutReply | undefined> {
    const hit = await this.#deps.index.lookup(record.sha1, record.opId);
    if (hit.byOp !== undefined) {
      const replay = await this.#replay(record, hit.byOp);
      if (replay !== undefined) return replay;
    }
    if (hit.byContent === undefined) return undefined;
    // After the index was rebuilt it knows contents alone: the record still tells whose first try it was.
    const replay = await this.#replay(record, hit.byContent);
    if (replay !== undefined) return replay;
    if (!noDedup) return this.#alias(record, hit.byContent);
    const found = await this.#read(hit.byContent, 0);
    if (found !== undefined) this.#keepWay(found, hit.byContent);
    return undefined;
  }

  /** The content will lead to the record that is stored next: keep the way from this one's opId to it. */
  #keepWay(found: ReadResult, place: Place): void {
    this.#deps.index.addOp(Buffer.from(found.header.opId), place);
  }

  /** The same request again gets the same name. */
  async #replay(record: NewRecord, place: Place): Promise<PutReply | undefined> {
    if (isAlias(place.fileId)) return this.#replayAlias(record, place);
    const found = await this.#read(place, 0);
    if (found === undefined || !found.header.opId.equals(record.opId)) return undefined;
    if (!found.proven && !this.#deps.faults?.has('replay-unproven')) return undefined;
    if (!sameContent(found, record)) return undefined;
    mark('put-replayed');
    return this.#reply(place, found.header.cookie, found.header.mtimeMs, {
      deduplicated: false,
      replayed: true,
    });
  }

  async #replayAlias(record: NewRecord, place: Place): Promise<PutReply | undefined> {
    const { store, ops } = this.#deps;
    const version = store.info(place.block)?.version;
    const state = await this.#opsState(place);
    const at = state?.aliases?.find(place.fileId) ?? -1;
    if (state?.aliases === undefined || at < 0) return undefined;
    if (!state.recentOps?.has(record.opId.toString('hex'))) return undefined;
    const cookie = state.aliases.cookieAt(at);
    const found = await this.#read(place, 0, cookie);
    if (found === undefined || !found.proven || !sameContent(found, record)) return undefined;
    // Its log is pushed to every member before this is answered: the first try may have died half way.
    const confirmed = await ops.confirm(place.block);
    // It need not be part of a configuration that has begun meanwhile: then the bytes get another name.
    if (version === undefined || compareVersions(version, confirmed) !== 0) return undefined;
    mark('alias-replayed');
    return this.#reply(place, cookie, found.header.mtimeMs, { deduplicated: true, replayed: true });
  }

  /** A name of its own for bytes that are there: an ALIAS op in the target's block, nothing else. */
  async #alias(record: NewRecord, place: Place): Promise<PutReply | undefined> {
    const { store, server, index, ops, random } = this.#deps;
    const info = store.info(place.block);
    if (info === undefined || isAlias(place.fileId)) {
      await index.drop(record.sha1);
      return undefined;
    }
    // Only the sequencer of a block may add to its log; elsewhere the bytes are stored a second time.
    // Nor is anybody kept waiting for a member that is away: an upload has other blocks to go to.
    if (info.opsPrimary !== server || !ops.isReady(info.members)) {
      mark('dedup-not-sequencer');
      return undefined;
    }
    const found = await this.#read(place, record.size);
    if (found === undefined) {
      await index.drop(record.sha1);
      return undefined;
    }
    if (!found.proven) mark('dedup-not-durable');
    // Two pictures with one SHA-1 exist; each keeps its own bytes.
    const isTarget =
      (found.proven || this.#deps.faults?.has('dedup-unproven')) &&
      found.nameFlags === 0 &&
      sameContent(found, record) &&
      found.payload.equals(record.payload);
    if (!isTarget) {
      this.#keepWay(found, place);
      return undefined;
    }
    const state = await this.#opsState(place);
    if (state === undefined) return undefined;
    if ((state.aliases?.count ?? 0) >= tunable.aliasesPerBlockMax) {
      mark('dedup-aliases-full');
      return undefined;
    }
    const { aliases } = state;
    const aliasId = this.#freeAliasId((id) => aliases !== undefined && aliases.find(id) >= 0);
    const alias = { aliasId, cookie: cookieOf(random.u32() & 0x7fff_ffff), target: found.slot };
    const logged = await this.#order(record, place, alias);
    if (logged === undefined) return undefined;
    if (logged !== aliasId) return this.#earlierAlias(record, { block: place.block, fileId: logged });
    index.addOp(record.opId, { block: place.block, fileId: aliasId });
    const isBroken = this.#deps.faults?.has('alias-is-next-slot');
    const given = isBroken ? fileId(store.info(place.block)!.slots) : aliasId;
    return this.#reply({ block: place.block, fileId: given }, alias.cookie, found.header.mtimeMs, {
      deduplicated: true,
      replayed: false,
    });
  }

  /** @returns the id that is in the log; undefined where the record's bytes are about to go */
  async #order(
    { sha1, opId }: NewRecord,
    { block }: Place,
    alias: Omit<Parameters<OpsSequencer['alias']>[1], 'opId'>,
  ): Promise<FileId | undefined> {
    try {
      return await this.#deps.ops.alias(block, { ...alias, opId });
    } catch (error) {
      if (!isTfsError(error, 'GONE')) throw error;
      await this.#deps.index.drop(sha1);
      return undefined;
    }
  }

  /** An earlier try of the same request is in the log, and not in the index because nobody answered it. */
  async #earlierAlias(record: NewRecord, place: Place): Promise<PutReply | undefined> {
    const replayed = await this.#replayAlias(record, place);
    if (replayed !== undefined) this.#deps.index.addOp(record.opId, place);
    return replayed;
  }

  #freeAliasId(taken: (id: FileId) => boolean): FileId {
    for (;;) {
      const id = fileId((ALIAS_BIT | (this.#deps.random.u32() & 0x7fff_ffff)) >>> 0);
      if (!taken(id)) return id;
    }
  }

  #reply(
    place: Place,
    cookie: PutReply['cookie'],
    mtimeMs: number,
    how: { deduplicated: boolean; replayed: boolean },
  ): PutReply | undefined {
    const info = this.#deps.store.info(place.block);
    if (info === undefined) return undefined;
    return {
      ...place,
      cookie,
      mtimeMs,
      ...how,
      targetReplicas: info.superblock?.targetReplicas ?? info.members.length,
      members: info.members,
    };
  }

  /** @param length payload bytes to bring along @returns undefined where there is nothing usable */
  async #read(place: Place, length: number, cookie?: PutReply['cookie']): Promise<ReadResult | undefined> {
    try {
      const found = await this.#deps.store.read(
        place.block,
        place.fileId,
        cookie,
        { offset: 0, length },
        false,
      );
      return (found.nameFlags & (NameFlag.DELETED | NameFlag.PURGED | NameFlag.LOST)) === 0
        ? found
        : undefined;
    } catch (error) {
      if (isTfsError(error)) return undefined;
      throw error;
    }
  }

  async #opsState(place: Place) {
    try {
      return await this.#deps.store.opsState(place.block);
    } catch (error) {
      if (isTfsError(error)) return undefined;
      throw error;
    }
  }
}

/**
 * What the header alone tells; a name keeps the suffix it was given, so another suffix is another record. A private picture
 * and a public one of the same bytes are two: neither must come to be served as the other.
 */
function sameContent({ header }: ReadResult, record: NewRecord): boolean {
  return (
    header.size === record.size &&
    header.dataCrc === record.dataCrc &&
    header.suffixHash === record.suffixHash &&
    isPrivate(header.mediaType) === isPrivate(record.mediaType) &&
    header.sha1.equals(record.sha1)
  );
}
