import { setMaxListeners } from 'node:events';
import { basename, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { TfsError } from '../../common/errors.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { type CommandIo, openIo, raiseExitCode } from '../cli/io.ts';
import { type GlobalOptions, openApi } from '../cli/target.ts';
import { importFiles, type Outcome } from '../import/importer.ts';
import { Manifest } from '../import/manifest.ts';
import { duration, openProgress } from '../import/progress.ts';
import { type FoundFile, walk } from '../import/walk.ts';

interface ImportCommandOptions extends GlobalOptions {
  readonly manifest?: string;
  readonly parallel: number;
  readonly keepSuffix?: boolean;
  readonly any?: boolean;
}

export function register(program: Command): void {
  program
    .command('import')
    .summary('store every picture below a directory')
    .description(
      'Stores every picture below a directory. What was stored or skipped is written to a manifest, one JSON line a ' +
        'file (path, name, sha1), and is not sent again: after an interruption run the same command.',
    )
    .argument('<directory>')
    .option('-m, --manifest <file>', 'default: ./<directory name>.tfs-manifest.jsonl')
    .option('-j, --parallel <count>', 'files at once', parallelOf, 16)
    .option('--keep-suffix', "store each file's own suffix with its name")
    .option('--any', 'send files that do not look like pictures too')
    .action(async (directory: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<ImportCommandOptions>();
      await runImport(resolve(directory), options, openIo(options.json === true));
    });
}

async function runImport(directory: string, options: ImportCommandOptions, io: CommandIo): Promise<void> {
  const startedMs = performance.now();
  const api = await openApi(options, { writes: true, connections: options.parallel });
  const manifestPath = resolve(options.manifest ?? `${basename(directory) || 'root'}.tfs-manifest.jsonl`);
  const unreadable: string[] = [];
  const found = await walk(
    directory,
    (path, error) => void unreadable.push(`${path}: ${error.message}`),
  ).catch((cause: Error) => {
    throw new TfsError('CONFIG', `cannot read ${directory}: ${cause.message}`, { cause });
  });
  // Its own manifest may lie below the directory.
  const files = found.filter((file) => resolve(directory, file.path) !== manifestPath);
  const manifest = await Manifest.open(manifestPath, directory);
  const todo = files.filter((file) => manifest.find(file) === undefined);
  const summary = new Summary(files.length - todo.length);
  for (const line of unreadable) io.fail(new TfsError('IO', line));
  const progress = openProgress(
    { files: todo.length, bytes: todo.reduce((sum, file) => sum + file.size, 0) },
    process.stderr.isTTY === true,
  );
  const interruption = onInterrupt();
  try {
    await importFiles(todo, {
      directory,
      store: api,
      manifest,
      parallel: options.parallel,
      keepSuffix: options.keepSuffix === true,
      anyType: options.any === true,
      ...interruption,
      onProgress: (file, outcome) => {
        summary.add(file, outcome);
        progress.step(file.size);
      },
    });
  } finally {
    interruption.release();
    progress.stop();
    await manifest.close();
    await api.close();
    for (const { path, error } of summary.failed) io.fail(error, path);
    for (const { path, why } of summary.skippedFiles) io.note(`skipped ${path}: ${why}`);
    const seconds = (performance.now() - startedMs) / 1000;
    io.result(summary.json(manifestPath, seconds), summary.text(manifestPath, seconds));
  }
  if (interruption.stop.aborted) {
    io.note('interrupted: run the same command to go on where it was');
    process.exitCode = ExitCode.INTERRUPTED;
  } else if (summary.failed.length > 0) {
    io.note(`${summary.failed.length} files were not stored: run the same command to try them again`);
    raiseExitCode(ExitCode.FAILED);
  }
}

/** The first interruption lets files in flight finish; the second gives them up. */
function onInterrupt(): { stop: AbortSignal; abandon: AbortSignal; release: () => void } {
  const stop = new AbortController();
  const abandon = new AbortController();
  // Every upload in flight listens to it.
  setMaxListeners(0, abandon.signal);
  const handler = () => {
    if (stop.signal.aborted) abandon.abort(new TfsError('CLOSED', 'interrupted'));
    stop.abort();
  };
  process.on('SIGINT', handler);
  process.on('SIGTERM', handler);
  return {
    stop: stop.signal,
    abandon: abandon.signal,
    release: () => {
      process.off('SIGINT', handler);
      process.off('SIGTERM', handler);
    },
  };
}

class Summary {
  readonly failed: { path: string; error: TfsError }[] = [];
  readonly skippedFiles: { path: string; why: string }[] = [];
  #stored = 0;
  #deduplicated = 0;
  #bytes = 0;
  readonly #before: number;

  /** @param before files that an earlier run has handled */
  constructor(before: number) {
    this.#before = before;
  }

  add(file: FoundFile, outcome: Outcome): void {
    if (outcome.kind === 'failed') this.failed.push({ path: file.path, error: outcome.error });
    else if (outcome.kind === 'skipped') this.skippedFiles.push({ path: file.path, why: outcome.why });
    else {
      this.#stored++;
      this.#bytes += file.size;
      if (outcome.deduplicated) this.#deduplicated++;
    }
  }

  json(manifest: string, seconds: number): object {
    return {
      manifest,
      stored: this.#stored,
      deduplicated: this.#deduplicated,
      skipped: this.skippedFiles.length,
      failed: this.failed.length,
      before: this.#before,
      bytes: this.#bytes,
      seconds: Math.round(seconds * 1000) / 1000,
    };
  }

  text(manifest: string, seconds: number): string {
    const parts = [
      `stored ${this.#stored} pictures (${(this.#bytes / 2 ** 20).toFixed(1)} MiB) in ${duration(seconds)}`,
      ...(this.#deduplicated > 0
        ? [`${this.#deduplicated} of them were there already under another name`]
        : []),
      ...(this.#before > 0 ? [`${this.#before} files were done by an earlier run`] : []),
      ...(this.skippedFiles.length > 0 ? [`skipped ${this.skippedFiles.length}`] : []),
      ...(this.failed.length > 0 ? [`${this.failed.length} failed`] : []),
    ];
    return `${parts.join('; ')}\nmanifest: ${manifest}`;
  }
}

function parallelOf(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 256)
    throw new InvalidArgumentError('give a whole number from 1 to 256');
  return value;
}
