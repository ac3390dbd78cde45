import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { serveHttp } from "#adapters/http-server.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { createAuthApp } from "#functions/auth/app.ts";
import { authConfigSchema } from "./auth-config.ts";
import { closeOnSignal, errorFacts, logLine, readConfig } from "./process.ts";
import { VERSION } from "./version.ts";

/** The authorisation service: `--config auth.toml`, `--check-config`. */
export async function authMain(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      config: { type: "string", short: "c" },
      "check-config": { type: "boolean", default: false },
    },
  });
  const config = await readConfig(values.config, authConfigSchema);
  if (values["check-config"]) return;
  const app = createAuthApp({
    readAllowlist: () => readFile(config.allowlist, "utf8"),
    logDecision: ({ role, boot, decision }) => {
      logLine("info", "decision", {
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
    logError: (error) => logLine("error", "allowlist", errorFacts(error)),
    metrics: noMetrics,
    version: VERSION,
  });
  const server = await serveHttp(app.fetch, { host: config.address, port: config.port });
  logLine("info", "auth is serving", { address: `${config.address}:${server.port}` });
  closeOnSignal(() => server.close());
}
