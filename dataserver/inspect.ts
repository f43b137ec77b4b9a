import { VERIFIES_RUNNING_MAX } from '../common/limits.ts';
import { decodeControl, encodeControl, VERIFY_PROBLEMS_MAX, zVerify } from '../common/wire/control.ts';
import { EMPTY_BUFFER, encodeBlockEntries } from '../common/wire/messages.ts';
import type { RpcRequest, RpcResult } from '../common/wire/rpc-server.ts';
import { zBlockSpace } from '../common/wire/space.ts';
import type { BlockStore } from './block/store.ts';
import type { SpaceSurvey } from './space/space-survey.ts';

const PROBLEM_CHARS_MAX = 300;

/** What an operator may ask of a DataServer: what it holds, and whether that reads as it was written. */
export class Inspector {
  readonly #store: BlockStore;
  readonly #space: SpaceSurvey;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(store: BlockStore, space: SpaceSurvey) {
    this.#store = store;
    this.#space = space;
  }

  /** LIST_BLOCKS: block entries. */
  list(): RpcResult {
    return { header: EMPTY_BUFFER, payload: [encodeBlockEntries(this.#store.entries())] };
  }

  /** BLOCK_SPACE: what the bytes of blocks are. */
  async blockSpace({ header }: RpcRequest): Promise<RpcResult> {
    const { rows } = decodeControl(zBlockSpace, header, 'BLOCK_SPACE');
    return { header: EMPTY_BUFFER, payload: [encodeControl(await this.#space.blocks(rows))] };
  }

  /** VERIFY: reads all of one replica; a few at a time, so that reads of pictures go on beside it. */
  async verify({ header }: RpcRequest): Promise<RpcResult> {
    const { block } = decodeControl(zVerify, header, 'VERIFY');
    await this.#begin();
    try {
      const { records, bytes, digest, problems } = await this.#store.verify(block);
      return {
        header: encodeControl({
          records,
          bytes,
          digest: digest?.toString('hex'),
          problems: problems.slice(0, VERIFY_PROBLEMS_MAX).map((line) => line.slice(0, PROBLEM_CHARS_MAX)),
          problemCount: problems.length,
        }),
      };
    } finally {
      this.#end();
    }
  }

  async #begin(): Promise<void> {
    if (this.#running >= VERIFIES_RUNNING_MAX)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
  }

  /** The place goes to the next who waits, if there is one. */
  #end(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }
}
