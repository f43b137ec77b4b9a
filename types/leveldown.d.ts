// @types/leveldown cannot be called under nodenext resolution; this is the part of the binding's API we use.
declare module 'leveldown' {
  function leveldown(location: string): leveldown.LevelDown;
  namespace leveldown {
    type Callback<T = void> = (error: Error | null | undefined, value: T) => void;
    type Operation = { type: 'put'; key: Buffer; value: Buffer } | { type: 'del'; key: Buffer };
    interface OpenOptions {
      createIfMissing?: boolean;
      errorIfExists?: boolean;
      compression?: boolean;
      cacheSize?: number;
      writeBufferSize?: number;
      blockSize?: number;
      maxOpenFiles?: number;
    }
    interface RangeOptions {
      gt?: Buffer;
      gte?: Buffer;
      lt?: Buffer;
      lte?: Buffer;
      reverse?: boolean;
      limit?: number;
    }
    interface IteratorOptions extends RangeOptions {
      keys?: boolean;
      values?: boolean;
      keyAsBuffer?: boolean;
      valueAsBuffer?: boolean;
      fillCache?: boolean;
      highWaterMark?: number;
    }
    interface Iterator {
      next(callback: (error: Error | null | undefined, key?: Buffer, value?: Buffer) => void): void;
      end(callback: Callback): void;
    }
    interface LevelDown {
      open(options: OpenOptions, callback: Callback): void;
      close(callback: Callback): void;
      get(
        key: Buffer,
        options: { asBuffer?: boolean; fillCache?: boolean },
        callback: Callback<Buffer>,
      ): void;
      getMany(
        keys: Buffer[],
        options: { asBuffer?: boolean; fillCache?: boolean },
        callback: Callback<(Buffer | undefined)[]>,
      ): void;
      batch(operations: readonly Operation[], options: { sync?: boolean }, callback: Callback): void;
      clear(options: RangeOptions, callback: Callback): void;
      iterator(options?: IteratorOptions): Iterator;
      approximateSize(start: Buffer, end: Buffer, callback: Callback<number>): void;
      getProperty(name: string): string;
    }
    function destroy(location: string, callback: Callback): void;
    function repair(location: string, callback: Callback): void;
  }
  export default leveldown;
}
