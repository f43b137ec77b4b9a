import { tunable } from '../common/tunables.ts';
import type { ReadReply } from '../common/wire/messages.ts';
import type { PictureKey, Piece, Reader } from './reader.ts';

/** Facts of a stored picture, and the bytes that were asked for. */
export class Picture {
  readonly facts: ReadReply;
  /** First byte of the part that was asked for. */
  readonly offset: number;
  /** Bytes in it. */
  readonly length: number;
  /** The beginning of the part, already here; all of it where it ends before a piece boundary. */
  readonly first: Buffer;
  readonly #reader: Reader;
  readonly #key: PictureKey;
  readonly #force: boolean;

  constructor(
    reader: Reader,
    { key, first, end, force }: { key: PictureKey; first: Piece; end: number; force: boolean },
  ) {
    this.#reader = reader;
    this.#key = key;
    this.#force = force;
    this.facts = first.facts;
    this.first = first.payload;
    this.offset = first.facts.offset;
    this.length = Math.max(0, Math.min(end, first.facts.size) - this.offset);
  }

  /** Whether `first` is all that was asked for. */
  get isWhole(): boolean {
    return this.first.length === this.length;
  }

  /**
   * The part in verified pieces of at most `readPieceBytes` of tunables.ts; each comes from whichever replica can. While one
   * is being used the next is on its way, and no more than that.
   * @throws TfsError while iterating, when no replica can go on: what came before is right, but incomplete
   */
  async *pieces(): AsyncGenerator<Buffer, void, undefined> {
    if (this.length === 0) return;
    let at = this.offset + this.first.length;
    const end = this.offset + this.length;
    let next = this.#ahead(at, end);
    yield this.first;
    while (next !== undefined) {
      const piece = await next;
      at += piece.payload.length;
      next = this.#ahead(at, end);
      yield piece.payload;
    }
  }

  /** All of it in one buffer. */
  async bytes(): Promise<Buffer> {
    if (this.isWhole) return this.first;
    const pieces: Buffer[] = [];
    for await (const piece of this.pieces()) pieces.push(piece);
    return Buffer.concat(pieces, this.length);
  }

  #ahead(at: number, end: number): Promise<Piece> | undefined {
    if (at >= end) return undefined;
    const wanted = { offset: at, length: Math.min(end, pieceEnd(at)) - at, force: this.#force };
    const next = this.#reader.read(this.#key, wanted, this.facts);
    // Its failure is seen when it is awaited; a consumer that stopped early never does.
    next.catch(() => undefined);
    return next;
  }
}

/** Pieces end on multiples of their size, so that they start on a checksum boundary of the record. */
export const pieceEnd = (offset: number): number =>
  (Math.floor(offset / tunable.readPieceBytes) + 1) * tunable.readPieceBytes;
