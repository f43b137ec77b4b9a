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
  readonly content: Buffer;
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

const REPEATED_WITHIN_MS = 5_000;
const AGAIN_WITHIN_MS = 500;

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
      await this.#put(client, load, this.#content(load));
      return;
    }
    const known = this.#pickName();
    if (kind === 'get') await this.#get(client, known);
    else if (kind === 'delete' && this.#random.float() < load.again)
      await this.#exchange(client, load, known);
    else await this.#change(client, kind, known);
  }

  /** A name goes, and about the same time the same content is uploaded under another one. */
  async #exchange(client: SimClient, load: Load, known: KnownName): Promise<void> {
    const remove = () => this.#change(client, 'delete', known);
    const again = () => this.#put(client, load, known.content);
    const [first, second] = this.#random.float() < 0.5 ? [remove, again] : [again, remove];
    const begun = first();
    await client.process.clock.sleep(this.#random.float() * AGAIN_WITHIN_MS);
    await second();
    await begun;
  }

  async #put(client: SimClient, load: Load, content: Buffer): Promise<void> {
    const opId = this.#random.bytes(16);
    const isRepeated = this.#random.float() < load.repeat;
    const sha1 = createHash('sha1').update(content).digest('hex');
    const put = async (): Promise<void> => {
      const startMs = this.#cluster.scheduler.now;
      try {
        const stored = await client.client.put(content, { opId });
        this.#stored(stored, { opId: opId.toString('hex'), sha1, content, startMs });
      } catch (error) {
        this.#failed(error);
      }
    };
    const puts = [put()];
    // Both at once, or the second one while the first may wait for somebody.
    if (isRepeated) {
      const afterMs = this.#random.float() < 0.5 ? 0 : this.#random.float() * REPEATED_WITHIN_MS;
      if (afterMs > 0) await client.process.clock.sleep(afterMs);
      puts.push(put());
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
      this.names.push({ name, stored, sha1: put.sha1, content: put.content, touched: false });
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
