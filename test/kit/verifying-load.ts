import { createHash } from 'node:crypto';
import type { BlockId } from '../../common/ids.ts';
import { decodeName } from '../../common/name.ts';
import type { Random } from '../../common/seams/random.ts';
import type { History, Outcome } from './history.ts';
import {
  type HttpAnswer,
  PictureClient,
  type PictureRequest,
  type Result,
  sha1Of,
} from './picture-client.ts';
import { tinyPng } from './process-cluster.ts';
import { SeededRandom } from './seeded-random.ts';

export interface LoadOptions {
  readonly urls: readonly string[];
  readonly token: string;
  readonly history: History;
  readonly putsPerSecond?: number;
  readonly getsPerSecond?: number;
  readonly seed?: number;
  /** Whether some of what was deleted is brought back; yes when absent. */
  readonly undeletes?: boolean;
}

/** Of one kind of request, since the load began. */
export class Tally {
  asked = 0;
  /** Answered as it should be: stored; the right bytes, or rightly nothing; done. */
  done = 0;
  retried = 0;
  /** Not answered, or not now, also after the retry. */
  failed = 0;
  slowestMs = 0;
  /** Between two of `done`, or between one of them and the beginning or end of the load. */
  longestGapMs = 0;
  #doneAt: number;

  constructor(startedAt: number) {
    this.#doneAt = startedAt;
  }

  note(startMs: number, endMs: number, { retried, done }: { retried: boolean; done: boolean }): void {
    if (retried) this.retried++;
    if (!done) {
      this.failed++;
      return;
    }
    this.done++;
    this.slowestMs = Math.max(this.slowestMs, endMs - startMs);
    this.closeGap(endMs);
  }

  closeGap(at: number): void {
    this.longestGapMs = Math.max(this.longestGapMs, at - this.#doneAt);
    this.#doneAt = at;
  }
}

interface Known {
  readonly name: string;
  readonly sha1: string;
  /** purged: nothing brings it back, as it was answered. */
  state: 'live' | 'deleted' | 'purged' | 'unsure';
  deleteBegan: boolean;
  isBusy: boolean;
}

const TICK_MS = 10;
/** A store that stands still must not fill the memory of the test: more are not begun, and counted as failed. */
const IN_FLIGHT_MAX = 6_000;
const BYTES_MIN = 1_000;
const BYTES_MAX = 20_000;
const REPEAT_SHARE = 0.1;
const DELETE_SHARE = 0.05;
const UNDELETE_SHARE = 0.3;
const RECENT_NAMES = 2_000;
const RECENT_BODIES = 200;
const SAMPLES_MAX = 20;

/**
 * Uploads, reads, deletes and undeletes at a steady rate, whether answers come or not, and writes down what it saw in a
 * history. Pictures are small and unique but for a tenth of them, which repeat the content of another.
 */
export class VerifyingLoad {
  readonly history: History;
  readonly puts: Tally;
  /** Of names that nobody began to delete. */
  readonly gets: Tally;
  /** Of names that somebody began to delete: their absence must be confirmed, which a fault may delay. */
  readonly deletedGets: Tally;
  readonly mutations: Tally;
  /** Answers that no fault explains: anything but success, absence and 503. At most {@link SAMPLES_MAX}. */
  readonly unexpected: string[] = [];
  /** Kinds of failures and how often. */
  readonly failures = new Map<string, number>();
  readonly #options: LoadOptions;
  readonly #client: PictureClient;
  readonly #random: SeededRandom;
  readonly #known: Known[] = [];
  readonly #bodies: Buffer[] = [];
  readonly #startedAt = now();
  readonly #timer: NodeJS.Timeout;
  readonly #inFlight = new Set<Promise<void>>();
  #keys = 0;

  static start(options: LoadOptions): VerifyingLoad {
    return new VerifyingLoad(options);
  }

  private constructor(options: LoadOptions) {
    this.#options = options;
    this.history = options.history;
    this.#client = new PictureClient(options);
    this.#random = new SeededRandom(options.seed ?? Date.now() & 0xffff_ffff);
    this.puts = new Tally(this.#startedAt);
    this.gets = new Tally(this.#startedAt);
    this.deletedGets = new Tally(this.#startedAt);
    this.mutations = new Tally(this.#startedAt);
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** The newest name that was acknowledged and not deleted. */
  get newestName(): string | undefined {
    return this.#known.findLast(({ state }) => state === 'live')?.name;
  }

  /** Names in a block that live, as far as was acknowledged. */
  liveIn(block: BlockId): string[] {
    return this.#knownIn(block, 'live').map(({ name }) => name);
  }

  /** Deletes so many of the names that live in a block. @returns how many were acknowledged */
  async thinOut(block: BlockId, share: number): Promise<number> {
    const live = this.#knownIn(block, 'live').filter(({ isBusy }) => !isBusy);
    const doomed = live.slice(0, Math.ceil(live.length * share));
    await Promise.all(
      doomed.map((known) => {
        this.mutations.asked++;
        return this.#change(known);
      }),
    );
    return doomed.filter(({ state }) => state === 'deleted').length;
  }

  get secondsRun(): number {
    return (now() - this.#startedAt) / 1000;
  }

  /** Begins nothing more and waits for what is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const stoppedAt = now();
    await Promise.all(this.#inFlight);
    this.puts.closeGap(stoppedAt);
    this.gets.closeGap(stoppedAt);
    await this.#client.close();
  }

  #tick(): void {
    const { putsPerSecond = 200, getsPerSecond = 200 } = this.#options;
    for (let due = dueOf(putsPerSecond, this.secondsRun) - this.puts.asked; due > 0; due--) {
      this.#begin(this.puts, () => this.#put());
      if (this.#random.float() < DELETE_SHARE) this.#begin(this.mutations, () => this.#mutate());
    }
    const got = this.gets.asked + this.deletedGets.asked;
    for (let due = dueOf(getsPerSecond, this.secondsRun) - got; due > 0; due--) {
      const known = this.#pick();
      if (known === undefined) break;
      this.#begin(known.deleteBegan ? this.deletedGets : this.gets, () => this.#get(known));
    }
  }

  #begin(tally: Tally, work: () => Promise<void>): void {
    tally.asked++;
    if (this.#inFlight.size >= IN_FLIGHT_MAX) {
      tally.failed++;
      this.#noteFailure('not begun: too many are under way');
      return;
    }
    const running = work().finally(() => this.#inFlight.delete(running));
    this.#inFlight.add(running);
  }

  async #put(): Promise<void> {
    const body = this.#body();
    const startMs = now();
    const { last, retried } = await this.#send({ method: 'POST', path: '/images', body }, 'put');
    const endMs = now();
    const done = isAnswer(last) && last.status === 201;
    this.puts.note(startMs, endMs, { retried, done });
    // A name that was never told is nobody's: only what was acknowledged is remembered.
    if (!done) return;
    const { name } = JSON.parse(last.body.toString('utf8')) as { name: string };
    const sha1 = sha1Of(body);
    this.history.add({ kind: 'put', name, startMs, endMs, outcome: 'done', sha1 });
    this.#known.push({ name, sha1, state: 'live', deleteBegan: false, isBusy: false });
  }

  async #get(known: Known): Promise<void> {
    const { name } = known;
    const tally = known.deleteBegan ? this.deletedGets : this.gets;
    const startMs = now();
    const { last, retried } = await this.#send(
      { method: 'GET', path: `/images/${name}` },
      tally === this.gets ? 'get' : 'get deleted',
    );
    const endMs = now();
    const outcome = outcomeOf(last, 200);
    tally.note(startMs, endMs, { retried, done: outcome !== 'unknown' });
    const operation = { kind: 'get', name, startMs, endMs, outcome } as const;
    if (outcome === 'done' && isAnswer(last))
      this.history.add(
        { ...operation, sha1: sha1Of(last.body), provisional: isProvisional(last) },
        known.deleteBegan,
      );
    else this.history.add(operation, known.deleteBegan);
  }

  /** Deletes a name, and now and then brings back one that was deleted before. */
  async #mutate(): Promise<void> {
    const { undeletes = true } = this.#options;
    const wanted = undeletes && this.#random.float() < UNDELETE_SHARE ? 'deleted' : 'live';
    const known = this.#pickFor(wanted);
    if (known !== undefined) await this.#change(known);
  }

  /** Deletes what lives, and undeletes what is deleted. */
  async #change(known: Known): Promise<void> {
    const { name } = known;
    known.isBusy = true;
    const startMs = now();
    const isDelete = known.state === 'live';
    if (isDelete) known.deleteBegan = true;
    const { last, retried } = await this.#send(
      isDelete
        ? { method: 'DELETE', path: `/images/${name}` }
        : { method: 'POST', path: `/images/${name}/undelete` },
      'mutate',
    );
    const endMs = now();
    const outcome = outcomeOf(last, 204);
    this.mutations.note(startMs, endMs, { retried, done: outcome === 'done' });
    this.history.add({ kind: isDelete ? 'delete' : 'undelete', name, startMs, endMs, outcome });
    if (outcome === 'done') known.state = isDelete ? 'deleted' : 'live';
    else if (outcome === 'absent' && !isDelete) known.state = 'purged';
    // What may still take effect at any time is read on, and not changed again.
    else known.state = 'unsure';
    known.isBusy = false;
  }

  async #send(request: PictureRequest, what: string): Promise<Result> {
    const key =
      request.method === 'GET' ? {} : { key: `load-${process.pid}-${this.#startedAt}-${this.#keys++}` };
    const result = await this.#client.send({ ...request, ...key });
    const { last } = result;
    if (!isAnswer(last)) this.#noteFailure(`${what} ${last}`);
    else if (last.status === 410 && request.path.endsWith('/undelete')) return result;
    else if (last.status >= 400 && last.status !== 404) {
      const text = last.body.toString('utf8').slice(0, 300);
      const code = /"code":"(\w+)"/.exec(text)?.[1] ?? '';
      this.#noteFailure(`${what} ${last.status} ${code}`);
      if (last.status !== 503 && this.unexpected.length < SAMPLES_MAX)
        this.unexpected.push(`${request.method} ${request.path}: ${last.status} ${text}`);
    }
    return result;
  }

  #noteFailure(what: string): void {
    this.failures.set(what, (this.failures.get(what) ?? 0) + 1);
  }

  #body(): Buffer {
    if (this.#bodies.length > 0 && this.#random.float() < REPEAT_SHARE)
      return this.#random.pick(this.#bodies);
    const size = BYTES_MIN + this.#random.below(BYTES_MAX - BYTES_MIN);
    const body = tinyPng(seededBytes(this.#random, size));
    if (this.#bodies.length < RECENT_BODIES) this.#bodies.push(body);
    else this.#bodies[this.#random.below(RECENT_BODIES)] = body;
    return body;
  }

  /** Mostly one of the newest, which are on blocks that are being written. */
  #pick(): Known | undefined {
    const count = this.#known.length;
    if (count === 0) return undefined;
    if (this.#random.float() < 0.3) return this.#known[this.#random.below(count)];
    return this.#known[count - 1 - this.#random.below(Math.min(count, RECENT_NAMES))];
  }

  #knownIn(block: BlockId, state: Known['state']): Known[] {
    return this.#known.filter((known) => known.state === state && decodeName(known.name)?.block === block);
  }

  #pickFor(state: Known['state']): Known | undefined {
    for (let tries = 0; tries < 50; tries++) {
      const known = this.#pick();
      if (known !== undefined && known.state === state && !known.isBusy) return known;
    }
    return undefined;
  }
}

const now = (): number => performance.now();

const dueOf = (perSecond: number, seconds: number): number => Math.floor(perSecond * seconds);

const isAnswer = (attempt: Result['last']): attempt is HttpAnswer => typeof attempt === 'object';

function outcomeOf(last: Result['last'], success: number): Outcome {
  if (!isAnswer(last)) return 'unknown';
  if (last.status === success) return 'done';
  return last.status === 404 || last.status === 410 ? 'absent' : 'unknown';
}

/** Nobody may keep an answer that no replica could confirm. */
const isProvisional = ({ headers }: HttpAnswer): boolean => headers['cache-control'] === 'no-store';

/** Cheap bytes that no other picture has: a hash of their own, then a keystream from it. */
function seededBytes(random: Random, size: number): Buffer {
  const seed = Buffer.allocUnsafe(16);
  for (let at = 0; at < 16; at += 4) seed.writeUInt32LE(random.u32(), at);
  return createHash('shake128', { outputLength: size }).update(seed).digest();
}
