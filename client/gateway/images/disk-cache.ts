import { hash, randomBytes } from 'node:crypto';
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
  utimes,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from '../../../common/crc.ts';
import { TfsError, toTfsError } from '../../../common/errors.ts';
import type { Log } from '../../../common/log.ts';
import type { Clock, Timer } from '../../../common/seams/clock.ts';
import { FORMATS, type Format } from './rendition.ts';

/**
 * A rendition in a file:
 *
 * | at | field |
 * |---|---|
 * | 0 | magic 'TFSI' · CRC-32 of everything behind it u32 |
 * | 8 | format u8 (place in FORMATS) · zeros 3 · width u32 · height u32 |
 * | 20 | key 32 B: SHA-256 of name and spelling, so that a file is never taken for another |
 * | 52 | the bytes |
 */
const HEADER_BYTES = 52;
const MAGIC = Buffer.from('TFSI');

export interface CachedRendition {
  readonly bytes: Buffer;
  readonly format: Format;
  readonly width: number;
  readonly height: number;
}

/** What a rendition is of: both parts are hashed before they come near a path. */
export interface CacheKey {
  /** 18 characters. */
  readonly name: string;
  /** The canonical spelling, and whatever else makes other bytes, such as the version of the maker. */
  readonly spelling: string;
}

export interface DiskCacheOptions {
  /** Of this cache alone: what does not belong there is removed. */
  readonly directory: string;
  readonly bytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** After a sweep so much of the bound is left free, so that sweeps are rare. */
const SWEPT_TO = 0.9;
/** A sweep begins after this share of the bound was written since the last one. */
const SWEEP_AFTER = 0.05;
/** A rendition that is read is marked as used this seldom. */
const TOUCH_AGAIN_MS = 10 * 60_000;
/** Temporary files that are older are of a process that ended. */
const STALE_MS = 60_000;
/** Touched while a gateway that uses the directory is up. */
const ALIVE_FILE = 'alive';
const ALIVE_EVERY_MS = 5 * 60_000;
/**
 * Which pictures were deleted and erased is told to gateways that were away for less than a day: after more than this
 * nothing is kept, or an erased picture could stay here for ever.
 */
const AWAY_MS_MAX = 20 * 3600_000;
const HALF = /^[0-9a-f]{2}$/;

/**
 * Renditions on disk, the least recently used ones removed when they take more than they may. Several processes may share
 * a directory. Nothing here is worth a sync: what does not read back is made again.
 */
export class DiskCache {
  readonly stats = { hits: 0, misses: 0, damaged: 0, written: 0, evicted: 0, failed: 0 };
  readonly #options: DiskCacheOptions;
  /** Since the last sweep. */
  #writtenBytes = Number.POSITIVE_INFINITY;
  #sweeping: Promise<void> | undefined;
  #bytes = 0;
  #complaint = '';
  #alive: Timer | undefined;

  /** Where the directory cannot be used nothing is cached, which is said in the log: no reason not to serve. */
  static async open(options: DiskCacheOptions): Promise<DiskCache> {
    const { directory, clock } = options;
    const cache = new DiskCache(options);
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const alive = await stat(join(directory, ALIVE_FILE)).catch(() => undefined);
      if (alive === undefined || clock.now() - alive.mtimeMs > AWAY_MS_MAX) await cache.#clear();
      await cache.#touch();
    } catch (error) {
      cache.#complain(error);
    }
    cache.#alive = clock.every(ALIVE_EVERY_MS, () => {
      cache.#touch().catch((error: unknown) => cache.#complain(error));
    });
    return cache;
  }

  private constructor(options: DiskCacheOptions) {
    this.#options = options;
  }

  async close(): Promise<void> {
    this.#alive?.cancel();
    await this.#sweeping;
  }

  /** One that is larger would have too many others removed. */
  get #fileBytesMax(): number {
    return this.#options.bytesMax * SWEEP_AFTER;
  }

  /** As of the last sweep, and what this process has written since. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @returns undefined where there is none, or none that can be trusted: never throws */
  async get(key: CacheKey): Promise<CachedRendition | undefined> {
    const { file, digest } = this.#place(key);
    try {
      const handle = await open(file, 'r');
      try {
        const { size, mtimeMs } = await handle.stat();
        // Nobody has written one that is larger.
        if (size > this.#fileBytesMax) throw new TfsError('CORRUPT', `${file} is no rendition`);
        const image = Buffer.allocUnsafe(size);
        const { bytesRead } = await handle.read(image, 0, size, 0);
        const found = decode(image.subarray(0, bytesRead), digest);
        if (found === undefined) {
          this.stats.damaged++;
          await unlink(file);
          return undefined;
        }
        this.stats.hits++;
        const now = this.#options.clock.now();
        if (now - mtimeMs > TOUCH_AGAIN_MS) await utimes(file, now / 1000, now / 1000);
        return found;
      } finally {
        await handle.close();
      }
    } catch (error) {
      this.stats.misses++;
      this.#complain(error);
      return undefined;
    }
  }

  /** Where it cannot be written it is not cached: never throws. */
  async put(key: CacheKey, rendition: CachedRendition): Promise<void> {
    const { bytesMax } = this.#options;
    const size = HEADER_BYTES + rendition.bytes.length;
    if (size > this.#fileBytesMax) return;
    const { directory, file, digest } = this.#place(key);
    const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
    try {
      const handle = await create(temporary, directory);
      try {
        await handle.writev(encode(rendition, digest));
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
      this.stats.written++;
      this.#bytes += size;
      this.#writtenBytes += size;
    } catch (error) {
      this.stats.failed++;
      this.#complain(error);
      await unlink(temporary).catch(() => undefined);
    }
    if (this.#writtenBytes > bytesMax * SWEEP_AFTER) void this.sweep();
  }

  /** Removes every rendition of the picture. What cannot be removed is in the log: never throws. */
  async forget(name: string): Promise<void> {
    try {
      await rm(this.#directoryOf(name), { recursive: true, force: true });
    } catch (error) {
      // It is shown to nobody; but it may have been erased, and then somebody has to see to the file.
      this.#complain(error);
    }
  }

  /** Brings the directory below its bound. One at a time, and once more for what came while it went on. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweepUntilBelow()
      .catch((error: unknown) => this.#complain(error))
      .finally(() => {
        this.#sweeping = undefined;
      });
    return this.#sweeping;
  }

  async #touch(): Promise<void> {
    const now = this.#options.clock.now() / 1000;
    const handle = await open(join(this.#options.directory, ALIVE_FILE), 'a', 0o600);
    try {
      await handle.utimes(now, now);
    } finally {
      await handle.close();
    }
  }

  async #clear(): Promise<void> {
    const { directory } = this.#options;
    for (const half of await this.#halves())
      await rm(join(directory, half), { recursive: true, force: true });
  }

  /** Directories of renditions, and nothing else that may be there. */
  async #halves(): Promise<string[]> {
    return (await readdir(this.#options.directory)).filter((half) => HALF.test(half));
  }

  async #sweepUntilBelow(): Promise<void> {
    do await this.#sweep();
    while (this.#writtenBytes > this.#options.bytesMax * SWEEP_AFTER);
  }

  async #sweep(): Promise<void> {
    const { bytesMax, clock } = this.#options;
    this.#writtenBytes = 0;
    const files = await this.#files();
    let bytes = files.reduce((sum, { size }) => sum + size, 0);
    if (bytes > bytesMax * SWEPT_TO) {
      files.sort((a, b) => a.usedAtMs - b.usedAtMs);
      for (const { file, size } of files) {
        if (bytes <= bytesMax * SWEPT_TO) break;
        await unlink(file).catch(() => undefined);
        // Of a picture without another one; else it is not empty, and stays.
        await rmdir(dirname(file)).catch(() => undefined);
        bytes -= size;
        this.stats.evicted++;
      }
    }
    for (const { file, usedAtMs } of files)
      if (file.endsWith('.tmp') && clock.now() - usedAtMs > STALE_MS)
        await unlink(file).catch(() => undefined);
    this.#bytes = bytes;
  }

  async #files(): Promise<{ file: string; size: number; usedAtMs: number }[]> {
    const found: { file: string; size: number; usedAtMs: number }[] = [];
    const { directory } = this.#options;
    for (const half of await this.#halves()) {
      for (const picture of await readdir(join(directory, half)).catch(() => [] as string[])) {
        const place = join(directory, half, picture);
        for (const file of await readdir(place).catch(() => [] as string[])) {
          const path = join(place, file);
          const facts = await stat(path).catch(() => undefined);
          if (facts !== undefined) found.push({ file: path, size: facts.size, usedAtMs: facts.mtimeMs });
        }
      }
    }
    return found;
  }

  #directoryOf(name: string): string {
    const digest = hash('sha256', name, 'hex');
    return join(this.#options.directory, digest.slice(0, 2), digest.slice(2, 34));
  }

  #place({ name, spelling }: CacheKey): { directory: string; file: string; digest: Buffer } {
    const digest = hash('sha256', `${name}\n${spelling}`, 'buffer');
    const directory = this.#directoryOf(name);
    return { directory, file: join(directory, digest.toString('hex', 0, 16)), digest };
  }

  /** A missing file is no news; another reason is, once. */
  #complain(error: unknown): void {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ENOENT' || code === this.#complaint) return;
    this.#complaint = code;
    this.#options.log.warn(
      { reason: toTfsError(error).message },
      'the cache of renditions cannot be used as it should',
    );
  }
}

/** Most are not the first of their picture: its directory is there. */
async function create(file: string, directory: string): Promise<FileHandle> {
  try {
    return await open(file, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return open(file, 'wx', 0o600);
  }
}

function encode({ bytes, format, width, height }: CachedRendition, digest: Buffer): Buffer[] {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt8(FORMATS.indexOf(format), 8);
  header.writeUInt32LE(width, 12);
  header.writeUInt32LE(height, 16);
  digest.copy(header, 20);
  header.writeUInt32LE(crc32(bytes, crc32(header.subarray(8))), 4);
  return [header, bytes];
}

function decode(image: Buffer, digest: Buffer): CachedRendition | undefined {
  if (image.length < HEADER_BYTES || !image.subarray(0, 4).equals(MAGIC)) return undefined;
  if (crc32(image.subarray(8)) !== image.readUInt32LE(4)) return undefined;
  if (!image.subarray(20, HEADER_BYTES).equals(digest)) return undefined;
  const format = FORMATS[image.readUInt8(8)];
  if (format === undefined) return undefined;
  const bytes = image.subarray(HEADER_BYTES);
  return { bytes, format, width: image.readUInt32LE(12), height: image.readUInt32LE(16) };
}
