import type { Hash } from 'node:crypto';
import { SHA1_BYTES } from '../../common/format/idx.ts';
import type { Hole } from '../../common/format/walk.ts';
import { SUPERBLOCK_BYTES } from '../../common/limits.ts';

const SHA1S_MIN = 256;

/** What the seal of a block will need, kept while the block is written or since it was walked. */
export class Tail {
  readonly holes: readonly Hole[];
  /** Some of the holes the disk failed to read: what is there may be sound. */
  readonly unread: boolean;
  /** This process saw every write of the block, and none failed. */
  clean: boolean;
  /** Everything up to the block's length is known to be on the medium. */
  durable = true;
  /** Something was repaired since the walk: it has to be walked again before its facts count. */
  stale = false;
  /** Where the last write began: what a fence reads again. */
  lastWrite: { readonly offset: number; readonly slot: number };
  /** What was found missing for a seal since the walk; damage goes on. */
  missing: readonly Hole[] = [];
  /** Where a repair that came in pieces goes on, and how far it may reach. */
  repair: { readonly offset: number; readonly slot: number; readonly end: number } | undefined;
  #provenLength: number;
  /** Of an OPEN or FENCED block: SHA-256 over the headers so far. */
  readonly #hash: Hash | undefined;
  readonly #digest: Buffer | undefined;
  #sha1s: Buffer;

  constructor(facts: {
    readonly holes?: readonly Hole[];
    readonly unread?: boolean;
    readonly clean: boolean;
    readonly provenLength?: number;
    readonly hash?: Hash;
    readonly digest?: Buffer | undefined;
    readonly sha1s?: Buffer;
  }) {
    this.holes = facts.holes ?? [];
    this.unread = facts.unread ?? false;
    this.clean = facts.clean;
    this.lastWrite = { offset: SUPERBLOCK_BYTES, slot: 0 };
    this.#provenLength = facts.provenLength ?? SUPERBLOCK_BYTES;
    this.#hash = facts.hash;
    this.#digest = facts.digest;
    this.#sha1s = facts.sha1s ?? Buffer.alloc(SHA1S_MIN * SHA1_BYTES);
  }

  /** Highest length known to be durable on every member. */
  get provenLength(): number {
    return this.#provenLength;
  }

  /** Watermarks and acknowledgements only ever grow. */
  prove(length: number): void {
    if (length > this.#provenLength) this.#provenLength = length;
  }

  /** Over the headers of all records; undefined where there are holes. */
  get digest(): Buffer | undefined {
    return this.#hash === undefined ? this.#digest : this.#hash.copy().digest();
  }

  digestHeaders(headers: Buffer): void {
    this.#hash!.update(headers);
  }

  pushSha1(slot: number, sha1: Buffer): void {
    const at = slot * SHA1_BYTES;
    if (at + SHA1_BYTES > this.#sha1s.length) {
      const grown = Buffer.alloc(Math.max(this.#sha1s.length * 2, at + SHA1_BYTES));
      this.#sha1s.copy(grown);
      this.#sha1s = grown;
    }
    sha1.copy(this.#sha1s, at);
  }

  /** 20 bytes for each of the first `slots`; zeros where there is no record. */
  sha1s(slots: number): Buffer {
    const bytes = slots * SHA1_BYTES;
    if (bytes <= this.#sha1s.length) return this.#sha1s.subarray(0, bytes);
    const padded = Buffer.alloc(bytes);
    this.#sha1s.copy(padded);
    return padded;
  }
}
