/** Values of a metric's labels. Never a secret, never unbounded: each combination is kept for good. */
export type MetricLabels = Readonly<Record<string, string>>;

export interface MetricOptions {
  /** Prometheus name with its unit: `dstack_kms_release_seconds`. */
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

export interface Counter {
  add(amount?: number, labels?: MetricLabels): void;
}
export interface Gauge {
  set(value: number, labels?: MetricLabels): void;
}
export interface Histogram {
  observe(value: number, labels?: MetricLabels): void;
}

/** What a service counts. Asking for a name again returns the same metric. */
export interface Metrics {
  counter(options: MetricOptions): Counter;
  gauge(options: MetricOptions): Gauge;
  /** `buckets`: upper bounds in the metric's unit. */
  histogram(options: MetricOptions & { readonly buckets?: readonly number[] }): Histogram;
  /** The Prometheus text format, undefined where nothing is kept. */
  text(): Promise<string | undefined>;
}

/** Keeps nothing: for Workers and tests. */
export const noMetrics: Metrics = {
  counter: () => ({ add() {} }),
  gauge: () => ({ set() {} }),
  histogram: () => ({ observe() {} }),
  text: () => Promise.resolve(undefined),
};
