import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMicros } from './proc.ts';

const READY_MS_MAX = 60_000;

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly directory: string;
  /** Ready when this port of the loopback address accepts connections, or, without it, at the first IPC message. */
  readonly port?: number;
  readonly stopSignal?: NodeJS.Signals;
}

/** A process that a benchmark starts, measures and stops, by its own pid. */
export class Child {
  readonly name: string;
  readonly pid: number;
  readonly #process: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #stopSignal: NodeJS.Signals;

  private constructor(options: ChildOptions, child: ChildProcess, exited: Promise<void>) {
    this.name = options.name;
    this.pid = child.pid!;
    this.#process = child;
    this.#exited = exited;
    this.#stopSignal = options.stopSignal ?? 'SIGTERM';
  }

  /** Resolves when it is ready; rejects with the end of its output when it ends before. */
  static async start(options: ChildOptions): Promise<Child> {
    const logPath = join(options.directory, `${options.name}.log`);
    const log = createWriteStream(logPath, { flags: 'a' });
    const child = spawn(options.command, options.args, {
      cwd: options.cwd ?? options.directory,
      env: { ...process.env, ...options.env },
      stdio: options.port === undefined ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['ignore', 'pipe', 'pipe'],
    });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    let ended: string | undefined;
    const exited = new Promise<void>((resolve) => {
      child.once('exit', (code, signal) => {
        ended = `exit ${code ?? signal}`;
        resolve();
      });
      child.once('error', (error) => {
        ended = error.message;
        resolve();
      });
    });
    let told = false;
    child.once('message', () => {
      told = true;
    });
    const startedAt = performance.now();
    while (!(options.port === undefined ? told : await accepts(options.port))) {
      const late = performance.now() - startedAt > READY_MS_MAX;
      if (ended !== undefined || late) {
        child.kill('SIGKILL');
        const tail = readFileSync(logPath, 'utf8').split('\n').slice(-15).join('\n');
        throw new Error(`${options.name} did not start (${ended ?? 'not ready in time'}):\n${tail}`);
      }
      await sleep(20);
    }
    return new Child(options, child, exited);
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  cpuMicros(): number {
    return cpuMicros(this.pid);
  }

  send(message: object): void {
    this.#process.send(message);
  }

  /** The next IPC message. */
  message<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#process.once('message', (value) => resolve(value as T));
      void this.#exited.then(() => reject(new Error(`${this.name} ended`)));
    });
  }

  async stop(signal: NodeJS.Signals = this.#stopSignal): Promise<void> {
    if (!this.alive) return;
    this.#process.kill(signal);
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }
}

/** Arguments for node that run `module` as this process itself was run: compiled, or from the sources. */
export function nodeArgs(module: string): string[] {
  return extname(module) === '.ts' ? ['--import', 'tsx', module] : [module];
}

/** A module beside the caller's, with the caller's own extension. */
export const sibling = (meta: ImportMeta, path: string): string =>
  join(meta.dirname, `${path}${extname(meta.filename)}`);

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
