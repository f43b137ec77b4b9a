import { assert, isTfsError, TfsError } from '../../common/errors.ts';
import { slotFlagsOf } from '../../common/format/ops.ts';
import { recordHeaderBytes, recordSpan } from '../../common/format/record.ts';
import { SLOT_MAX } from '../../common/ids.ts';
import { mark } from '../../common/marks.ts';
import { tunable } from '../../common/tunables.ts';
import type { Batch } from './api.ts';
import type { Block } from './block.ts';
import type { StoreContext } from './context.ts';
import type { LoadedIndex } from './loaded-index.ts';
import type { Tail } from './tail.ts';

interface Waiting {
  readonly batch: Batch;
  readonly resolve: () => void;
  readonly reject: (error: TfsError) => void;
}

/**
 * The appends of one OPEN block, in order. What waits while a write is under way goes out together in the next one.
 * Only what is durable enters the index, the digest and the block's length.
 */
export class AppendQueue {
  readonly #context: StoreContext;
  readonly #block: Block;
  readonly #index: LoadedIndex;
  readonly #tail: Tail;
  readonly #capacity: number;
  #waiting: Waiting[] = [];
  #busy = false;
  /** The end of the run that is under way, or of the last. */
  #done: Promise<void> = Promise.resolve();
  /** End of what was given, and the slot that comes next there. */
  #end: number;
  #nextSlot: number;
  /** Why nothing is taken any more. */
  #over: TfsError | undefined;

  constructor(context: StoreContext, block: Block, index: LoadedIndex, tail: Tail) {
    this.#context = context;
    this.#block = block;
    this.#index = index;
    this.#tail = tail;
    this.#end = index.length;
    this.#nextSlot = index.count;
    this.#capacity = block.superblock!.blockBytes;
  }

  get end(): number {
    return this.#end;
  }

  get nextSlot(): number {
    return this.#nextSlot;
  }

  /** @throws TfsError SESSION_ENDED when it is over, or the batch does not start at the end */
  check(offset: number, bytes: number, slots: number): void {
    if (this.#over !== undefined) throw this.#over;
    this.#context.assertWritable();
    if (offset !== this.#end) {
      throw ended(
        this.#block,
        `an append at ${offset} does not follow the last one, which ends at ${this.#end}`,
      );
    }
    if (offset + bytes > this.#capacity || this.#nextSlot + slots > SLOT_MAX + 1)
      throw new TfsError(
        'PROTOCOL',
        `block ${this.#block.block} has no room for ${bytes} bytes at ${offset}`,
      );
  }

  /** Resolves when the batch is durable here. */
  append(batch: Batch): Promise<void> {
    this.check(batch.offset, batch.bytes, batch.headers.length);
    assert(batch.headers[0]!.slot === this.#nextSlot, 'slots go on from the last record');
    this.#end += batch.bytes;
    this.#nextSlot += batch.headers.length;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ batch, resolve, reject });
      if (this.#busy) return;
      this.#busy = true;
      this.#done = this.#run();
    });
  }

  /** Takes no more appends; resolves when those given before are durable or have failed. */
  async close(why: string): Promise<void> {
    if (this.#context.faults.has('append-behind-fence')) return;
    this.#over ??= ended(this.#block, why);
    if (this.#context.faults.has('fence-overtakes-append')) return;
    await this.#done;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#take();
      try {
        await this.#write(group);
      } catch (error) {
        this.#fail(error, group);
        break;
      }
      for (const { batch } of group) this.#apply(batch);
      this.#tail.lastWrite = { offset: group[0]!.batch.offset, slot: group[0]!.batch.headers[0]!.slot };
      // The ack of this replica: one write and one sync have made every byte of these batches durable.
      for (const { resolve } of group) resolve();
    }
    this.#busy = false;
  }

  #take(): Waiting[] {
    const waiting = this.#waiting;
    let count = 1;
    let bytes = waiting[0]!.batch.bytes;
    while (count < waiting.length && bytes + waiting[count]!.batch.bytes <= tunable.batchBytesMax) {
      bytes += waiting[count]!.batch.bytes;
      count++;
    }
    if (count < waiting.length) return waiting.splice(0, count);
    this.#waiting = [];
    return waiting;
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const { file } = this.#index;
    const { faults } = this.#context;
    const first = group[0]!.batch;
    const buffers = group.length === 1 ? first.buffers : group.flatMap(({ batch }) => batch.buffers);
    this.#context.appendedAtMs = this.#context.clock.monotonic();
    if (faults.has('skip-datasync')) return file.write(buffers, first.offset);
    try {
      await file.writeDurable(buffers, first.offset);
    } catch (error) {
      if (!faults.has('retry-after-failed-datasync')) throw error;
      await file.datasync();
    }
  }

  #apply(batch: Batch): void {
    const { buffers, headers } = batch;
    const state = this.#block.ops.state;
    const heads: Buffer[] = [];
    let offset = batch.offset;
    let buffer = 0;
    let at = 0;
    for (const header of headers) {
      const span = recordSpan(header.size);
      heads.push(buffers[buffer]!.subarray(at, at + recordHeaderBytes(header.size)));
      this.#tail.pushSha1(header.slot, header.sha1);
      this.#tail.prove(header.ackedLength);
      this.#index.push(offset, span, state === undefined ? 0 : slotFlagsOf(state, header.slot));
      offset += span;
      // On to the start of the next record: in a later buffer, or, where records came in one piece, in this one.
      for (at += span; buffer < buffers.length && at >= buffers[buffer]!.length; buffer++)
        at -= buffers[buffer]!.length;
    }
    assert(offset === batch.offset + batch.bytes && at === 0, 'a batch is whole records');
    this.#tail.digestHeaders(heads.length === 1 ? heads[0]! : Buffer.concat(heads));
    if (offset > this.#block.fileBytes) this.#block.fileBytes = offset;
  }

  /** What is on the medium behind the last good write is unknown: the session is over for good. */
  #fail(error: unknown, group: readonly Waiting[]): void {
    const failure = this.#context.failed(error, `append to block ${this.#block.block}`);
    // A full disk has damaged nothing that is below the length.
    if (isTfsError(failure, 'DISK_FULL')) mark('append-disk-full');
    else this.#tail.clean = false;
    this.#over ??= ended(this.#block, `an append failed: ${failure.message}`, failure);
    const rest = this.#waiting;
    this.#waiting = [];
    for (const { reject } of group) reject(failure);
    for (const { reject } of rest) reject(this.#over);
  }
}

function ended(block: Block, why: string, cause?: unknown): TfsError {
  return new TfsError('SESSION_ENDED', `block ${block.block}: ${why}`, { cause });
}
