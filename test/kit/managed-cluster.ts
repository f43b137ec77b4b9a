import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ConfigInput, configPath, defaultConfig } from '../../common/config.ts';
import { freePorts } from './ports.ts';
import { ensureBuilt, runTfs } from './run-tfs.ts';
import type { TestContext } from './suite.ts';
import { tempDir } from './temp-dir.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export interface ToolEnd {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ManagedProcess {
  readonly kind: string;
  readonly id: string;
  readonly pid: number | null;
  readonly state: string;
  readonly role: string | null;
  readonly mount: string | null;
  readonly address: string;
}

export interface ManagedStatus {
  readonly cluster: { readonly writable: boolean; readonly reason: string | null };
  readonly processes: readonly ManagedProcess[];
}

/** A home in a temporary directory, and the tools that start, look at and stop a cluster there under a real PM2. */
export class ManagedCluster {
  readonly home: string;
  /** The gateway's. */
  readonly port: number;
  readonly #env: Record<string, string>;

  static async create(t: TestContext, env: Record<string, string> = {}): Promise<ManagedCluster> {
    await ensureBuilt();
    const cluster = new ManagedCluster(tempDir(t, 'tfs-home-'), await freePorts(40), env);
    t.defer(() => cluster.tool('stop'));
    return cluster;
  }

  private constructor(home: string, port: number, env: Record<string, string>) {
    this.home = home;
    this.port = port;
    this.#env = env;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The default with small blocks, so that a test does not fill a disk with spares. */
  configure(change: (config: ConfigInput) => ConfigInput = (config) => config): void {
    const base = defaultConfig({ uuid: randomBytes(16).toString('hex'), basePort: this.port });
    const small: ConfigInput = {
      ...base,
      dataserver: { blockBytes: 4 << 20, spareBlocks: 1 },
      gateway: { ...base.gateway, maxPictureBytes: 1 << 20 },
    };
    writeFileSync(configPath(this.home), JSON.stringify(change(small)));
  }

  /** Runs start, stop or reload as npm does. */
  tool(name: 'start' | 'stop' | 'reload', args: readonly string[] = [], env = {}): Promise<ToolEnd> {
    const child = spawn(process.execPath, [join(ROOT, 'dist', 'tools', `${name}.js`), ...args], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'] ?? '', HOME: this.home, TFS_HOME: this.home, ...this.#env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });
  }

  async status(): Promise<ManagedStatus> {
    const end = await runTfs(['status', '--json'], { env: { TFS_HOME: this.home } });
    if (end.code !== 0) throw new Error(end.stderr);
    return end.json[0] as unknown as ManagedStatus;
  }

  /** Of the cluster's processes, without PM2's own. */
  async pids(): Promise<number[]> {
    return (await this.status()).processes.flatMap(({ pid }) => (pid === null ? [] : [pid]));
  }
}
