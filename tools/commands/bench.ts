import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ExitCode } from '../cli/exit-codes.ts';
import { raiseExitCode } from '../cli/io.ts';
import { PACKAGE_ROOT } from '../cluster/home.ts';

export function register(program: Command): void {
  program
    .command('bench')
    .summary('measure this store beside things one knows')
    .description(
      'Measures this store beside things one knows, in the same run, and prints tables. "tfs bench -- --help" lists ' +
        'the benchmarks and their options.',
    )
    .argument('[arguments...]', 'names of benchmarks; options after "--"')
    .action(async (args: string[]) => {
      // A program of its own: it must not share a process, and its garbage, with anything else.
      const main = join(PACKAGE_ROOT, 'dist', 'tools', 'bench', 'main.js');
      const child = spawn(process.execPath, [main, ...args], { stdio: 'inherit' });
      const [code] = await once(child, 'exit');
      if (code !== 0) raiseExitCode(ExitCode.FAILED);
    });
}
