import { crc32 } from 'node:zlib';
import { isTfsError, TfsError } from '../common/errors.ts';
import type { BlockId } from '../common/ids.ts';
import { mark } from '../common/marks.ts';
import {
  BlockFlag,
  BlockState,
  decodeCheck,
  decodeRead,
  encodeCheckReply,
  encodeReadReply,
} from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import { UNSEEN } from './block/read.ts';
import type { BlockStore, Faults } from './block/store.ts';
import type { NameServers } from './nameservers.ts';
import type { ReadClock } from './scrub/read-times.ts';

/**
 * READ and CHECK. Only a replica that is current may say "not found": one that was not confirmed by a leader lately,
 * or that waits for its seal after a restart, marks a hit provisional and answers a miss with DONT_KNOW. But what is
 * deleted or hidden is so for sure where the replica waits for nothing but its seal: others, without the operation, would
 * show it meanwhile.
 */
export class Reader {
  readonly #store: BlockStore;
  readonly #nameservers: NameServers;
  readonly #reads: ReadClock;
  readonly #faults: Faults | undefined;

  constructor(deps: {
    store: BlockStore;
    nameservers: NameServers;
    reads: ReadClock;
    faults?: Faults | undefined;
  }) {
    this.#faults = deps.faults;
    this.#store = deps.store;
    this.#nameservers = deps.nameservers;
    this.#reads = deps.reads;
  }

  async read(request: RpcRequest): Promise<RpcResult> {
    const { block, fileId, cookie, offset, length, force } = decodeRead(request.header);
    // Before and after: it may have become current while it read what it still lacked, and stopped being so before it looked.
    const knew = this.knows(block);
    const wasCurrent = knew && this.#isWritten(block);
    try {
      const begunAtMs = this.#reads.begin();
      const found = await this.#store.read(block, fileId, cookie, { offset, length }, force);
      this.#reads.end(begunAtMs);
      const { header, payload } = found;
      const whole = payload.length === header.size;
      const provisional = !wasCurrent || !this.isCurrent(block);
      if (provisional) mark('answer-provisional');
      return {
        header: encodeReadReply({
          size: header.size,
          dataCrc: header.dataCrc,
          suffixHash: header.suffixHash,
          // The store has just compared the whole payload with this sum.
          payloadCrc: whole ? header.dataCrc : crc32(payload),
          offset: found.offset,
          mtimeMs: header.mtimeMs,
          mediaType: header.mediaType,
          nameFlags: found.nameFlags,
          provisional,
          alias: found.alias,
          sha1: header.sha1,
        }),
        payload: [payload],
      };
    } catch (error) {
      throw this.honest(error, block, knew);
    }
  }

  check(request: RpcRequest): RpcResult | Promise<RpcResult> {
    const { block, fileId } = decodeCheck(request.header);
    const knew = this.knows(block);
    const wasCurrent = knew && this.#isWritten(block);
    const reply = (nameFlags: number): RpcResult => {
      const isSure =
        (nameFlags & UNSEEN) !== 0 ? knew && this.knows(block) : wasCurrent && this.isCurrent(block);
      return { header: encodeCheckReply({ nameFlags, provisional: !isSure }) };
    };
    try {
      const flags = this.#store.check(block, fileId);
      if (typeof flags === 'number') return reply(flags);
      return flags.then(reply, (error: unknown) => {
        throw this.honest(error, block, knew);
      });
    } catch (error) {
      throw this.honest(error, block, knew);
    }
  }

  /** Whether what this replica does not have does not exist. */
  isCurrent(block: BlockId): boolean {
    return this.knows(block) && this.#isWritten(block);
  }

  /** Whether it lacks no record. */
  #isWritten(block: BlockId): boolean {
    // A FENCED one is as whole as it was while it was OPEN: this process has written it, and nothing follows. After a
    // restart it would be RECOVERED.
    return this.#store.info(block)?.state !== BlockState.RECOVERED;
  }

  /** Whether it has every operation that was acknowledged. It may lack records all the same, until it is sealed. */
  knows(block: BlockId): boolean {
    if (!this.#nameservers.isConfirmed(block)) return false;
    const info = this.#store.info(block);
    return info !== undefined && (info.flags & (BlockFlag.SUSPECT | BlockFlag.QUARANTINED)) === 0;
  }

  /**
   * What may be said of an error: "not there" and "gone for good" only by a replica that is current, or, of what is deleted
   * or hidden, by one that has the operations. The store itself says so of nothing else that may lack records.
   *
   * @param knew as {@link knows} said before anything was looked at
   */
  honest(error: unknown, block: BlockId, knew: boolean): unknown {
    const isFinal = isTfsError(error, 'NOT_FOUND') || isTfsError(error, 'GONE');
    if (!isFinal || (knew && this.knows(block)) || this.#faults?.has('stale-says-not-found')) return error;
    mark('answer-dont-know');
    return new TfsError('DONT_KNOW', `this replica of block ${block} is not confirmed as current`, {
      cause: error,
      retryAfterMs: 500,
    });
  }
}
