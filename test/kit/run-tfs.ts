import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const ROOT = join(import.meta.dirname, '..', '..');

export interface CommandEnd {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
  /** Standard output of a run with `--json`: one document a line. */
  readonly json: Record<string, unknown>[];
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: Buffer;
  readonly onStart?: (child: ChildProcess) => void;
}

let built: Promise<unknown> | undefined;

/**
 * Compiles what is not compiled yet. Compiled code starts several times faster than sources through a loader, which
 * counts where a test starts many processes.
 */
export function ensureBuilt(): Promise<unknown> {
  built ??= promisify(execFile)(process.execPath, [join(ROOT, 'tools', 'setup.mjs'), '--no-redis']);
  return built;
}

/** Runs the command line without the environment of whoever runs the tests. */
export async function runTfs(args: readonly string[], options: RunOptions = {}): Promise<CommandEnd> {
  await ensureBuilt();
  const child = spawn(process.execPath, [join(ROOT, 'dist', 'tools', 'tfs.js'), ...args], {
    cwd: options.cwd ?? ROOT,
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  options.onStart?.(child);
  child.stdin.end(options.stdin ?? '');
  const out: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => out.push(data));
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString();
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      const stdout = Buffer.concat(out);
      const lines = args.includes('--json') ? stdout.toString().split('\n').filter(Boolean) : [];
      resolve({ code, stdout, stderr, json: lines.map((line) => JSON.parse(line)) });
    });
  });
}
