import assert from "node:assert/strict";
import { test } from "node:test";
import { getLogger, withContext } from "@logtape/logtape";
import { AppError } from "#core/errors/app-error.ts";
import { configureLogging } from "./logging.ts";
import { createPrometheusMetrics } from "./metrics.ts";

const lines: string[] = [];
await configureLogging({ program: "kms", level: "info", write: (line) => lines.push(line) });
const log = getLogger(["kms", "release"]);

function lastLine(): Record<string, unknown> {
  const line = lines.at(-1)!;
  assert.equal(line.indexOf("\n"), line.length - 1);
  return JSON.parse(line);
}

test("a record is one JSON line with its fields", () => {
  log.info("Released keys of {appId}", { appId: "ab", elapsedMs: 3, size: 5n });
  const { ts, ...rest } = lastLine();
  assert.match(String(ts), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual(rest, {
    level: "info",
    program: "kms",
    logger: "kms.release",
    msg: "Released keys of ab",
    appId: "ab",
    elapsedMs: 3,
    size: "5",
  });
});

test("text from outside cannot start a new line or a new field", () => {
  log.warn("Refused {name}", { name: 'x"}\n{"level":"info"}', level: "fatal" });
  const line = lastLine();
  assert.equal(line["msg"], 'Refused x"}\n{"level":"info"}');
  assert.equal(line["level"], "warning");
});

test("the surrounding context is in every line, across awaits", async () => {
  await withContext({ traceId: "t1" }, async () => {
    await Promise.resolve();
    log.info("inside");
  });
  assert.equal(lastLine()["traceId"], "t1");
  log.info("outside");
  assert.equal("traceId" in lastLine(), false);
});

test("fields named like secrets are redacted at any depth", () => {
  log.info("Config", { authToken: "hunter2", nested: { private_key: "hunter2", port: 1 } });
  assert.doesNotMatch(lines.at(-1)!, /hunter2/);
  assert.deepEqual(lastLine()["nested"], { private_key: "[redacted]", port: 1 });
});

test("errors carry code and causes, bytes are hex", () => {
  const error = new AppError("upstream/unavailable", "Cannot call KMS", {
    cause: new Error("ECONNREFUSED"),
  });
  log.error("Failed", { error, digest: Uint8Array.of(1, 255) });
  const logged = lastLine()["error"] as Record<string, unknown>;
  assert.equal(logged["code"], "upstream/unavailable");
  assert.equal(logged["message"], "Cannot call KMS: ECONNREFUSED");
  assert.equal(lastLine()["digest"], "01ff");
});

test("records below the level are dropped", () => {
  const before = lines.length;
  log.debug("quiet");
  assert.equal(lines.length, before);
});

test("metrics are written in the Prometheus text format", async () => {
  const metrics = createPrometheusMetrics();
  const calls = metrics.counter({ name: "calls_total", help: "Calls.", labels: ["method"] });
  calls.add(1, { method: "GetAppKey" });
  metrics.counter({ name: "calls_total", help: "Calls.", labels: ["method"] })
    .add(2, { method: "GetAppKey" });
  metrics.gauge({ name: "vms", help: "VMs." }).set(4);
  metrics.histogram({ name: "seconds", help: "Time.", buckets: [0.1, 1] }).observe(0.5);
  const text = await metrics.text();
  assert.match(text!, /^calls_total\{method="GetAppKey"\} 3$/m);
  assert.match(text!, /^vms 4$/m);
  assert.match(text!, /^seconds_bucket\{le="0.1"\} 0$/m);
  assert.match(text!, /^seconds_bucket\{le="1"\} 1$/m);
});
