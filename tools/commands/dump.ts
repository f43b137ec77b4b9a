import { once } from 'node:events';
import type { Command } from 'commander';
import { TfsError } from '../../common/errors.ts';
import { readExactly } from '../../common/format/source.ts';
import { ExitCode } from '../cli/exit-codes.ts';
import { type CommandIo, openIo, raiseExitCode } from '../cli/io.ts';
import { type GlobalOptions, homeOf } from '../cli/target.ts';
import { findOpsLog, openBlockFile, parseDigit, readOpsLog, readWhole } from '../offline/block-files.ts';
import { digitOfHome } from '../offline/cluster-digit.ts';
import { type DumpLine, dumpBlock, dumpIdx, dumpOps, type Emit } from '../offline/dump.ts';
import { dumpDrops } from '../offline/dump-drops.ts';

interface DumpOptions extends GlobalOptions {
  readonly digit?: string;
  readonly ops: boolean;
  readonly check: boolean;
}

export function register(program: Command): void {
  program
    .command('dump')
    .summary('print a block file record by record')
    .description(
      'Prints what is in a block file: superblock, every record with its name, damage, where it ends, and the ops log ' +
        'that lies beside it. Also prints an ops log (.ops), an index (.idx) or a drop log by itself. Files are only read.',
    )
    .argument('<file...>', '.blk, .ops or .idx files or the drop.log of a mount, or copies of them')
    .option('--digit <n>', 'second character of the names (default: that of the cluster in --home, else 1)')
    .option('--no-ops', 'leave out the ops log that lies beside a block')
    .option('--no-check', 'do not read the pictures, only their headers')
    .action(async (paths: string[], _own: unknown, command: Command) => {
      const options = command.optsWithGlobals<DumpOptions>();
      const io = openIo(options.json === true);
      const emit = ({ value, text }: DumpLine): void | Promise<void> => {
        io.result(value, text);
        if (process.stdout.writableNeedDrain) return once(process.stdout, 'drain').then(() => undefined);
      };
      for (const path of paths) {
        try {
          if (!(await dumpFile(path, options, io, emit))) raiseExitCode(ExitCode.FAILED);
        } catch (error) {
          io.fail(error);
        }
      }
    });
}

/** @returns whether it is sound */
async function dumpFile(path: string, options: DumpOptions, io: CommandIo, emit: Emit): Promise<boolean> {
  const { source, superblock, why } = await openBlockFile(path);
  try {
    if (superblock === undefined)
      return await dumpOther(path, (await readExactly(source, 0, 4)) ?? NOTHING, why!, emit);
    const found = await findOpsLog(path, superblock);
    if (typeof found === 'string') io.note(found);
    const ops = typeof found === 'string' ? undefined : found;
    const sound = await dumpBlock({
      source,
      superblock,
      ops: ops?.state,
      clusterDigit:
        options.digit === undefined
          ? ((await digitOfHome(homeOf(options), superblock.clusterUuid)) ?? 1)
          : parseDigit(options.digit),
      checkPayloads: options.check,
      emit,
    });
    return ops === undefined || !options.ops ? sound : dumpOps(ops.path, ops.file, emit) && sound;
  } finally {
    await source.close();
  }
}

const NOTHING = Buffer.alloc(0);

async function dumpOther(path: string, head: Buffer, why: string, emit: Emit): Promise<boolean> {
  const magic = head.toString('latin1');
  if (magic === 'TFSI') return dumpIdx(path, await readWhole(path), emit);
  if (magic === 'TFSD') return dumpDrops(path, await readWhole(path), emit);
  if (magic !== 'TFSO')
    throw new TfsError(
      'CORRUPT',
      `${path}: ${why}. If it is a block, "tfs salvage" still finds its pictures`,
    );
  const log = await readOpsLog(path);
  if (typeof log === 'string') throw new TfsError('CORRUPT', log);
  return dumpOps(path, log.file, emit);
}
