import { randomUUID } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { TfsError } from '../../common/errors.ts';
import { readIfThere } from '../cluster/home.ts';

/**
 * What an import has done, one JSON line each, first {@link Head}, then a line for every file that was stored or
 * skipped. Lines are only appended, and durable before a file counts as done; a torn last line is cut off when the
 * file is opened again. So an interrupted import goes on where it was, and the file is also the list of names.
 */
const zHead = z.looseObject({
  manifest: z.literal(1),
  /** Goes into the idempotency key of every upload: a file whose line was lost is sent again and gets the same name. */
  id: z.string(),
  directory: z.string(),
});
const zEntry = z.looseObject({
  /** Relative to the directory, `/` between its parts. */
  path: z.string(),
  size: z.number(),
  mtimeMs: z.number(),
  name: z.string().optional(),
  sha1: z.string().optional(),
  /** Why it was not stored and need not be tried again. */
  skipped: z.string().optional(),
});
export type ManifestEntry = z.infer<typeof zEntry>;

export class Manifest {
  readonly path: string;
  readonly id: string;
  readonly #file: FileHandle;
  readonly #entries: Map<string, ManifestEntry>;
  /** Lines of the flush that comes next. */
  #waiting: string[] = [];
  #flush: Promise<void> | undefined;

  /**
   * Makes the file, or opens it and forgets a torn last line.
   * @throws TfsError CONFLICT when it is of another directory, CONFIG when it is not a manifest
   */
  static async open(path: string, directory: string): Promise<Manifest> {
    const text = await readIfThere(path);
    if (text === undefined || text.trim() === '') {
      const head = { manifest: 1 as const, id: randomUUID(), directory, startedAt: new Date().toISOString() };
      const file = await open(path, 'w', 0o644);
      await file.writeFile(`${JSON.stringify(head)}\n`);
      await file.datasync();
      await syncDirectory(dirname(path));
      return new Manifest(path, head.id, file, new Map());
    }
    const good = text.slice(0, text.lastIndexOf('\n') + 1);
    const [first = '', ...rest] = good.split('\n').filter((line) => line !== '');
    const head = parseLine(zHead, first);
    if (head === undefined)
      throw new TfsError(
        'CONFIG',
        `${path} is there and is not the manifest of an import: give another --manifest`,
      );
    if (head.directory !== directory)
      throw new TfsError(
        'CONFLICT',
        `${path} is the manifest of an import of ${head.directory}: give another --manifest for ${directory}`,
      );
    const entries = new Map<string, ManifestEntry>();
    for (const line of rest) {
      const entry = parseLine(zEntry, line);
      // A line that is not one of ours makes its file be imported again, which is harmless.
      if (entry !== undefined) entries.set(entry.path, entry);
    }
    const file = await open(path, 'r+');
    await file.truncate(Buffer.byteLength(good));
    await file.close();
    return new Manifest(path, head.id, await open(path, 'a'), entries);
  }

  private constructor(path: string, id: string, file: FileHandle, entries: Map<string, ManifestEntry>) {
    this.path = path;
    this.id = id;
    this.#file = file;
    this.#entries = entries;
  }

  /** What was done with this file, if it has not changed since. */
  find(file: {
    readonly path: string;
    readonly size: number;
    readonly mtimeMs: number;
  }): ManifestEntry | undefined {
    const entry = this.#entries.get(file.path);
    return entry !== undefined && entry.size === file.size && entry.mtimeMs === file.mtimeMs
      ? entry
      : undefined;
  }

  /** Resolves when the line is durable. Lines that come during one flush share the next. */
  async append(entry: ManifestEntry): Promise<void> {
    this.#entries.set(entry.path, entry);
    this.#waiting.push(`${JSON.stringify(entry)}\n`);
    if (this.#flush !== undefined) await this.#flush;
    if (this.#waiting.length === 0) return this.#flush;
    this.#flush ??= this.#write().finally(() => {
      this.#flush = undefined;
    });
    await this.#flush;
  }

  async close(): Promise<void> {
    await this.#flush;
    await this.#file.close();
  }

  async #write(): Promise<void> {
    const lines = this.#waiting.join('');
    this.#waiting = [];
    await this.#file.appendFile(lines);
    await this.#file.datasync();
  }
}

function parseLine<T>(schema: z.ZodType<T>, line: string): T | undefined {
  try {
    return schema.parse(JSON.parse(line));
  } catch {
    // The caller decides what a line that is none of ours means.
    return undefined;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
