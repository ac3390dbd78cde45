import { readFile } from "node:fs/promises";
import process from "node:process";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { AppError } from "#core/errors/app-error.ts";
import { createAuthApp } from "#functions/auth/app.ts";
import { runPolicyCases } from "#functions/auth/policy-test.ts";
import { allowlistReader } from "#functions/auth/simple-backend.ts";
import { allowlistOptions, openAuthBackend } from "./auth-backend.ts";
import { type AuthConfig, authConfigSchema } from "./auth-config.ts";
import { closeOnSignal } from "./process.ts";
import { VERSION } from "./version.ts";

/** The authorisation service: `--config auth.toml`, `--check-config`, and `policy test CASES.json`. */
export async function authMain(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      config: { type: "string", short: "c", default: "auth.toml" },
      "check-config": { type: "boolean", default: false },
    },
  });
  const config = await loadConfig(authConfigSchema, {
    file: values.config,
    envPrefix: "DSTACK_AUTH_",
  });
  const [command, verb, cases, ...more] = positionals;
  if (command === "policy" && verb === "test" && cases !== undefined && more.length === 0) {
    return await testPolicy(config, cases);
  }
  if (command !== undefined) {
    throw new AppError("config/invalid", `Unknown command: ${positionals.join(" ")}`);
  }
  const metrics = createPrometheusMetrics();
  const backend = await openAuthBackend(config, metrics);
  if (values["check-config"]) return;
  await configureLogging({ program: "auth", level: config.log_level });
  const log = getLogger("auth");
  if (backend.name === "mock") log.warning("Everything is allowed: this is the mock backend");
  const app = createAuthApp({
    backend,
    logDecision: ({ role, boot, decision, traceId }) => {
      log.info("decision", {
        trace_id: traceId,
        role,
        allowed: decision.isAllowed,
        reason: decision.reason,
        rule: decision.rule,
        block: decision.block?.number,
        app_id: boot.appId,
        instance_id: boot.instanceId,
        compose_hash: boot.composeHash,
        os_image_hash: boot.osImageHash,
        mr_aggregated: boot.mrAggregated,
        tcb_status: boot.tcbStatus,
      });
    },
    logError: (error) => log.error("Nothing can be decided", { error }),
    metrics,
    version: VERSION,
  });
  const server = await serveHttp(app.fetch, { host: config.address, port: config.port });
  log.info("auth is serving", { address: `${config.address}:${server.port}` });
  closeOnSignal(() => server.close());
}

/** Decides the cases of a file with the allowlist; exit status 1 when one is not as expected. */
async function testPolicy(config: AuthConfig, path: string): Promise<void> {
  const allowlist = await allowlistReader(allowlistOptions(config))();
  const outcomes = runPolicyCases(await readFile(path, "utf8"), allowlist);
  for (const { name, ok, text } of outcomes) {
    process.stdout.write(`${ok ? "ok  " : "FAIL"} ${name}: ${text}\n`);
  }
  if (outcomes.some(({ ok }) => !ok)) process.exitCode = 1;
}
