import { resolve } from 'node:path';
import type { Command } from 'commander';
import { toTfsError } from '../../common/errors.ts';
import { openIo } from '../cli/io.ts';
import type { GlobalOptions } from '../cli/target.ts';
import { type FsckReport, fsck } from '../offline/fsck/fsck.ts';
import type { StepResult } from '../offline/fsck/step.ts';
import { type ByteProgress, openByteProgress } from '../offline/progress.ts';

/** Not those of other commands: a script that checks disks asks for just these three. */
const FsckExit = { CLEAN: 0, DAMAGE: 1, NOT_CHECKED: 2 } as const;

export function register(program: Command): void {
  program
    .command('fsck')
    .summary('check everything on a mount')
    .description(
      'Checks the mount of a DataServer, stopped or running, and changes nothing: every superblock, every record with ' +
        'its picture, every ops log, the index files, the SHA-1 index.',
    )
    .argument('<mount>', 'the directory, as in mounts[].path of config.json')
    .addHelpText('after', '\nExit codes of fsck: 0 clean · 1 damage found · 2 could not check')
    .action(async (path: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions>();
      const io = openIo(options.json === true);
      let progress: ByteProgress | undefined;
      try {
        const report = await fsck({
          path: resolve(path),
          onStep: (step) => {
            progress?.stop();
            if (!io.json) io.result(step, textOf(step));
            for (const line of step.damage) io.note(`${step.name}: ${line}`);
          },
          onProgress: (bytes, total) => {
            progress ??= openByteProgress(total, process.stderr.isTTY === true && !io.json);
            progress.at(bytes, '');
          },
        });
        io.result(report, summaryOf(report));
        process.exitCode = report.clean ? FsckExit.CLEAN : FsckExit.DAMAGE;
      } catch (error) {
        progress?.stop();
        io.note(`could not check ${path}: ${toTfsError(error).message}`);
        process.exitCode = FsckExit.NOT_CHECKED;
      }
    });
}

function textOf(step: StepResult): string {
  const state = step.damage.length === 0 ? 'ok    ' : 'DAMAGE';
  const line = `${state}  ${step.name.padEnd(12)} ${step.checked.padEnd(28)} ${step.ms} ms`;
  return [line, ...step.notes.map((note) => `        ${note}`)].join('\n');
}

function summaryOf(report: FsckReport): string {
  const what = `DataServer ${report.server}, ${report.blocks} blocks`;
  return report.clean
    ? `clean: ${report.mount} (${what})`
    : `DAMAGE on ${report.mount} (${what}): standard error says what, and what to do. Nothing was changed`;
}
