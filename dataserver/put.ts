import { isTfsError, TfsError } from '../common/errors.ts';
import { checkPayload, recordSpan } from '../common/format/record.ts';
import { fileId } from '../common/ids.ts';
import { SUPERBLOCK_BYTES } from '../common/limits.ts';
import type { Log } from '../common/log.ts';
import { tunable } from '../common/tunables.ts';
import { decodePut, encodePutReply, isPrivate, type PutReply } from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import type { Deduplicator } from './dedup.ts';
import type { DigestIndex } from './digest-index.ts';
import type { NewRecord } from './session.ts';
import type { SessionPool } from './session-pool.ts';

export interface PutDeps {
  readonly blockBytes: number;
  readonly pool: SessionPool;
  readonly index: DigestIndex;
  readonly dedup: Deduplicator;
  readonly log: Log;
}

/** PUT: one picture, stored once however often the same request arrives, durable on every member before the reply. */
export class PutService {
  readonly #deps: PutDeps;
  /** Requests under way by opId: a retry that overtakes its first try waits for the same outcome. */
  readonly #inFlight = new Map<string, Promise<PutReply>>();
  #bytesInFlight = 0;
  stored = 0;
  deduplicated = 0;
  replayed = 0;

  constructor(deps: PutDeps) {
    this.#deps = deps;
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight;
  }

  async put({ header, payload }: RpcRequest): Promise<RpcResult> {
    const request = decodePut(header);
    const { size } = request;
    if (size !== payload.length)
      throw new TfsError('PROTOCOL', `PUT of ${size} bytes carries ${payload.length}`);
    if (size === 0) throw new TfsError('EMPTY_BODY', 'an empty picture is not stored');
    if (recordSpan(size) > this.#deps.blockBytes - SUPERBLOCK_BYTES) {
      throw new TfsError('TOO_LARGE', `${size} bytes do not fit a block of ${this.#deps.blockBytes}`);
    }
    // Refused before a session is touched: overload must not look like a failure of the write set.
    if (this.#bytesInFlight + size > tunable.uploadBytesInFlightMax && this.#bytesInFlight > 0) {
      throw new TfsError('OVERLOADED', 'this DataServer has as many bytes in flight as it takes', {
        retryAfterMs: 200,
      });
    }
    // With the content: an opId that is used for two contents must not give one the name of the other.
    const opKey = `${request.opId.toString('latin1')}${request.sha1.toString('latin1')}${isPrivate(request.mediaType)}`;
    let outcome = this.#inFlight.get(opKey);
    if (outcome === undefined) {
      const record: NewRecord = { ...request, payload };
      // The hop from the gateway ends here: bytes that changed on the way are found before they are made durable.
      if (!checkPayload(record, payload))
        throw new TfsError('DIGEST_MISMATCH', 'the picture changed on its way to the DataServer');
      this.#bytesInFlight += size;
      outcome = this.#store(record, request.noDedup).finally(() => {
        this.#bytesInFlight -= size;
        this.#inFlight.delete(opKey);
      });
      this.#inFlight.set(opKey, outcome);
    }
    return { header: encodePutReply(await outcome) };
  }

  async #store(record: NewRecord, noDedup: boolean): Promise<PutReply> {
    const { pool, index } = this.#deps;
    const isPerhapsHeld = index.mayHold(record.sha1);
    const known = isPerhapsHeld ? await this.#known(record, noDedup) : undefined;
    if (known !== undefined) {
      if (known.replayed) this.replayed++;
      else this.deduplicated++;
      return known;
    }
    const stored = await pool.append(record);
    this.stored++;
    const place = { block: stored.block, fileId: fileId(stored.slot) };
    index.add(record.sha1, record.opId, place, isPerhapsHeld);
    return {
      ...place,
      cookie: stored.cookie,
      mtimeMs: stored.mtimeMs,
      deduplicated: false,
      replayed: false,
      targetReplicas: stored.targetReplicas,
      members: stored.members,
    };
  }

  async #known(record: NewRecord, noDedup: boolean): Promise<PutReply | undefined> {
    try {
      return await this.#deps.dedup.find(record, noDedup);
    } catch (error) {
      // Deduplication saves space; whatever stops it, the picture is stored.
      if (!isTfsError(error) || !error.retryable) {
        this.#deps.log.warn({ err: error }, 'deduplication failed; stored afresh');
      }
      return undefined;
    }
  }
}
