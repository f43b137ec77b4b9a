import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Figure } from './report.ts';

const TIMES = 300;
/** A cluster is started, and repaired after every few of them. */
const MS_PER_FLIP = 2_000;
const MS_MIN = 240_000;

/** Bits turned over in the files of running DataServers; the test of that, with as many as are wanted. */
export const flips: Figure = async ({ times = TIMES }) => {
  const file = join(import.meta.dirname, '..', 'flips.test.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', file], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      TFS_FLIPS: String(times),
      TFS_FLIPS_MS: String(Math.max(MS_MIN, times * MS_PER_FLIP)),
    },
  });
  let output = '';
  child.stdout.on('data', (data: Buffer) => {
    output += data.toString();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const line = /^FIGURE (.*)$/m.exec(output)?.[1] ?? 'nothing was measured';
  return { line, wrong: code === 0 ? [] : [output] };
};
