import { readFile } from "node:fs/promises";
import process from "node:process";
import { parse } from "smol-toml";
import type { z } from "zod";
import { AppError, errorChain } from "#core/errors/app-error.ts";

/** Reads a TOML file into what its schema describes. Throws `config/invalid`, naming every fault. */
export async function readConfig<T>(path: string | undefined, schema: z.ZodType<T>): Promise<T> {
  let document: unknown = {};
  if (path !== undefined) {
    try {
      document = parse(await readFile(path, "utf8"));
    } catch (cause) {
      throw new AppError("config/invalid", `Cannot read ${path}`, { cause });
    }
  }
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new AppError("config/invalid", `Configuration is invalid:\n  ${faults.join("\n  ")}`);
}

/** One JSON line on stdout. */
export function logLine(level: "info" | "warning" | "error", message: string, facts: object = {}) {
  const line = { time: new Date().toISOString(), level, message, ...facts };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** An error for the log: its code, and the messages of it and its causes. */
export function errorFacts(error: unknown): object {
  return {
    error: errorChain(error),
    ...error instanceof AppError && { code: error.code },
    ...!(error instanceof AppError) && error instanceof Error && { stack: error.stack },
  };
}

/** Runs `main`; what it throws is the last line on stderr, and exit 2 for a bad configuration. */
export async function runProgram(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    process.stderr.write(`${errorChain(error)}\n`);
    process.exit(error instanceof AppError && error.code === "config/invalid" ? 2 : 1);
  }
}

/** Ends the process after `close` on SIGTERM or SIGINT; a second signal ends it at once. */
export function closeOnSignal(close: () => Promise<void>): void {
  let closing = false;
  const stop = () => {
    if (closing) process.exit(1);
    closing = true;
    close().then(() => process.exit(0), (error) => {
      logLine("error", "closing", errorFacts(error));
      process.exit(1);
    });
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
