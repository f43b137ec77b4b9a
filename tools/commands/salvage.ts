import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { TfsError } from '../../common/errors.ts';
import { parseBlockFileName } from '../../common/format/file-names.ts';
import type { BlockId } from '../../common/ids.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { type CommandIo, openIo, raiseExitCode } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { findOpsLog, type OpsBeside, openBlockFile, parseDigit } from '../offline/block-files.ts';
import { digitOfHome } from '../offline/cluster-digit.ts';
import { openByteProgress } from '../offline/progress.ts';
import { type SalvageReport, salvage } from '../offline/salvage.ts';

interface SalvageCommandOptions extends GlobalOptions {
  readonly output: string;
  readonly digit?: string;
  readonly block?: string;
  readonly includeDeleted?: boolean;
  readonly keepDamaged?: boolean;
}

export function register(program: Command): void {
  program
    .command('salvage')
    .summary('extract every picture from one block file')
    .description(
      'Extracts every picture from one block file alone, with nothing else running, into a file for each name. What is ' +
        'damaged is skipped. If the ops log of the block lies beside it, deleted pictures are left out and second ' +
        'names are made too. The block file is only read.',
    )
    .argument('<blockfile>', 'such as mounts/m1/blocks/65537.0.blk, or a copy of it')
    .requiredOption('-o, --output <directory>', 'where the pictures go')
    .option('--digit <n>', 'second character of the names (default: that of the cluster in --home, else 1)')
    .option('--block <id>', 'id of the block, where neither its superblock nor its file name tells')
    .option('--include-deleted', 'extract deleted pictures too')
    .option('--keep-damaged', 'write damaged pictures too, as NAME.damaged.EXT')
    .action(async (path: string, _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<SalvageCommandOptions>();
      const io = openIo(options.json === true);
      const { source, superblock, why } = await openBlockFile(path, { tolerant: true });
      try {
        const block = superblock?.block ?? blockOf(options.block, path);
        if (superblock === undefined)
          io.note(
            `${path}: ${why}. Pictures are found by their SHA-1 alone and named after block ${block}; if another ` +
              'replica of the block is there, salvage that one as well',
          );
        const ops = superblock === undefined ? undefined : opsOf(await findOpsLog(path, superblock), io);
        const home = homeOf(options);
        const digit =
          options.digit === undefined
            ? ((await digitOfHome(home, superblock?.clusterUuid)) ?? 1)
            : parseDigit(options.digit);
        const progress = openByteProgress(source.size, process.stderr.isTTY === true && !io.json);
        const report = await salvage({
          source,
          superblock,
          block,
          ops: ops?.state,
          outputDirectory: resolve(options.output),
          clusterDigit: digit,
          includeDeleted: options.includeDeleted === true,
          keepDamaged: options.keepDamaged === true,
          onItem: (item) => {
            if (io.json) io.result({ kind: 'picture', ...item }, '');
            if (item.outcome === 'damaged')
              io.note(
                `${item.name} at ${item.offset}: ${item.size} bytes do not match their checksum; skipped`,
              );
          },
          onProgress: (bytes, { extracted }) => progress.at(bytes, `${extracted} pictures`),
        }).finally(() => progress.stop());
        const summary = { block, digit, unreadableBytes: source.unreadableBytes, ...report };
        io.result({ kind: 'summary', ...summary }, textOf(report, options.output));
        if (source.unreadableBytes > 0)
          io.note(`the disk could not read ${source.unreadableBytes} bytes of ${path}`);
        if (report.damaged > 0 || report.holes > 0 || source.unreadableBytes > 0) {
          io.note(
            'some pictures are damaged here; salvage another replica of this block into the same directory',
          );
          raiseExitCode(ExitCode.FAILED);
        }
      } finally {
        await source.close();
      }
    });
}

function opsOf(found: OpsBeside | string, io: CommandIo): OpsBeside | undefined {
  if (typeof found === 'string') {
    io.note(`${found}: deleted pictures are extracted too, and second names are not known`);
    return undefined;
  }
  if (found.file.end === 'corrupt')
    io.note(
      `${found.path} is damaged at ${found.file.goodLength} (${found.file.why}): some deletes may be missing`,
    );
  return found;
}

function blockOf(option: string | undefined, path: string): BlockId {
  const named = parseBlockFileName(basename(path));
  const block = option === undefined ? named?.block : Number(option);
  if (block === undefined || !Number.isInteger(block) || block < 0 || block > 0xffff_ffff)
    throw new TfsError(
      'CONFIG',
      `${path}: the superblock is damaged and the file name does not tell the block: give --block ID, the number at ` +
        'the start of the name that the file had in its mount',
    );
  return block as BlockId;
}

function textOf(report: SalvageReport, directory: string): string {
  const parts = [
    `${count(report.extracted, 'picture')}, ${report.bytes} bytes, in ${directory}`,
    ...(report.secondNames > 0 ? [count(report.secondNames, 'second name')] : []),
    ...(report.deleted > 0 ? [`${report.deleted} deleted and left out (--include-deleted)`] : []),
    ...(report.damaged > 0 ? [`${report.damaged} damaged`] : []),
    ...(report.holes > 0 ? [`${count(report.holes, 'span')} in which nothing verifies`] : []),
  ];
  return parts.join(' · ');
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
