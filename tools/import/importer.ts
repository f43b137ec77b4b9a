import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { sniff } from '../../client/gateway/sniff.ts';
import { type ErrorCode, TfsError, toTfsError } from '../../common/errors.ts';
import { MediaType } from '../../common/wire/messages.ts';
import type { StoredAnswer, Upload } from '../cli/gateway-api.ts';
import type { Manifest } from './manifest.ts';
import type { FoundFile } from './walk.ts';

/** What the import needs of a gateway. */
export interface Store {
  put(upload: Upload): Promise<StoredAnswer>;
}

export interface ImportOptions {
  readonly directory: string;
  readonly store: Store;
  readonly manifest: Manifest;
  /** Files at once. */
  readonly parallel: number;
  readonly keepSuffix: boolean;
  /** Send whatever it is; the gateway decides. */
  readonly anyType: boolean;
  /** Aborted: no new file is begun. */
  readonly stop: AbortSignal;
  /** Aborted: uploads in flight are given up. */
  readonly abandon: AbortSignal;
  /** After every file. */
  readonly onProgress: (file: FoundFile, outcome: Outcome) => void;
}

export type Outcome =
  | { readonly kind: 'stored'; readonly deduplicated: boolean }
  | { readonly kind: 'skipped'; readonly why: string }
  | { readonly kind: 'failed'; readonly error: TfsError };

/** Failures in a row after which the rest would fail too. */
const FAILURES_IN_A_ROW_MAX = 5;
/** Sent from memory up to this, else as a stream. */
const WHOLE_BYTES_MAX = 1024 * 1024;
/** Enough of a file to tell what it is, an SVG with a long prolog included. */
const SNIFF_BYTES = 64 * 1024;
/** Answers that will be the same next time. */
const SKIPPED_CODES = new Set(['UNSUPPORTED_MEDIA', 'TOO_LARGE', 'EMPTY_BODY']);

/**
 * Stores the files one after the other, several at once, and writes each into the manifest before it counts.
 *
 * @returns when all were handled, or when `stop` was aborted and what was in flight has ended
 * @throws TfsError UNAUTHORIZED or FORBIDDEN at once, UNAVAILABLE after several failures in a row
 */
export async function importFiles(files: readonly FoundFile[], options: ImportOptions): Promise<void> {
  let next = 0;
  let failuresInARow = 0;
  let fatal: TfsError | undefined;
  const worker = async () => {
    while (next < files.length && fatal === undefined && !options.stop.aborted) {
      const file = files[next++];
      if (file === undefined) return;
      const outcome = await importOne(file, options);
      if (outcome === undefined) return;
      options.onProgress(file, outcome);
      failuresInARow = outcome.kind === 'failed' ? failuresInARow + 1 : 0;
      if (outcome.kind === 'failed') fatal ??= fatalFailure(outcome.error, failuresInARow);
    }
  };
  await Promise.all(Array.from({ length: options.parallel }, worker));
  if (fatal !== undefined) throw fatal;
}

/** The next file would fail for the same reason. */
const FATAL_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'UNAUTHORIZED',
  'FORBIDDEN',
  'QUOTA_EXCEEDED',
]);

function fatalFailure(error: TfsError, inARow: number): TfsError | undefined {
  if (FATAL_CODES.has(error.code)) return error;
  if (inARow < FAILURES_IN_A_ROW_MAX || !error.retryable) return undefined;
  return new TfsError('UNAVAILABLE', `gave up after ${inARow} failures in a row: ${error.message}`, {
    cause: error,
  });
}

/** @returns undefined when it was abandoned */
async function importOne(file: FoundFile, options: ImportOptions): Promise<Outcome | undefined> {
  const path = join(options.directory, file.path);
  const about = { path: file.path, size: file.size, mtimeMs: file.mtimeMs };
  try {
    const why = options.anyType ? undefined : await whyNotAPicture(path, file.size);
    if (why !== undefined) return await skip(options.manifest, about, why);
    const stored = await options.store.put(await uploadOf(path, file, options));
    await options.manifest.append({ ...about, name: stored.name, sha1: stored.sha1, url: stored.url });
    return { kind: 'stored', deduplicated: stored.deduplicated };
  } catch (thrown) {
    if (options.abandon.aborted) return undefined;
    const error = toTfsError(thrown, 'IO');
    if (SKIPPED_CODES.has(error.code)) return skip(options.manifest, about, error.message);
    return { kind: 'failed', error };
  }
}

async function skip(manifest: Manifest, about: FoundFile, why: string): Promise<Outcome> {
  await manifest.append({ ...about, skipped: why });
  return { kind: 'skipped', why };
}

async function uploadOf(path: string, file: FoundFile, options: ImportOptions): Promise<Upload> {
  // Bounded and printable whatever the path is.
  const key = createHash('sha256').update(`${options.manifest.id}\n${file.path}`).digest('hex');
  const suffix = options.keepSuffix ? extname(file.path).toLowerCase() : '';
  const more = { key, signal: options.abandon, ...(suffix === '' ? {} : { suffix }) };
  if (file.size > WHOLE_BYTES_MAX) return { body: () => createReadStream(path), size: file.size, ...more };
  const bytes = await readFile(path);
  return { body: () => bytes, size: bytes.length, ...more };
}

async function whyNotAPicture(path: string, size: number): Promise<string | undefined> {
  if (size === 0) return 'empty';
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(Math.min(size, SNIFF_BYTES));
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    return sniff(head.subarray(0, bytesRead)) === MediaType.UNKNOWN ? 'not a picture' : undefined;
  } finally {
    await file.close();
  }
}
