import { crc32 } from '../common/crc.ts';
import type { Log } from '../common/log.ts';
import type { Kv, KvOperation } from '../common/seams/kv.ts';
import type { BlockMap } from './block-map.ts';
import { SEGMENT_ROWS, SEGMENTS_PER_PAGE } from './block-page.ts';
import { decodeSegment, encodeSegment } from './map-segment.ts';

const PREFIX = 'p'.charCodeAt(0);
const KEY_BYTES = 4;
/** Segments of one write: at most about 9 MB. */
const SEGMENTS_PER_WRITE = 256;

/**
 * The block map on disk, so that a NameServer that starts again knows at once where blocks are. Written every few
 * seconds, only what changed, and not synced: it may be old by that much, and reports bring it up to date. Each entry
 * is `p` · page u16 · segment u8 -> crc u32 · {@link encodeSegment}.
 */
export class Checkpoint {
  readonly #kv: Kv;
  readonly #map: BlockMap;
  readonly #log: Log;
  #writing: Promise<void> | undefined;
  #isFailing = false;

  constructor(deps: { kv: Kv; map: BlockMap; log: Log }) {
    this.#kv = deps.kv;
    this.#map = deps.map;
    this.#log = deps.log;
  }

  get failing(): boolean {
    return this.#isFailing;
  }

  /**
   * Fills the map. Damaged entries are left out: what they held is reported again.
   *
   * @returns highest counter found in each page: page -> counter
   */
  async load(): Promise<Map<number, number>> {
    const highest = new Map<number, number>();
    let damaged = 0;
    for await (const [key, stored] of this.#kv.entries({
      gte: Buffer.from([PREFIX]),
      lt: Buffer.from([PREFIX + 1]),
    })) {
      const found = this.#loadOne(key, stored);
      if (found === undefined) damaged++;
      else highest.set(found.page, found.counter);
    }
    if (damaged > 0)
      this.#log.warn({ damaged }, 'parts of the stored block map are damaged; reports will fill them again');
    return highest;
  }

  /** Writes what changed since the last call. Never rejects: without it, a restart only waits for reports. */
  flush(): Promise<void> {
    this.#writing ??= this.#flush().finally(() => {
      this.#writing = undefined;
    });
    return this.#writing;
  }

  #loadOne(key: Buffer, stored: Buffer): { page: number; counter: number } | undefined {
    if (key.length !== KEY_BYTES || stored.length < 4) return undefined;
    const segment = key[3]!;
    const bytes = stored.subarray(4);
    if (segment >= SEGMENTS_PER_PAGE || crc32(bytes) !== stored.readUInt32LE(0)) return undefined;
    const page = this.#map.pageForLoad(key.readUInt16BE(1));
    if (!decodeSegment(page, segment, bytes)) return undefined;
    const from = segment * SEGMENT_ROWS;
    this.#map.loaded(page, from, from + SEGMENT_ROWS);
    page.dirty[segment] = 0;
    let counter = Math.min(from + SEGMENT_ROWS, page.rows) - 1;
    while (!page.has(counter)) counter--;
    return { page: page.number, counter };
  }

  async #flush(): Promise<void> {
    let operations: KvOperation[] = [];
    let taken: (readonly [dirty: Uint8Array, segment: number])[] = [];
    const write = async (): Promise<boolean> => {
      try {
        if (operations.length > 0) await this.#kv.batch(operations);
        if (this.#isFailing) this.#log.info('the block map is stored again');
        this.#isFailing = false;
      } catch (error) {
        for (const [dirty, segment] of taken) dirty[segment] = 1;
        if (!this.#isFailing)
          this.#log.error(
            { err: error },
            'the block map cannot be stored: a restart will have to wait for the reports of all DataServers',
          );
        this.#isFailing = true;
      }
      operations = [];
      taken = [];
      return !this.#isFailing;
    };
    for (const page of this.#map.pages()) {
      for (let segment = 0; segment < SEGMENTS_PER_PAGE; segment++) {
        if (page.dirty[segment] === 0) continue;
        // Before the bytes are taken: what changes while they are written makes it dirty again.
        page.dirty[segment] = 0;
        taken.push([page.dirty, segment]);
        operations.push(operationFor(page.number, segment, encodeSegment(page, segment)));
        if (operations.length >= SEGMENTS_PER_WRITE && !(await write())) return;
      }
    }
    await write();
  }
}

function operationFor(page: number, segment: number, bytes: Buffer | undefined): KvOperation {
  const key = Buffer.from([PREFIX, page >>> 8, page & 0xff, segment]);
  if (bytes === undefined) return { type: 'del', key };
  const value = Buffer.allocUnsafe(4 + bytes.length);
  value.writeUInt32LE(crc32(bytes), 0);
  bytes.copy(value, 4);
  return { type: 'put', key, value };
}
