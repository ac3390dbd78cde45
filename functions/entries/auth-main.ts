import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { createAuthApp } from "#functions/auth/app.ts";
import { authConfigSchema } from "./auth-config.ts";
import { closeOnSignal } from "./process.ts";
import { VERSION } from "./version.ts";

/** The authorisation service: `--config auth.toml`, `--check-config`. */
export async function authMain(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      config: { type: "string", short: "c", default: "auth.toml" },
      "check-config": { type: "boolean", default: false },
    },
  });
  const config = await loadConfig(authConfigSchema, {
    file: values.config,
    envPrefix: "DSTACK_AUTH_",
  });
  if (values["check-config"]) return;
  await configureLogging({ program: "auth", level: config.log_level });
  const log = getLogger("auth");
  const app = createAuthApp({
    readAllowlist: () => readFile(config.allowlist, "utf8"),
    logDecision: ({ role, boot, decision }) => {
      log.info("decision", {
        role,
        allowed: decision.isAllowed,
        reason: decision.reason,
        app_id: boot.appId,
        instance_id: boot.instanceId,
        compose_hash: boot.composeHash,
        os_image_hash: boot.osImageHash,
        mr_aggregated: boot.mrAggregated,
        tcb_status: boot.tcbStatus,
      });
    },
    logError: (error) => log.error("Allowlist cannot be used", { error }),
    metrics: createPrometheusMetrics(),
    version: VERSION,
  });
  const server = await serveHttp(app.fetch, { host: config.address, port: config.port });
  log.info("auth is serving", { address: `${config.address}:${server.port}` });
  closeOnSignal(() => server.close());
}
