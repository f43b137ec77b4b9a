import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import {
  type Config,
  type ConfigInput,
  configPath,
  defaultConfig,
  loadConfig,
  parseConfig,
} from '../../common/config.ts';
import { type HostPort, serverId } from '../../common/ids.ts';
import { ensureClusterKey, ensureGatewayRole, ensureToken, type Token } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { formatMount } from '../../dataserver/mount.ts';
import type { Namespaces } from './namespaces.ts';
import { freePorts } from './ports.ts';
import { redisSpec } from './redis-server.ts';
import { nodeArguments, ROOT } from './run-from.ts';
import { Steps, stepsArguments, stepsEnvironment, stepsFile } from './steps.ts';
import { type ProcessSpec, SupervisedProcess } from './supervised-process.ts';

export type ProcessName = `ns${number}` | `ds${number}` | `gw${number}` | 'redis';

export interface ProcessClusterOptions {
  readonly mounts?: number;
  readonly gateways?: number;
  readonly nameservers?: 1 | 2;
  /** A redis-server of its own; without it the configured one does not exist. */
  readonly redis?: boolean;
  /** Directories of the mounts, where they are not to be in the home. */
  readonly mountPaths?: readonly string[];
  /** Overrides of sections of the configuration. */
  readonly config?: Partial<ConfigInput>;
  /** Each process in one of its own, under its own name; the caller closes them. */
  readonly namespaces?: Namespaces;
  /** Whether DataServers can be stopped at any step of their work on the files of a block. */
  readonly steps?: boolean;
}

/** What a cluster of these options consists of; Redis first, then in the order in which others need them. */
export function processNames({
  mounts = 3,
  gateways = 1,
  nameservers = 1,
  redis = false,
}: Omit<ProcessClusterOptions, 'config' | 'namespaces'>): ProcessName[] {
  return [
    ...(redis ? (['redis'] as const) : []),
    ...Array.from({ length: nameservers }, (_, i): ProcessName => `ns${i}`),
    ...Array.from({ length: mounts }, (_, i): ProcessName => `ds${i + 1}`),
    ...Array.from({ length: gateways }, (_, i): ProcessName => `gw${i}`),
  ];
}

const MAIN = { ns: 'nameserver/main', ds: 'dataserver/main', gw: 'client/gateway/main' } as const;

/**
 * A whole cluster as real processes, without a process manager, in a temporary home on free ports or in network
 * namespaces: what the end-to-end and fault tests kill, stop, cut off and restart.
 */
export class ProcessCluster {
  readonly home: string;
  readonly token: Token;
  /** Base URLs of the gateways. */
  readonly urls: readonly string[];
  /** Base URLs of their admin sides. */
  readonly adminUrls: readonly string[];
  readonly #processes: Map<ProcessName, SupervisedProcess>;
  #config: Config;

  private constructor(parts: {
    home: string;
    config: Config;
    token: Token;
    urls: readonly string[];
    adminUrls: readonly string[];
    specs: readonly ProcessSpec[];
  }) {
    this.home = parts.home;
    this.#config = parts.config;
    this.token = parts.token;
    this.urls = parts.urls;
    this.adminUrls = parts.adminUrls;
    this.#processes = new Map(
      parts.specs.map((spec) => [spec.name as ProcessName, new SupervisedProcess(spec)]),
    );
  }

  static async create(options: ProcessClusterOptions = {}): Promise<ProcessCluster> {
    const home = mkdtempSync(join(tmpdir(), 'tfs-cluster-'));
    const names = processNames(options);
    const { config, gateways } = await configure(home, names, options);
    const keyring = Keyring.ofSecret(await ensureClusterKey(home));
    await ensureGatewayRole(home, () => keyring.exportRole('gateway'));
    const token = await ensureToken(home);
    for (const mount of config.mounts) await format(config, mount);
    mkdirSync(join(home, 'logs'), { recursive: true });
    const specs = names.map((name) => specOf(name, { home, config, options }));
    const adminUrls = gateways.map(({ adminPort }) => urlOf({ host: '127.0.0.1', port: adminPort }));
    return new ProcessCluster({ home, config, token, specs, urls: gateways.map(urlOf), adminUrls });
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

  get config(): Config {
    return this.#config;
  }

  /**
   * Takes up a mount that was entered into the configuration file since, as a reload begins: formats it and starts its
   * DataServer. Who has read the file before does not know of it until it is started again.
   */
  async startAdded(id: number): Promise<void> {
    const config = await loadConfig(this.home);
    await format(config, config.mounts.find((mount) => mount.id === id)!);
    this.#config = config;
    const name: ProcessName = `ds${id}`;
    this.#processes.set(name, new SupervisedProcess(plainSpecOf(name, this.home, config)));
    await this.startOne(name);
  }

  get url(): string {
    return this.urls[0]!;
  }

  get names(): ProcessName[] {
    return [...this.#processes.keys()];
  }

  get redisAddress(): HostPort {
    const { hostname, port } = new URL(this.config.redis.url!);
    return { host: hostname, port: Number(port) };
  }

  pid(name: ProcessName): number {
    return this.#process(name).pid;
  }

  running(name: ProcessName): boolean {
    return this.#process(name).running;
  }

  /** How often the supervisor started processes again. */
  get restarts(): number {
    return [...this.#processes.values()].reduce((sum, { restarts }) => sum + restarts, 0);
  }

  /** From now on whatever ends by itself or by a signal is started again, as the process manager does it. */
  supervise(on: boolean): void {
    for (const process of this.#processes.values()) process.supervised = on;
  }

  /** Resolves when every process has got ready in a life that goes on. */
  async untilReady(withinMs = 60_000): Promise<void> {
    const deadlineAt = performance.now() + withinMs;
    for (const [name, process] of this.#processes) {
      while (!(await process.isReady())) {
        if (performance.now() > deadlineAt)
          throw new Error(`${name} is not ready after ${withinMs} ms: ${this.log(name).slice(-2000)}`);
        await sleep(20);
      }
    }
  }

  async startAll(): Promise<void> {
    await Promise.all(this.names.map((name) => this.startOne(name)));
  }

  /** Resolves when the process says that it is ready; rejects with its log when it ends before. */
  async startOne(name: ProcessName): Promise<void> {
    await this.#process(name).start();
  }

  /** Sends a signal; a supervised process that it ends comes back. */
  signal(name: ProcessName, signal: NodeJS.Signals): void {
    this.#process(name).signal(signal);
  }

  /** Of a cluster that was made with `steps`. */
  steps(name: ProcessName): Steps {
    return new Steps(stepsFile(this.home, name), (message) => this.#process(name).send(message));
  }

  /** Ends it for good: sends a signal and waits until it is gone. @returns its exit code, null after a signal */
  stopOne(name: ProcessName, signal: NodeJS.Signals): Promise<number | null> {
    return this.#process(name).stop(signal);
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

  /** All that a process wrote, over all its lives. */
  log(name: ProcessName): string {
    try {
      return readFileSync(this.#process(name).spec.logPath, 'utf8');
    } catch {
      return `${name} has written nothing`;
    }
  }

  /** The ends of all logs. */
  logs(lines = 25): string {
    return this.names
      .map((name) => `--- ${name}\n${this.log(name).split('\n').slice(-lines).join('\n')}`)
      .join('\n');
  }

  /** Ends every process and removes the home. */
  async destroy(): Promise<void> {
    await this.killAll();
    rmSync(this.home, { recursive: true, force: true });
  }

  #process(name: ProcessName): SupervisedProcess {
    const process = this.#processes.get(name);
    if (process === undefined) throw new Error(`this cluster has no ${name}`);
    return process;
  }
}

const format = (config: Config, { path, id }: Config['mounts'][number]): Promise<unknown> =>
  formatMount({ path, clusterUuid: config.cluster.uuid, server: serverId(id) });

interface Placed {
  readonly home: string;
  readonly config: Config;
  readonly options: ProcessClusterOptions;
}

/** Writes the configuration of all, and one more for each further gateway: each has an address of its own. */
async function configure(
  home: string,
  names: readonly ProcessName[],
  options: ProcessClusterOptions,
): Promise<{ config: Config; gateways: Config['gateway'][] }> {
  const { namespaces, config: overrides = {} } = options;
  const base = defaultConfig({
    uuid: randomBytes(16).toString('hex'),
    mounts: options.mounts ?? 3,
    basePort: namespaces === undefined ? await freePorts(60) : 7500,
  });
  const port = base.gateway.port;
  const hostOf = (name: ProcessName): string => namespaces?.addressOf(name) ?? '127.0.0.1';
  const redisUrl = `redis://${hostOf('redis')}:${port + 9}`;
  const input: ConfigInput = {
    ...base,
    dataserver: { blockBytes: 4 << 20, spareBlocks: 1 },
    ...overrides,
    nameservers: names.filter(isNameServer).map((name, i) => ({
      id: i,
      host: hostOf(name),
      port: port + 10 + 2 * i,
      adminPort: port + 11 + 2 * i,
      dir: `ns${i}`,
    })),
    mounts: (overrides.mounts ?? base.mounts).map((mount, i) => ({
      ...mount,
      path: options.mountPaths?.[i] ?? mount.path,
      host: hostOf(`ds${mount.id}`),
    })),
    redis: names.includes('redis') ? { url: redisUrl } : { port: port + 9 },
    gateway: {
      ...base.gateway,
      maxPictureBytes: 1 << 20,
      workers: 1,
      ...overrides.gateway,
      host: hostOf('gw0'),
    },
  };
  writeFileSync(configPath(home), JSON.stringify(input, undefined, 2));
  const config = parseConfig(input, home);
  const gateways = [config.gateway];
  for (let i = 1; i < names.filter(isGateway).length; i++) {
    const gateway = {
      ...config.gateway,
      host: hostOf(`gw${i}`),
      port: port + 50 + 2 * i,
      adminPort: port + 51 + 2 * i,
    };
    const { home: _, ...shared } = config;
    const own = homeOf(`gw${i}`, home);
    mkdirSync(own, { recursive: true });
    symlinkSync(join(home, 'secrets'), join(own, 'secrets'));
    writeFileSync(configPath(own), JSON.stringify({ ...shared, gateway }, undefined, 2));
    gateways.push(gateway);
  }
  return { config, gateways };
}

function specOf(name: ProcessName, { home, config, options }: Placed): ProcessSpec {
  const plain = plainSpecOf(name, home, config);
  const { namespaces, steps = false } = options;
  const spec = steps && name.startsWith('ds') ? withSteps(plain, stepsFile(home, name)) : plain;
  return namespaces === undefined ? spec : { ...spec, ...namespaces.wrap(name, spec.program, spec.args) };
}

const withSteps = (spec: ProcessSpec, file: string): ProcessSpec => ({
  ...spec,
  args: [...stepsArguments, ...spec.args],
  env: { ...spec.env, ...stepsEnvironment(file) },
});

function plainSpecOf(name: ProcessName, home: string, config: Config): ProcessSpec {
  const logPath = join(home, 'logs', `${name}.log`);
  if (name === 'redis') {
    const { hostname, port } = new URL(config.redis.url!);
    return redisSpec({ host: hostname, port: Number(port) }, join(home, 'redis'), logPath);
  }
  const id = name.slice(2);
  const { REDIS_URL: _, ...inherited } = process.env;
  return {
    name,
    program: process.execPath,
    args: nodeArguments(MAIN[name.slice(0, 2) as keyof typeof MAIN]),
    cwd: ROOT,
    env: {
      ...inherited,
      TFS_HOME: homeOf(name, home),
      UV_THREADPOOL_SIZE: '8',
      ...(isNameServer(name)
        ? { TFS_NAMESERVER: id }
        : isGateway(name)
          ? { NODE_APP_INSTANCE: '0' }
          : { TFS_SERVER: id }),
    },
    logPath,
  };
}

const isNameServer = (name: ProcessName): name is `ns${number}` => name.startsWith('ns');
const isGateway = (name: ProcessName): name is `gw${number}` => name.startsWith('gw');

const homeOf = (name: ProcessName, home: string): string =>
  isGateway(name) && name !== 'gw0' ? join(home, 'gateways', name) : home;

const urlOf = ({ host, port }: HostPort): string => `http://${host}:${port}`;

/** A PNG header with a unique tail: an image by its first bytes, never the same twice. */
export function tinyPng(tail: Buffer, size = 0): Buffer {
  const head = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex');
  const body = Buffer.concat([head, tail]);
  return size > body.length ? Buffer.concat([body, Buffer.alloc(size - body.length, tail[0] ?? 1)]) : body;
}
