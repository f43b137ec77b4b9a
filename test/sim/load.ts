import { createHash } from 'node:crypto';
import type { Stored } from '../../client/client.ts';
import { isTfsError } from '../../common/errors.ts';
import { History, type OperationKind, type Outcome } from '../kit/history.ts';
import { SeededRandom } from '../kit/seeded-random.ts';
import type { SimClient, SimCluster } from './cluster.ts';
import type { Load } from './plan.ts';

/** A name that an upload was given, and what became of it. */
export interface KnownName {
  readonly name: string;
  readonly stored: Stored;
  readonly sha1: string;
  /** Somebody began to delete or hide it, ever. */
  touched: boolean;
}

interface Put {
  readonly opId: string;
  readonly sha1: string;
  readonly content: Buffer;
  readonly startMs: number;
}

export type ChangeKind = 'delete' | 'undelete' | 'hide' | 'reveal';

export interface LoadEvents {
  /** An upload was acknowledged at this moment. */
  acked(stored: Stored, payload: Buffer): void;
  /** Another operation was. */
  changed(kind: ChangeKind, name: KnownName, opId: Buffer): void;
}

/** What the clients of a cluster do, until they have done as many operations as planned or are told to stop. */
export class SimLoad {
  readonly history = new History();
  readonly names: KnownName[] = [];
  readonly counts: Record<OperationKind, number> = {
    put: 0,
    get: 0,
    delete: 0,
    undelete: 0,
    hide: 0,
    reveal: 0,
  };
  /** That nobody could say anything definite about. */
  unknown = 0;
  isStopped = false;
  readonly #cluster: SimCluster;
  readonly #events: LoadEvents;
  readonly #random: SeededRandom;
  /** Contents that were uploaded, to be uploaded again. */
  readonly #contents: Buffer[] = [];
  /** Request and name. */
  readonly #acked = new Set<string>();
  #begun = 0;
  #running = 0;

  constructor(cluster: SimCluster, events: LoadEvents) {
    this.#cluster = cluster;
    this.#events = events;
    this.#random = new SeededRandom(cluster.plan.seed ^ 0x10ad_10ad);
  }

  get operations(): number {
    return this.#begun;
  }

  /** All clients have ended. */
  get isOver(): boolean {
    return this.#running === 0;
  }

  start(): void {
    for (const client of this.#cluster.clients)
      for (let i = 0; i < this.#cluster.plan.concurrency; i++) {
        this.#running++;
        client.process.at(0, 'client', () => void this.#work(client));
      }
  }

  async #work(client: SimClient): Promise<void> {
    const { plan, scheduler } = this.#cluster;
    try {
      while (!this.isStopped && this.#begun < plan.operations) {
        this.#begun++;
        await this.#one(client, plan.load);
        const pauseMs = -Math.log(1 - this.#random.float()) * plan.thinkMs;
        await client.process.clock.sleep(Math.max(pauseMs, 0.1));
      }
    } catch (error) {
      scheduler.fail(error);
    } finally {
      this.#running--;
    }
  }

  async #one(client: SimClient, load: Load): Promise<void> {
    const kind = this.names.length === 0 ? 'put' : this.#draw(load);
    this.counts[kind]++;
    if (kind === 'put') {
      await this.#put(client, load);
      return;
    }
    const known = this.#pickName();
    if (kind === 'get') await this.#get(client, known);
    else await this.#change(client, kind, known);
  }

  async #put(client: SimClient, load: Load): Promise<void> {
    const content = this.#content(load);
    const opId = this.#random.bytes(16);
    const repeats = this.#random.float() < load.repeat ? 2 : 1;
    const sha1 = createHash('sha1').update(content).digest('hex');
    const puts: Promise<void>[] = [];
    for (let i = 0; i < repeats; i++) {
      const startMs = this.#cluster.scheduler.now;
      puts.push(
        client.client.put(content, { opId }).then(
          (stored) => this.#stored(stored, { opId: opId.toString('hex'), sha1, content, startMs }),
          (error: unknown) => this.#failed(error),
        ),
      );
    }
    await Promise.all(puts);
  }

  #stored(stored: Stored, put: Put): void {
    const { name } = stored;
    const endMs = this.#cluster.scheduler.now;
    // A repeat of one request may have the same name, and is the same upload.
    const same = `${put.opId} ${name}`;
    if (!this.#acked.has(same)) {
      this.#acked.add(same);
      this.history.add({ kind: 'put', name, startMs: put.startMs, endMs, outcome: 'done', sha1: put.sha1 });
      this.names.push({ name, stored, sha1: put.sha1, touched: false });
      if (this.#contents.length < 64) this.#contents.push(put.content);
    }
    this.#events.acked(stored, put.content);
  }

  async #get(client: SimClient, { name }: KnownName): Promise<void> {
    const startMs = this.#cluster.scheduler.now;
    let outcome: Outcome = 'done';
    let sha1: string | undefined;
    let provisional = false;
    try {
      const picture = await client.client.get(name);
      sha1 = createHash('sha1')
        .update(await picture.bytes())
        .digest('hex');
      provisional = picture.facts.provisional;
    } catch (error) {
      outcome = this.#outcomeOf(error);
    }
    const endMs = this.#cluster.scheduler.now;
    this.history.add({
      kind: 'get',
      name,
      startMs,
      endMs,
      outcome,
      ...(sha1 === undefined ? {} : { sha1 }),
      ...(provisional ? { provisional } : {}),
    });
  }

  async #change(client: SimClient, kind: ChangeKind, known: KnownName): Promise<void> {
    const { name } = known;
    known.touched = true;
    const startMs = this.#cluster.scheduler.now;
    let outcome: Outcome = 'done';
    try {
      const opId = this.#random.bytes(16);
      if (kind === 'delete') await client.client.remove(name, opId);
      else await client.client[kind](name, opId);
      this.#events.changed(kind, known, opId);
    } catch (error) {
      outcome = this.#outcomeOf(error);
    }
    const endMs = this.#cluster.scheduler.now;
    this.history.add({ kind, name, startMs, endMs, outcome });
  }

  #outcomeOf(error: unknown): Outcome {
    if (!isTfsError(error)) throw error;
    if (error.code === 'NOT_FOUND' || error.code === 'GONE') return 'absent';
    this.#failed(error);
    return 'unknown';
  }

  #failed(error: unknown): void {
    if (!isTfsError(error)) throw error;
    this.unknown++;
    this.#cluster.scheduler.note(`client: ${error.code}`);
  }

  #draw(load: Load): OperationKind {
    const kinds = ['put', 'get', 'delete', 'undelete', 'hide', 'reveal'] as const;
    let at = this.#random.float() * kinds.reduce((sum, kind) => sum + load[kind], 0);
    for (const kind of kinds) {
      at -= load[kind];
      if (at < 0) return kind;
    }
    return 'get';
  }

  /** New ones more often than old ones. */
  #pickName(): KnownName {
    const { names } = this;
    const recent = this.#random.float() < 0.5 ? Math.min(names.length, 30) : names.length;
    return names[names.length - 1 - this.#random.below(recent)]!;
  }

  #content(load: Load): Buffer {
    if (this.#contents.length > 0 && this.#random.float() < load.same)
      return this.#random.pick(this.#contents);
    const share = this.#random.float() ** 2;
    const length = 1 + Math.floor(share * load.bytesMax);
    const content = Buffer.alloc(length, this.#random.bytes(Math.min(length, 64)));
    return content;
  }
}
