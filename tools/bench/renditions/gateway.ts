import { setTimeout as sleep } from 'node:timers/promises';
import { Pool, request } from 'undici';
import type { BenchContext } from '../bench.ts';
import { Cluster } from '../cluster.ts';
import { childPids, cpuMicros } from '../proc.ts';
import { askOf, pathOf } from './asks.ts';

export const WORKERS = 2;
/** Asked for at the same time: more than there are decoders, so that each has one waiting. */
const CLIENTS = 16;

/** CPU time, microseconds. */
export interface Cpu {
  readonly decoders: number;
  readonly workers: number;
  readonly others: number;
}

/** A gateway of two workers that makes whatever is asked for, with the originals stored. */
export class RenditionGateway {
  readonly cluster: Cluster;
  /** `/images/NAME` of each original. */
  readonly paths: readonly string[];
  readonly #pool: Pool;

  static async start(context: BenchContext, originals: readonly Buffer[]): Promise<RenditionGateway> {
    const cluster = await Cluster.start(context, 'renditions', {
      gateway: { workers: WORKERS },
      images: { policy: 'any' },
    });
    const paths: string[] = [];
    for (const original of originals) paths.push(await stored(cluster, original));
    const gateway = new RenditionGateway(cluster, paths);
    context.defer(() => gateway.#pool.destroy());
    return gateway;
  }

  private constructor(cluster: Cluster, paths: readonly string[]) {
    this.cluster = cluster;
    this.paths = paths;
    this.#pool = new Pool(`http://127.0.0.1:${cluster.port}`, { connections: CLIENTS });
  }

  store(picture: Buffer): Promise<string> {
    return stored(this.cluster, picture);
  }

  async get(path: string): Promise<Buffer> {
    const reply = await this.#pool.request({ method: 'GET', path });
    const body = Buffer.from(await reply.body.arrayBuffer());
    if (reply.statusCode !== 200) throw new Error(`GET ${path}: ${reply.statusCode} ${body.toString()}`);
    return body;
  }

  /** Asks for `count` renditions from the one numbered `first` on. @returns renditions a second */
  async make(first: number, count: number): Promise<number> {
    let next = first;
    const startedAt = performance.now();
    const client = async () => {
      while (next < first + count) await this.#makeOne(next++);
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    return count / ((performance.now() - startedAt) / 1000);
  }

  /** Keeps all decoders busy from the rendition numbered `first` on. @returns to end it: how many were made a second */
  keepBusy(first: number): () => Promise<number> {
    let isOver = false;
    let next = first;
    const startedAt = performance.now();
    const client = async () => {
      while (!isOver) await this.#makeOne(next++);
    };
    const done = Promise.all(Array.from({ length: CLIENTS }, client));
    return async () => {
      isOver = true;
      const count = next - first;
      const seconds = (performance.now() - startedAt) / 1000;
      await done;
      return count / seconds;
    };
  }

  /** The sum of a metric over all workers, and what each of them has. */
  async metric(name: string): Promise<{ readonly sum: number; readonly each: readonly number[] }> {
    const { adminPort } = this.cluster.config.gateway;
    const each = await Promise.all(
      Array.from({ length: WORKERS }, async (_, i) => {
        const reply = await request(`http://127.0.0.1:${adminPort + i}/metrics`);
        const text = await reply.body.text();
        const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, 'gm'))];
        if (values.length === 0 && reply.statusCode !== 200) throw new Error(`no metrics of worker ${i}`);
        return values.reduce((sum, [, value]) => sum + Number(value), 0);
      }),
    );
    return { sum: each.reduce((a, b) => a + b, 0), each };
  }

  /** Of the workers, of their decoders, of all DataServers and the NameServer. */
  cpuMicros(): Cpu {
    const workers = this.cluster.child('gw0');
    const decoders = workers.pids.flatMap(childPids);
    return {
      decoders: decoders.reduce((sum, pid) => sum + cpuMicros(pid), 0),
      workers: workers.cpuMicros(),
      others: this.cluster.children.reduce((sum, c) => sum + (c === workers ? 0 : c.cpuMicros()), 0),
    };
  }

  /** Resolves when nothing is being made any more. */
  async idle(): Promise<void> {
    while ((await this.metric('tfs_gateway_decoders_running')).sum > 0) await sleep(50);
  }

  async #makeOne(n: number): Promise<void> {
    const ask = askOf(n, this.paths.length);
    await this.get(pathOf(this.paths[ask.original]!, ask));
  }
}

async function stored(cluster: Cluster, picture: Buffer): Promise<string> {
  const answer = await cluster.put(picture);
  if (typeof answer === 'string') throw new Error(`storing a picture: ${answer}`);
  return `/images/${answer.name}`;
}
