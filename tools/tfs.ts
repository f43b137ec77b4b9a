#!/usr/bin/env node
import { Command } from 'commander';
import { toTfsError } from '../common/errors.ts';
import { EXIT_CODES_HELP, ExitCode, exitCodeOf } from './cli/exit-codes.ts';
import { register as registerAdd } from './commands/add.ts';
import { register as registerBench } from './commands/bench.ts';
import { register as registerCompact } from './commands/compact.ts';
import { register as registerDoctor } from './commands/doctor.ts';
import { register as registerDrain } from './commands/drain.ts';
import { register as registerDump } from './commands/dump.ts';
import { register as registerErase } from './commands/erase.ts';
import { register as registerFormat } from './commands/format.ts';
import { register as registerFsck } from './commands/fsck.ts';
import { register as registerGet } from './commands/get.ts';
import { register as registerImport } from './commands/import.ts';
import { register as registerJobs } from './commands/jobs.ts';
import { register as registerMutations } from './commands/mutate.ts';
import { register as registerPlan } from './commands/plan.ts';
import { register as registerPromote } from './commands/promote.ts';
import { register as registerPurge } from './commands/purge.ts';
import { register as registerPut } from './commands/put.ts';
import { register as registerRemoveServer } from './commands/remove-server.ts';
import { register as registerSalvage } from './commands/salvage.ts';
import { register as registerScrub } from './commands/scrub.ts';
import { register as registerSign } from './commands/sign.ts';
import { register as registerStat } from './commands/stat.ts';
import { register as registerStatus } from './commands/status.ts';
import { register as registerToken } from './commands/token.ts';
import { register as registerVerify } from './commands/verify.ts';
import { register as registerWhy } from './commands/why.ts';

const program = new Command('tfs')
  .description('Stores pictures, reads them back, and looks after the cluster that keeps them.')
  .option('--home <directory>', 'home of a cluster on this machine (default: TFS_HOME, else .tfs)')
  .option('--url <url>', 'a gateway anywhere (default: TFS_URL, else the gateway of the home)')
  .option('--token-file <file>', 'token for writing (default: TFS_TOKEN, else that of the home)')
  .option('--json', 'print results as JSON, one document a line; errors stay text on standard error')
  .addHelpText('after', EXIT_CODES_HELP)
  .showHelpAfterError('("tfs help" lists the commands, "tfs help COMMAND" explains one)')
  .configureHelp({ showGlobalOptions: true })
  .exitOverride((end) => {
    process.exit(end.exitCode === 0 ? ExitCode.DONE : ExitCode.USAGE);
  });

for (const register of [
  registerPut,
  registerGet,
  registerMutations,
  registerStat,
  registerImport,
  registerStatus,
  registerDoctor,
  registerJobs,
  registerPlan,
  registerWhy,
  registerCompact,
  registerErase,
  registerPurge,
  registerPromote,
  registerAdd,
  registerDrain,
  registerRemoveServer,
  registerFormat,
  registerToken,
  registerSign,
  registerVerify,
  registerScrub,
  registerFsck,
  registerSalvage,
  registerDump,
  registerBench,
])
  register(program);

// A reader that has seen enough ("tfs stat ... | head") is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(ExitCode.DONE);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`tfs: ${toTfsError(error).message}\n`);
  process.exitCode = exitCodeOf(error);
}
