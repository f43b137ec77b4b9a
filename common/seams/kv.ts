/**
 * An ordered key-value store of one process: the rebuildable indexes of a DataServer, the checkpoint of a NameServer.
 *
 * Contract:
 * - Keys and values are bytes; keys are ordered bytewise. An empty key is refused; an empty value is a value.
 * - A key that is not there reads as `undefined`; that is not an error.
 * - A batch is atomic: after a crash all of it or none of it is there. With `sync` it is durable when the promise
 *   resolves; without, a crash of the machine may lose the newest batches, in order, never the middle of one.
 * - Values carry no checksum of the store's: a caller that cannot rebuild a value protects it itself.
 * - Using it before `open` resolved or after `close` was called rejects with code CLOSED, and nothing else happens.
 * - After a failed write all writes reject with IO or DISK_FULL until it is re-opened; reads go on.
 * - One process at a time: a second `open` of the same place rejects with code CONFLICT.
 */
export interface Kv {
  get(key: Buffer): Promise<Buffer | undefined>;
  getMany(keys: readonly Buffer[]): Promise<(Buffer | undefined)[]>;
  batch(operations: readonly KvOperation[], options?: { readonly sync?: boolean }): Promise<void>;
  /** Entries with `gte <= key < lt`, in key order, as of the call. Ending the loop early releases the iterator. */
  entries(range: KvRange): AsyncIterable<readonly [key: Buffer, value: Buffer]>;
  clear(range: KvRange): Promise<void>;
  close(): Promise<void>;
}

export type KvOperation =
  | { readonly type: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly type: 'del'; readonly key: Buffer };

export interface KvRange {
  readonly gte?: Buffer;
  readonly lt?: Buffer;
}
