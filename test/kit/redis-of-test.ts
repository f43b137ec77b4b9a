import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { HostPort } from '../../common/ids.ts';
import { findRedisServer } from '../../tools/cluster/redis.ts';
import { freePorts } from './ports.ts';
import { answersPing, withRedis } from './redis-server.ts';
import type { TestContext } from './suite.ts';
import { tempDir } from './temp-dir.ts';

const UP_MS_MAX = 20_000;

/** A Redis that a test starts, stops, kills and empties as it likes; it keeps nothing on disk. */
export class RedisOfTest {
  readonly port: number;
  readonly #directory: string;
  #child: ChildProcess | undefined;

  private constructor(t: TestContext, port: number) {
    this.port = port;
    this.#directory = tempDir(t);
    t.defer(() => this.kill());
  }

  /** Not running yet. */
  static async open(t: TestContext): Promise<RedisOfTest> {
    return new RedisOfTest(t, await freePorts(1));
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  start(settings: readonly string[] = []): void {
    const program = findRedisServer(process.env);
    if (program === undefined) throw new Error('redis-server is not installed: run "node tools/setup.mjs"');
    const all = ['--port', String(this.port), '--save', '', '--dir', this.#directory, ...settings];
    this.#child = spawn(program, all, { stdio: 'ignore' });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async flush(): Promise<void> {
    await withRedis(this.#address, (redis) => redis.flushall());
  }

  untilUp(): Promise<void> {
    return answersPing(this.#address, AbortSignal.timeout(UP_MS_MAX));
  }

  get #address(): HostPort {
    return { host: '127.0.0.1', port: this.port };
  }
}
