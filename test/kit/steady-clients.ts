import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ProcessCluster, tinyPng } from './process-cluster.ts';
import { SeededRandom } from './seeded-random.ts';
import type { Acked } from './upload-load.ts';

export interface SteadyOptions {
  readonly readers: number;
  readonly uploaders?: number;
  readonly seed?: number;
  /** Of an upload. */
  readonly bytesMax?: number;
}

/** What was seen since it was taken the last time. */
export interface Seen {
  /** How long each took, of those that were answered as they should. */
  readonly readMs: number[];
  readonly putMs: number[];
}

const PAUSE_MS = 5;
const FAILURES_MAX = 20;
const BYTES_MAX = 40_000;

/**
 * Clients that read pictures which are there, and upload others, one after the other with a short pause, and check each
 * answer. Nothing is repeated: what was not answered as it should be has failed.
 */
export class SteadyClients {
  /** What was uploaded and acknowledged. */
  readonly stored: Acked[] = [];
  /** What went wrong, at most {@link FAILURES_MAX}; all of it is counted. */
  readonly failures: string[] = [];
  failedReads = 0;
  failedPuts = 0;
  /** Since the clients began. */
  done = { reads: 0, puts: 0 };
  readonly #cluster: ProcessCluster;
  readonly #pictures: readonly Acked[];
  readonly #options: SteadyOptions;
  readonly #random: SeededRandom;
  readonly #clients: Promise<void>[];
  #seen: Seen = { readMs: [], putMs: [] };
  #stopped = false;

  /** @param pictures to be read; what is deleted at the moment is left alone */
  constructor(cluster: ProcessCluster, pictures: readonly Acked[], options: SteadyOptions) {
    this.#cluster = cluster;
    this.#pictures = pictures;
    this.#options = options;
    this.#random = new SeededRandom(options.seed ?? 1);
    this.#clients = [
      ...Array.from({ length: options.readers }, () => this.#repeat(() => this.#read())),
      ...Array.from({ length: options.uploaders ?? 0 }, () => this.#repeat(() => this.#put())),
    ];
  }

  take(): Seen {
    const seen = this.#seen;
    this.#seen = { readMs: [], putMs: [] };
    return seen;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  async #repeat(once: () => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      await once();
      await sleep(PAUSE_MS);
    }
  }

  async #read(): Promise<void> {
    const picture = this.#random.pick(this.#pictures);
    if (picture.deleted) return;
    const startedAt = performance.now();
    const why = await this.#whyWrong(picture);
    // Deleted meanwhile: whatever it was answered was right.
    if (picture.deleted) return;
    if (why !== undefined) {
      this.failedReads++;
      this.#fail(`GET ${picture.name}: ${why}`);
      return;
    }
    this.done.reads++;
    this.#seen.readMs.push(performance.now() - startedAt);
  }

  async #whyWrong({ name, sha1 }: Acked): Promise<string | undefined> {
    try {
      const { status, body } = await this.#cluster.get(name);
      if (status !== 200) return `${status} ${body.toString('utf8').slice(0, 200)}`;
      return createHash('sha1').update(body).digest('hex') === sha1 ? undefined : '200 with other bytes';
    } catch (error) {
      return String(error);
    }
  }

  async #put(): Promise<void> {
    const { bytesMax = BYTES_MAX } = this.#options;
    const body = tinyPng(randomBytes(16), 64 + this.#random.below(bytesMax));
    const startedAt = performance.now();
    try {
      const { status, name, text } = await this.#cluster.put(body);
      if (status !== 201) throw new Error(`${status} ${text.slice(0, 200)}`);
      this.done.puts++;
      this.#seen.putMs.push(performance.now() - startedAt);
      const sha1 = createHash('sha1').update(body).digest('hex');
      this.stored.push({ name, sha1, bytes: body.length, deleted: false });
    } catch (error) {
      this.failedPuts++;
      this.#fail(`an upload failed: ${String(error)}`);
    }
  }

  #fail(why: string): void {
    if (this.failures.length < FAILURES_MAX) this.failures.push(why);
  }
}
