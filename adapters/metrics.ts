import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { MetricLabels, MetricOptions, Metrics } from "#core/http/metrics.ts";

/**
 * Metrics of this process for Prometheus. With `processMetrics` (Node only) also those of the runtime:
 * CPU, memory, event loop.
 */
export function createPrometheusMetrics(options: { processMetrics?: boolean } = {}): Metrics {
  const registry = new Registry();
  if (options.processMetrics) collectDefaultMetrics({ register: registry });
  const known = new Map<string, unknown>();
  const once = <T>(name: string, make: () => T): T => {
    const metric = known.get(name) ?? make();
    known.set(name, metric);
    return metric as T;
  };
  const configOf = ({ name, help, labels = [] }: MetricOptions) => ({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
  });
  return {
    counter: (options) =>
      once(options.name, () => {
        const counter = new Counter(configOf(options));
        return {
          add: (amount = 1, labels?: MetricLabels) =>
            labels === undefined ? counter.inc(amount) : counter.inc({ ...labels }, amount),
        };
      }),
    gauge: (options) =>
      once(options.name, () => {
        const gauge = new Gauge(configOf(options));
        return {
          set: (value: number, labels?: MetricLabels) =>
            labels === undefined ? gauge.set(value) : gauge.set({ ...labels }, value),
        };
      }),
    histogram: (options) =>
      once(options.name, () => {
        const buckets = options.buckets && { buckets: [...options.buckets] };
        const histogram = new Histogram({ ...configOf(options), ...buckets });
        return {
          observe: (value: number, labels?: MetricLabels) =>
            labels === undefined
              ? histogram.observe(value)
              : histogram.observe({ ...labels }, value),
        };
      }),
    text: () => registry.metrics(),
  };
}
