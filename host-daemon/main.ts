import { readFile } from "node:fs/promises";
import process from "node:process";
import { parseArgs } from "node:util";
import { parse } from "smol-toml";
import { errorChain } from "#core/errors/app-error.ts";
import { startDaemon } from "./adapters/daemon.ts";
import { dstackdConfig } from "./config.ts";

const { values } = parseArgs({
  options: {
    config: { type: "string", short: "c" },
    "check-config": { type: "boolean", default: false },
  },
});

const log = (message: string, facts: Readonly<Record<string, unknown>>) => {
  process.stdout.write(
    JSON.stringify({ time: new Date().toISOString(), message, ...facts }) + "\n",
  );
};
const config = dstackdConfig.parse(parse(await readFile(values.config!, "utf8")));
if (values["check-config"]) process.exit(0);
try {
  const daemon = await startDaemon(config, { version: "0.1.0", rev: "unknown" }, log);
  const stop = async () => {
    await daemon.close();
    process.exit(0);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
} catch (error) {
  log("dstackd cannot start", { error: errorChain(error) });
  process.exit(1);
}
