import { type Metrics, openMetrics } from '../../common/metrics.ts';

/**
 * The numbers of one gateway process. What happens with every picture is counted in plain fields and goes into the
 * registry when somebody looks.
 */
export class GatewayMetrics {
  /** Pictures answered from memory, and those that were not in it. */
  hits = 0;
  misses = 0;
  readonly #served = new Map<number, { count: number; bytes: number }>();
  readonly #metrics: Metrics;
  readonly #uploads;
  readonly #uploadSeconds;
  readonly #uploadBytes;
  readonly #mutations;
  readonly #requests;
  readonly #sentBytes;
  readonly #cache;
  readonly #retries;
  readonly #hedges;
  readonly #corrupt;
  readonly #damaged;
  #published = { hits: 0, misses: 0 };

  static open(options: { readonly id: string; readonly processMetrics?: boolean }): GatewayMetrics {
    return new GatewayMetrics(openMetrics({ kind: 'gateway', ...options }));
  }

  private constructor(metrics: Metrics) {
    this.#metrics = metrics;
    this.#requests = metrics.counter('tfs_gateway_picture_requests_total', 'GET and HEAD of pictures', [
      'status',
    ]);
    this.#sentBytes = metrics.counter('tfs_gateway_picture_sent_bytes_total', 'Bytes of pictures sent');
    this.#cache = metrics.counter('tfs_gateway_cache_lookups_total', 'Pictures looked for in memory', [
      'result',
    ]);
    this.#uploads = metrics.counter('tfs_gateway_uploads_total', 'Upload requests', ['code']);
    this.#uploadSeconds = metrics.histogram(
      'tfs_gateway_store_seconds',
      'From a complete upload to the durable picture',
    );
    this.#uploadBytes = metrics.counter('tfs_gateway_stored_bytes_total', 'Bytes of pictures stored');
    this.#mutations = metrics.counter('tfs_gateway_mutations_total', 'Delete, undelete, hide and reveal', [
      'kind',
      'code',
    ]);
    this.#retries = metrics.counter('tfs_gateway_store_retries_total', 'Writes sent again or elsewhere');
    this.#hedges = metrics.counter(
      'tfs_gateway_hedged_reads_total',
      'Reads put to a second replica because the first was late',
    );
    this.#corrupt = metrics.counter('tfs_gateway_corrupt_reads_total', 'Answers with wrong bytes', [
      'server',
    ]);
    this.#damaged = metrics.counter(
      'tfs_gateway_damaged_answers_total',
      'Requests for a picture of which every replica is damaged: somebody has to look',
    );
  }

  /** For a server of metrics: the same registry, brought up to date before it is written out. */
  get exposed(): Metrics {
    return { ...this.#metrics, text: () => this.text() };
  }

  get contentType(): string {
    return this.#metrics.contentType;
  }

  text(): Promise<string> {
    this.#publish();
    return this.#metrics.text();
  }

  observed(name: string, help: string, value: () => number): void {
    this.#metrics.observed(name, help, value);
  }

  counted(name: string, help: string, value: () => number): void {
    this.#metrics.counted(name, help, value);
  }

  close(): void {
    this.#metrics.close();
  }

  served(status: number, bytes: number): void {
    const sum = this.#served.get(status);
    if (sum === undefined) this.#served.set(status, { count: 1, bytes });
    else {
      sum.count++;
      sum.bytes += bytes;
    }
  }

  stored(bytes: number, seconds: number): void {
    this.#uploadBytes.inc(bytes);
    this.#uploadSeconds.observe(seconds);
  }

  uploaded(code: string): void {
    this.#uploads.inc({ code });
  }

  mutated(kind: string, code: string): void {
    this.#mutations.inc({ kind, code });
  }

  retried(): void {
    this.#retries.inc();
  }

  hedged(): void {
    this.#hedges.inc();
  }

  corrupt(server: number): void {
    this.#corrupt.inc({ server });
  }

  damaged(): void {
    this.#damaged.inc();
  }

  #publish(): void {
    for (const [status, { count, bytes }] of this.#served) {
      this.#requests.inc({ status }, count);
      this.#sentBytes.inc(bytes);
    }
    this.#served.clear();
    this.#cache.inc({ result: 'hit' }, this.hits - this.#published.hits);
    this.#cache.inc({ result: 'miss' }, this.misses - this.#published.misses);
    this.#published = { hits: this.hits, misses: this.misses };
  }
}
