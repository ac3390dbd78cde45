import process from "node:process";
import { parseArgs } from "node:util";
import { getLogger, type LogLevel } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { configureLogging } from "#adapters/logging.ts";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { errorChain } from "#core/errors/app-error.ts";
import manifest from "../../package.json" with { type: "json" };
import {
  checkGateway,
  type GatewayLog,
  type RunningGateway,
  startGateway,
  takeDown,
} from "./adapters/gateway.ts";
import { type GatewayConfig, gatewayConfigSchema } from "./config.ts";

const USAGE = `Usage: gateway --config gateway.toml [--check-config | --down]

  --check-config  read the configuration and the files it names, say what is wrong, start nothing
  --down          stop the HAProxy and delete the WireGuard interface an earlier run left
SIGTERM and SIGINT stop everything; SIGHUP ends this process alone, for the next one to take over.

Example: gateway --config /etc/dstack/gateway.toml
`;

/** `git:<20 hex>`, set by the build. */
const REVISION = process.env["DSTACK_REVISION"] ?? "unknown";
const VERSION = { version: manifest.version, rev: REVISION };
const ADMIN_TOKEN_VARIABLES = ["DSTACK_GATEWAY_ADMIN_TOKEN", "ADMIN_API_TOKEN"];

process.exitCode = await main();

async function main(): Promise<number> {
  let options;
  try {
    options = parseArgs({
      options: {
        config: { type: "string", short: "c" },
        "check-config": { type: "boolean", default: false },
        down: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
        version: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`${errorChain(error)}\n${USAGE}`);
    return 2;
  }
  if (options.help || options.version) {
    process.stdout.write(options.help ? USAGE : `v${VERSION.version} (${REVISION})\n`);
    return 0;
  }
  if (options.config === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  let config: GatewayConfig;
  try {
    config = withAdminToken(
      await loadConfig(gatewayConfigSchema, {
        file: options.config,
        envPrefix: "DSTACK_GATEWAY_",
        otherVariables: ADMIN_TOKEN_VARIABLES,
      }),
    );
    if (options["check-config"]) {
      await checkGateway(config);
      return 0;
    }
  } catch (error) {
    process.stderr.write(`${errorChain(error)}\n`);
    return 2;
  }
  try {
    await configureLogging({ program: "gateway", level: levelOf(config.log_level) });
    const logger = getLogger(["gateway"]);
    const log: GatewayLog = (level, message, fields = {}) => logger[level](message, { ...fields });
    if (options.down) {
      await takeDown(config, log);
      return 0;
    }
    const metrics = createPrometheusMetrics({ processMetrics: !("Deno" in globalThis) });
    const gateway = await startGateway({ config, version: VERSION, metrics, log });
    await untilSignal(gateway, log);
    return 0;
  } catch (error) {
    process.stderr.write(`gateway: ${errorChain(error)}\n`);
    return 1;
  }
}

/** The token of the environment counts where the file has none (gateway.md 7.4). */
function withAdminToken(config: GatewayConfig): GatewayConfig {
  const { admin } = config.core;
  const variable = ADMIN_TOKEN_VARIABLES.find((name) => process.env[name] !== undefined);
  if (variable === undefined || admin.auth_token.trim() !== "") return config;
  const withToken = { ...admin, auth_token: process.env[variable] ?? "" };
  return { ...config, core: { ...config.core, admin: withToken } };
}

function levelOf(text: string): LogLevel {
  const known: readonly LogLevel[] = ["trace", "debug", "info", "warning", "error", "fatal"];
  const name = text === "warn" ? "warning" : text;
  return known.find((level) => level === name) ?? "info";
}

async function untilSignal(gateway: RunningGateway, log: GatewayLog): Promise<void> {
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, resolve);
  });
  log("info", signal === "SIGHUP" ? "gateway hands over" : "gateway stops", { signal });
  if (signal === "SIGHUP") await gateway.detach();
  else await gateway.stop();
}
