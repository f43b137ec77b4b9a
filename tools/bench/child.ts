import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync } from 'node:fs';
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
  /**
   * Ready when this port of the loopback address accepts connections, or, without it, at the first IPC message; one of
   * `{ pids }` names the processes that do its work.
   */
  readonly port?: number;
  readonly stopSignal?: NodeJS.Signals;
}

/** A process that a benchmark starts, measures and stops, by its own pid. */
export class Child {
  readonly name: string;
  readonly pid: number;
  /** Of those that do its work: it alone, as a rule. */
  pids: readonly number[];
  readonly #process: ChildProcess;
  readonly #exited: Promise<string>;
  readonly #logPath: string;
  readonly #stopSignal: NodeJS.Signals;

  private constructor(options: ChildOptions, child: ChildProcess, exited: Promise<string>) {
    this.name = options.name;
    this.pid = child.pid ?? 0;
    this.pids = [this.pid];
    this.#process = child;
    this.#exited = exited;
    this.#logPath = logPathOf(options);
    this.#stopSignal = options.stopSignal ?? 'SIGTERM';
  }

  /** Starts it and waits for nothing. */
  static spawn(options: ChildOptions): Child {
    const log = createWriteStream(logPathOf(options), { flags: 'a' });
    const child = spawn(options.command, options.args, {
      cwd: options.cwd ?? options.directory,
      env: { ...process.env, ...options.env },
      stdio: options.port === undefined ? ['ignore', 'pipe', 'pipe', 'ipc'] : ['ignore', 'pipe', 'pipe'],
    });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    const exited = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(`exit ${code ?? signal}`));
      child.once('error', (error) => resolve(error.message));
    });
    return new Child(options, child, exited);
  }

  /** Resolves when it is ready; rejects with the end of its output when it ends before. */
  static async start(options: ChildOptions): Promise<Child> {
    const child = Child.spawn(options);
    let ready = false;
    child.#process.once('message', (message) => {
      ready = true;
      const { pids } = Object(message) as { readonly pids?: readonly number[] };
      if (pids !== undefined) child.pids = pids;
    });
    let ended: string | undefined;
    void child.#exited.then((how) => {
      ended = how;
    });
    const startedAt = performance.now();
    while (!ready) {
      if (options.port !== undefined && (await accepts(options.port))) break;
      if (ended !== undefined || performance.now() - startedAt > READY_MS_MAX) {
        child.#process.kill('SIGKILL');
        throw child.failure(ended ?? 'not ready in time');
      }
      await sleep(10);
    }
    return child;
  }

  failure(why: string): Error {
    let tail = '';
    if (existsSync(this.#logPath))
      tail = readFileSync(this.#logPath, 'utf8').split('\n').slice(-15).join('\n');
    return new Error(`${this.name}: ${why}\n${tail}`);
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  cpuMicros(): number {
    return this.pids.reduce((sum, pid) => sum + cpuMicros(pid), 0);
  }

  send(message: object): void {
    this.#process.send(message);
  }

  /** The next IPC message. */
  message<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#process.once('message', (value) => resolve(value as T));
      void this.#exited.then((how) => reject(this.failure(how)));
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

const logPathOf = (options: ChildOptions): string => join(options.directory, `${options.name}.log`);

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
