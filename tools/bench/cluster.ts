import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
import { ensureClusterKey, ensureGatewayRole, ensureToken } from '../../common/secrets.ts';
import { Keyring } from '../../common/wire/keys.ts';
import { formatMount } from '../../dataserver/mount.ts';
import type { BenchContext } from './bench.ts';
import { Child, nodeArgs, sibling } from './child.ts';
import { pictureOf } from './picture.ts';
import { freePorts } from './ports.ts';

const WRITABLE_MS_MAX = 120_000;
const SPARES_MS_MAX = 180_000;

export interface ClusterOptions {
  /** Settings that differ from the defaults. */
  readonly gateway?: Partial<ConfigInput['gateway']>;
  readonly images?: ConfigInput['images'];
  readonly spareBlocks?: number;
}

/** The product itself: a NameServer, three DataServers, a gateway of one worker or more, in a home of their own on free ports. */
export class Cluster {
  readonly config: Config;
  readonly token: string;
  readonly #children = new Map<string, Child>();

  private constructor(config: Config, token: string) {
    this.config = config;
    this.token = token;
  }

  /** Writes configuration and secrets and formats the mounts; starts nothing. */
  static async create(context: BenchContext, name: string, options: ClusterOptions = {}): Promise<Cluster> {
    const home = join(context.directory, name);
    mkdirSync(join(home, 'logs'), { recursive: true });
    const uuid = randomBytes(16).toString('hex');
    const base = defaultConfig({ uuid, basePort: await freePorts(40) });
    const input: ConfigInput = {
      ...base,
      // One leads at once; two would wait for each other, because no Redis runs here.
      nameservers: base.nameservers.slice(0, 1),
      log: { level: 'warn' },
      dataserver: options.spareBlocks === undefined ? {} : { spareBlocks: options.spareBlocks },
      gateway: { ...base.gateway, workers: 1, ...options.gateway },
      ...(options.images === undefined ? {} : { images: options.images }),
    };
    writeFileSync(configPath(home), JSON.stringify(input, undefined, 2));
    const config = parseConfig(input, home);
    const keyring = Keyring.ofSecret(await ensureClusterKey(home));
    await ensureGatewayRole(home, () => keyring.exportRole('gateway'));
    const { text } = await ensureToken(home);
    for (const mount of config.mounts)
      await formatMount({ path: mount.path, clusterUuid: uuid, server: serverId(mount.id) });
    const cluster = new Cluster(config, text);
    context.defer(() => cluster.stop());
    return cluster;
  }

  static async start(context: BenchContext, name: string, options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = await Cluster.create(context, name, options);
    await cluster.startAll();
    await cluster.writable();
    await cluster.sparesReady();
    return cluster;
  }

  get port(): number {
    return this.config.gateway.port;
  }

  get postHeaders(): Record<string, string> {
    return { authorization: `Bearer ${this.token}`, 'content-type': 'application/octet-stream' };
  }

  /** Those that are running, by name: ns0, ds1 ..., gw0. */
  get children(): readonly Child[] {
    return [...this.#children.values()].filter((child) => child.alive);
  }

  async startAll(): Promise<void> {
    const { nameservers, mounts } = this.config;
    await Promise.all([
      ...nameservers.map((ns) => this.startOne(`ns${ns.id}`)),
      ...mounts.map((mount) => this.startOne(`ds${mount.id}`)),
      this.startOne('gw0'),
    ]);
  }

  async startOne(name: string): Promise<Child> {
    const [kind, id] = [name.slice(0, 2), name.slice(2)];
    const { workers } = this.config.gateway;
    const [main, env, ...args] =
      kind === 'ns'
        ? (['nameserver/main', { TFS_NAMESERVER: id }] as const)
        : kind === 'ds'
          ? (['dataserver/main', { TFS_SERVER: id, UV_THREADPOOL_SIZE: '8' }] as const)
          : workers === 1
            ? (['client/gateway/main', { NODE_APP_INSTANCE: id }] as const)
            : (['tools/bench/gateway-workers', {}, String(workers)] as const);
    const child = await Child.start({
      name,
      command: process.execPath,
      args: [...nodeArgs(sibling(import.meta, `../../${main}`)), ...args],
      env: { TFS_HOME: this.config.home, NODE_ENV: 'production', ...env },
      cwd: process.cwd(),
      directory: join(this.config.home, 'logs'),
    });
    this.#children.set(name, child);
    return child;
  }

  child(name: string): Child {
    const child = this.#children.get(name);
    if (child === undefined) throw new Error(`${name} was not started`);
    return child;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all(this.children.map((child) => child.stop(signal)));
  }

  /** Zero-filled block files that wait to be used, on the mount that has the fewest. */
  get spares(): number {
    const counts = this.config.mounts.map(
      (mount) => readdirSync(join(mount.path, 'spare')).filter((name) => name.endsWith('.spare')).length,
    );
    return Math.min(...counts);
  }

  /** Resolves when no spare is missing, for filling them takes most of a disk; gives up after a while: it may be full. */
  async sparesReady(): Promise<void> {
    const startedAt = performance.now();
    while (this.spares < this.config.dataserver.spareBlocks && performance.now() - startedAt < SPARES_MS_MAX)
      await sleep(200);
  }

  /** Stops it and removes its data. */
  async destroy(): Promise<void> {
    await this.stop();
    rmSync(this.config.home, { recursive: true, force: true });
  }

  /** Resolves once a picture was stored on all replicas. @returns how long that took, ms */
  async writable(): Promise<number> {
    const startedAt = performance.now();
    let last = '';
    while (performance.now() - startedAt < WRITABLE_MS_MAX) {
      const stored = await this.put(pictureOf(Math.floor(Math.random() * 1e15), 200)).catch(
        (error: unknown) => String(error),
      );
      if (typeof stored !== 'string') return performance.now() - startedAt;
      last = stored;
      await sleep(20);
    }
    throw new Error(`the cluster did not become writable: ${last}`);
  }

  /** @returns the name, or what went wrong */
  async put(body: Buffer): Promise<{ name: string } | string> {
    const reply = await request(`http://127.0.0.1:${this.port}/images`, {
      method: 'POST',
      headers: this.postHeaders,
      body,
    });
    const text = await reply.body.text();
    if (reply.statusCode !== 201) return `${reply.statusCode} ${text}`;
    return { name: (JSON.parse(text) as { name: string }).name };
  }

  /** Stores pictures numbered from `first`. @returns their paths */
  async fill(first: number, count: number, size: number, clients = 32): Promise<string[]> {
    const paths: string[] = [];
    let next = 0;
    const client = async () => {
      while (next < count) {
        const n = next++;
        const stored = await this.put(pictureOf(first + n, size));
        if (typeof stored === 'string') throw new Error(`storing a picture: ${stored}`);
        paths[n] = `/images/${stored.name}`;
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    return paths;
  }
}
