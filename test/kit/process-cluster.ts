import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import {
  type Config,
  type ConfigInput,
  configPath,
  defaultConfig,
  parseConfig,
} from '../../common/config.ts';
import { serverId } from '../../common/ids.ts';
import { ensureClusterKey, ensureGatewayRole, ensureToken, type Token } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { formatMount } from '../../dataserver/mount.ts';
import { freePorts } from './ports.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const READY_MS_MAX = 30_000;

export type ProcessName = `ns${number}` | `ds${number}` | `gw${number}`;

export interface ProcessClusterOptions {
  readonly mounts?: number;
  readonly gateways?: number;
  /** Overrides of sections of the configuration. */
  readonly config?: Partial<ConfigInput>;
}

/**
 * A whole cluster as real processes started from the sources, without a process manager, in a temporary home on free
 * ports: what the end-to-end and fault tests kill, stop and restart.
 */
export class ProcessCluster {
  readonly home: string;
  readonly config: Config;
  readonly token: Token;
  readonly #children = new Map<ProcessName, ChildProcess>();
  readonly #gateways: number;

  private constructor(home: string, config: Config, token: Token, gateways: number) {
    this.home = home;
    this.config = config;
    this.token = token;
    this.#gateways = gateways;
  }

  static async create(options: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const home = mkdtempSync(join(tmpdir(), 'tfs-cluster-'));
    const uuid = randomBytes(16).toString('hex');
    const gateways = options.gateways ?? 1;
    const mounts = options.mounts ?? 3;
    const base = defaultConfig({ uuid, mounts, basePort: await freePorts(40) });
    const input: ConfigInput = {
      ...base,
      dataserver: { blockBytes: 4 << 20, spareBlocks: 1 },
      ...options.config,
      gateway: { ...base.gateway, maxPictureBytes: 1 << 20, workers: 1, ...options.config?.gateway },
    };
    writeFileSync(configPath(home), JSON.stringify(input, undefined, 2));
    const config = parseConfig(input, home);
    const keyring = Keyring.ofSecret(await ensureClusterKey(home));
    await ensureGatewayRole(home, () => keyring.exportRole('gateway'));
    const token = await ensureToken(home);
    for (const mount of config.mounts) {
      await formatMount({ path: mount.path, clusterUuid: uuid, server: serverId(mount.id) });
    }
    mkdirSync(join(home, 'logs'), { recursive: true });
    return new ProcessCluster(home, config, token, gateways);
  }

  /** Creates, starts, and waits until a picture could be stored. */
  static async start(options: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const cluster = await ProcessCluster.create(options);
    try {
      await cluster.startAll();
      await cluster.writable();
    } catch (error) {
      const logs = cluster.logs();
      await cluster.destroy();
      throw new Error(`the cluster did not start: ${String(error)}\n${logs}`, { cause: error });
    }
    return cluster;
  }

  get url(): string {
    return `http://${this.config.gateway.host}:${this.config.gateway.port}`;
  }

  get names(): ProcessName[] {
    return [
      ...this.config.nameservers.map((ns): ProcessName => `ns${ns.id}`),
      ...this.config.mounts.map((mount): ProcessName => `ds${mount.id}`),
      ...Array.from({ length: this.#gateways }, (_, i): ProcessName => `gw${i}`),
    ];
  }

  pid(name: ProcessName): number {
    const pid = this.#children.get(name)?.pid;
    if (pid === undefined) throw new Error(`${name} is not running`);
    return pid;
  }

  running(name: ProcessName): boolean {
    return this.#children.has(name);
  }

  async startAll(): Promise<void> {
    await Promise.all(this.names.map((name) => this.startOne(name)));
  }

  /** Resolves when the process says that it is ready; rejects with its log when it ends before. */
  async startOne(name: ProcessName): Promise<void> {
    const kind = name.slice(0, 2);
    const id = name.slice(2);
    const main =
      kind === 'ns' ? 'nameserver/main.ts' : kind === 'ds' ? 'dataserver/main.ts' : 'client/gateway/main.ts';
    const log = createWriteStream(this.#logPath(name), { flags: 'a' });
    const child = spawn(process.execPath, ['--import', 'tsx', join(ROOT, main)], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: {
        ...process.env,
        TFS_HOME: this.home,
        UV_THREADPOOL_SIZE: '8',
        ...(kind === 'ns'
          ? { TFS_NAMESERVER: id }
          : kind === 'ds'
            ? { TFS_SERVER: id }
            : { NODE_APP_INSTANCE: id }),
      },
    });
    child.stdout!.pipe(log, { end: false });
    child.stderr!.pipe(log, { end: false });
    this.#children.set(name, child);
    child.once('exit', () => {
      if (this.#children.get(name) === child) this.#children.delete(name);
    });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${name} was not ready in ${READY_MS_MAX} ms`)),
        READY_MS_MAX,
      );
      child.once('message', () => {
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', (code, signal) => {
        clearTimeout(timer);
        reject(Object.assign(new Error(`${name} ended before it was ready: ${code ?? signal}`), { code }));
      });
    });
  }

  /** Sends a signal and waits until the process is gone. @returns its exit code, null after a signal */
  async stopOne(name: ProcessName, signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#children.get(name);
    if (child === undefined) return null;
    const gone = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    child.kill(signal);
    return gone;
  }

  async killAll(): Promise<void> {
    await Promise.all(this.names.map((name) => this.stopOne(name, 'SIGKILL')));
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.names.map((name) => this.stopOne(name, 'SIGTERM')));
  }

  /** Resolves once an upload succeeds. @returns its name and how long that took */
  async writable(timeoutMs = 30_000): Promise<{ name: string; waitedMs: number }> {
    const startedAt = performance.now();
    let last = '';
    while (performance.now() - startedAt < timeoutMs) {
      try {
        const reply = await this.put(tinyPng(randomBytes(8)));
        if (reply.status === 201) return { name: reply.name, waitedMs: performance.now() - startedAt };
        last = `${reply.status} ${reply.text}`;
      } catch (error) {
        last = String(error);
      }
      await sleep(100);
    }
    throw new Error(`not writable within ${timeoutMs} ms: ${last}`);
  }

  async put(
    body: Buffer,
    { query = '', headers = {} }: { query?: string; headers?: Record<string, string> } = {},
  ): Promise<{ status: number; name: string; text: string; json: Record<string, unknown> }> {
    const reply = await request(`${this.url}/images${query}`, {
      method: 'POST',
      body,
      headers: {
        authorization: `Bearer ${this.token.text}`,
        'content-type': 'application/octet-stream',
        ...headers,
      },
    });
    const text = await reply.body.text();
    let json: Record<string, unknown> = {};
    if (text.startsWith('{')) json = JSON.parse(text) as Record<string, unknown>;
    return { status: reply.statusCode, name: String(json['name'] ?? ''), text, json };
  }

  async get(
    name: string,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; headers: Record<string, string | string[] | undefined>; body: Buffer }> {
    const reply = await request(`${this.url}/images/${name}`, { headers });
    return {
      status: reply.statusCode,
      headers: reply.headers,
      body: Buffer.from(await reply.body.arrayBuffer()),
    };
  }

  /** POST or DELETE with the token. @returns the status */
  async act(method: 'POST' | 'DELETE', path: string): Promise<number> {
    const reply = await request(`${this.url}/images/${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token.text}` },
    });
    await reply.body.dump();
    return reply.statusCode;
  }

  mountPath(server: number): string {
    const mount = this.config.mounts.find((m) => m.id === server);
    if (mount === undefined) throw new Error(`no mount ${server}`);
    return mount.path;
  }

  logs(): string {
    return this.names
      .map((name) => {
        try {
          return `--- ${name}\n${readFileSync(this.#logPath(name), 'utf8').split('\n').slice(-25).join('\n')}`;
        } catch {
          return `--- ${name}: no log`;
        }
      })
      .join('\n');
  }

  /** Ends every process and removes the home. */
  async destroy(): Promise<void> {
    await this.killAll();
    rmSync(this.home, { recursive: true, force: true });
  }

  #logPath(name: ProcessName): string {
    return join(this.home, 'logs', `${name}.log`);
  }
}

/** A PNG header with a unique tail: an image by its first bytes, never the same twice. */
export function tinyPng(tail: Buffer, size = 0): Buffer {
  const head = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
  const body = Buffer.concat([head, tail]);
  return size > body.length ? Buffer.concat([body, Buffer.alloc(size - body.length, tail[0] ?? 1)]) : body;
}
