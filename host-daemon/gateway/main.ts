import { readFile } from "node:fs/promises";
import process from "node:process";
import { parseArgs } from "node:util";
import { parse as parseToml } from "smol-toml";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { noMetrics } from "#core/http/metrics.ts";
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

const VERSION = { version: "0.1.0", rev: "unknown" };

/** One JSON object a line. Errors become their messages; causes are for the operator too. */
const log: GatewayLog = (level, message, fields = {}) => {
  const plain = Object.fromEntries(
    Object.entries(fields).map((
      [name, value],
    ) => [name, value instanceof Error ? errorChain(value) : value]),
  );
  process.stdout.write(
    JSON.stringify({ time: new Date().toISOString(), level, message, ...plain }) + "\n",
  );
};

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
    process.stdout.write(options.help ? USAGE : `v${VERSION.version} (${VERSION.rev})\n`);
    return 0;
  }
  if (options.config === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  let config: GatewayConfig;
  try {
    config = await readConfig(options.config);
    if (options["check-config"]) {
      await checkGateway(config);
      return 0;
    }
  } catch (error) {
    process.stderr.write(`${errorChain(error)}\n`);
    return 2;
  }
  try {
    if (options.down) {
      await takeDown(config, log);
      return 0;
    }
    const gateway = await startGateway({ config, version: VERSION, metrics: noMetrics, log });
    await untilSignal(gateway);
    return 0;
  } catch (error) {
    log("error", "gateway cannot go on", { error });
    return 1;
  }
}

async function readConfig(path: string): Promise<GatewayConfig> {
  const token = process.env["DSTACK_GATEWAY_ADMIN_TOKEN"] ?? process.env["ADMIN_API_TOKEN"];
  const document = parseToml(await readFile(path, "utf8"));
  if (token !== undefined) addAdminToken(document, token);
  const parsed = gatewayConfigSchema.safeParse(document);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new AppError("config/invalid", `${path}:\n  ${faults.join("\n  ")}`);
}

/** The token of the environment counts where the file has none (gateway.md 7.4). */
function addAdminToken(document: Record<string, unknown>, token: string): void {
  const core = (document["core"] ??= {}) as Record<string, unknown>;
  const admin = (core["admin"] ??= {}) as Record<string, unknown>;
  if (admin["auth_token"] === undefined || admin["auth_token"] === "") admin["auth_token"] = token;
}

async function untilSignal(gateway: RunningGateway): Promise<void> {
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, resolve);
  });
  log("info", signal === "SIGHUP" ? "gateway hands over" : "gateway stops", { signal });
  if (signal === "SIGHUP") await gateway.detach();
  else await gateway.stop();
}
