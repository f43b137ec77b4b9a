import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * The numbers of one process, in a registry of its own so that several servers of one test process do not meet.
 * Names start with `tfs_` and the kind of process, so that sums never mix what a NameServer knows with what a DataServer
 * has, and end with their unit (`_seconds`, `_bytes`); what only grows is a counter and ends with `_total`.
 */
export interface Metrics {
  counter<L extends string = never>(name: string, help: string, labels?: readonly L[]): Counter<L>;
  gauge<L extends string = never>(name: string, help: string, labels?: readonly L[]): Gauge<L>;
  /** A gauge that is asked for its value when somebody looks. */
  observed(name: string, help: string, value: () => number): Gauge;
  /** A counter that is asked how much there has been since the start; its name ends with `_total`. */
  counted(name: string, help: string, value: () => number): Counter;
  /** Gauges that are asked for their values, one for each value of a label. */
  observedBy<L extends string>(
    name: string,
    help: string,
    label: L,
    values: () => Iterable<readonly [string | number, number]>,
  ): Gauge<L>;
  histogram<L extends string = never>(
    name: string,
    help: string,
    options?: { readonly labels?: readonly L[]; readonly buckets?: readonly number[] },
  ): Histogram<L>;
  readonly contentType: string;
  text(): Promise<string>;
  close(): void;
}

/** Seconds: from a picture in the cache to a disk that hangs. */
export const LATENCY_BUCKETS_SECONDS: readonly number[] = [
  0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

export interface MetricsOptions {
  /** Labels on every series: which process this is. */
  readonly kind: string;
  readonly id: string;
  /** Event loop, memory and garbage collection of the process: off in tests that hold several servers. */
  readonly processMetrics?: boolean;
}

export function openMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ kind: options.kind, id: options.id });
  if (options.processMetrics ?? true) collectDefaultMetrics({ register: registry });
  return {
    counter: (name, help, labels = []) =>
      new Counter({ name, help, labelNames: [...labels], registers: [registry] }),
    gauge: (name, help, labels = []) =>
      new Gauge({ name, help, labelNames: [...labels], registers: [registry] }),
    observed: (name, help, value) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(value());
        },
      }),
    counted: (name, help, value) =>
      new Counter({
        name,
        help,
        registers: [registry],
        collect() {
          this.reset();
          this.inc(value());
        },
      }),
    observedBy: <L extends string>(
      name: string,
      help: string,
      label: L,
      values: () => Iterable<readonly [string | number, number]>,
    ) =>
      new Gauge<L>({
        name,
        help,
        labelNames: [label],
        registers: [registry],
        collect() {
          this.reset();
          for (const [of, value] of values())
            this.set({ [label]: of } as Partial<Record<L, string | number>>, value);
        },
      }),
    histogram: (name, help, { labels = [], buckets = LATENCY_BUCKETS_SECONDS } = {}) =>
      new Histogram({ name, help, labelNames: [...labels], buckets: [...buckets], registers: [registry] }),
    contentType: registry.contentType,
    text: () => registry.metrics(),
    close: () => registry.clear(),
  };
}
