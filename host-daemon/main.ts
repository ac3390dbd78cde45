import process from "node:process";
import { parseArgs } from "node:util";
import { getLogger } from "@logtape/logtape";
import { loadConfig } from "#adapters/config.ts";
import { configureLogging } from "#adapters/logging.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import manifest from "../package.json" with { type: "json" };
import { startDaemon } from "./adapters/daemon.ts";
import { dstackdConfig } from "./config.ts";

const USAGE = "usage: dstackd --config FILE [--check-config]";
/** `git:<20 hex>`, set by the build. */
const REVISION = process.env["DSTACK_REVISION"] ?? "unknown";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: "string", short: "c" },
      "check-config": { type: "boolean", default: false },
      version: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return print(USAGE);
  if (values.version) return print(`v${manifest.version} (${REVISION})`);
  if (values.config === undefined) throw new AppError("config/invalid", USAGE);
  const config = await loadConfig(dstackdConfig, {
    file: values.config,
    envPrefix: "DSTACK_DSTACKD_",
  });
  if (values["check-config"]) return print("configuration is valid");

  await configureLogging({ program: "dstackd" });
  const logger = getLogger(["dstackd"]);
  const daemon = await startDaemon(
    config,
    { version: manifest.version, rev: REVISION },
    (message, facts) => {
      if ("error" in facts) logger.error(message, { ...facts });
      else logger.info(message, { ...facts });
    },
  );
  let closing = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      if (closing) process.exit(1);
      closing = true;
      daemon.close().then(() => process.exit(0), (error) => fail(error));
    });
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function fail(error: unknown): never {
  const code = error instanceof AppError ? `${error.code}: ` : "";
  process.stderr.write(`dstackd: ${code}${errorChain(error)}\n`);
  const isUsage = error instanceof AppError && error.code === "config/invalid" ||
    error instanceof TypeError && "code" in error &&
      String(error.code).startsWith("ERR_PARSE_ARGS");
  process.exit(isUsage ? 2 : 1);
}

main().catch(fail);
