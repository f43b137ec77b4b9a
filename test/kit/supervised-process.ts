import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { EXIT_REFUSED } from '../../common/limits.ts';

export interface ProcessSpec {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Output of all its lives, appended. */
  readonly logPath: string;
  /** Resolves when it can be used, or gives up when told; the default waits for its message "ready". */
  readonly isReady?: (giveUp: AbortSignal) => Promise<void>;
}

/** As the process manager does it: a little later, for ever, and not after a refusal. */
const RESTART_MS = 200;
/** On a machine that has much else to do. */
const READY_MS_MAX = 90_000;

/** Alive now. A test that ends by an error must not leave a cluster behind. */
const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** One process that is started, signalled and, while it is supervised, started again whenever it ends. */
export class SupervisedProcess {
  readonly spec: ProcessSpec;
  /** Starts it again when it ends; not after {@link stop}, and not after it refused to start. */
  supervised = false;
  /** How often the supervisor started it again. */
  restarts = 0;
  #child: ChildProcess | undefined;
  #ready: Promise<void> = Promise.resolve();
  #restart: NodeJS.Timeout | undefined;
  #log: WriteStream | undefined;

  constructor(spec: ProcessSpec) {
    this.spec = spec;
  }

  get running(): boolean {
    return this.#child !== undefined;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.spec.name} is not running`);
    return pid;
  }

  /** Resolves when the process says that it is ready; rejects when it ends before, with its exit code as `code`. */
  async start(): Promise<void> {
    if (this.#child !== undefined) throw new Error(`${this.spec.name} runs already`);
    clearTimeout(this.#restart);
    this.#spawn();
    await this.#ready;
  }

  /** Whether it runs and got ready, when that is decided. */
  async isReady(): Promise<boolean> {
    const child = this.#child;
    if (child === undefined) return false;
    const isReady = await this.#ready.then(
      () => true,
      () => false,
    );
    return isReady && this.#child === child;
  }

  /** A supervised process comes back after a signal that ends it. */
  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  /** To the process itself, over the channel by which it says that it is ready. */
  send(message: object): void {
    if (this.#child === undefined) throw new Error(`${this.spec.name} is not running`);
    this.#child.send(message);
  }

  /** Ends it, for good, and waits until it is gone. @returns its exit code, null after a signal */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    clearTimeout(this.#restart);
    const child = this.#child;
    if (child === undefined) return null;
    const gone = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    this.#child = undefined;
    // A stopped process would take the signal only when it is woken.
    if (signal !== 'SIGKILL') child.kill('SIGCONT');
    child.kill(signal);
    return gone;
  }

  #spawn(): void {
    const { program, args, cwd, env, logPath, isReady } = this.spec;
    this.#log ??= createWriteStream(logPath, { flags: 'a' });
    const child = spawn(program, [...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#child = child;
    children.add(child);
    child.once('exit', () => children.delete(child));
    child.stdout!.pipe(this.#log, { end: false });
    child.stderr!.pipe(this.#log, { end: false });
    this.#ready = this.#untilReady(child, isReady);
    this.#ready.catch(() => undefined);
    child.once('exit', (code) => this.#ended(child, code));
    child.once('error', () => this.#ended(child, null));
  }

  #ended(child: ChildProcess, code: number | null): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    if (!this.supervised || code === EXIT_REFUSED) return;
    this.#restart = setTimeout(() => {
      this.restarts++;
      this.#spawn();
    }, RESTART_MS);
  }

  #untilReady(child: ChildProcess, isReady: ProcessSpec['isReady']): Promise<void> {
    const { name } = this.spec;
    const over = new AbortController();
    return new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${name} was not ready in ${READY_MS_MAX} ms`))),
        READY_MS_MAX,
      );
      const settle = (end: () => void) => {
        clearTimeout(timer);
        over.abort();
        end();
      };
      if (isReady === undefined) child.once('message', () => settle(resolve));
      else isReady(over.signal).then(() => settle(resolve), reject);
      child.once('error', (error) => settle(() => reject(error)));
      child.once('exit', (code, signal) =>
        settle(() =>
          reject(Object.assign(new Error(`${name} ended before it was ready: ${code ?? signal}`), { code })),
        ),
      );
    });
  }
}
