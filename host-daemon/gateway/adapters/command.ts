import { execFile } from "node:child_process";
import { AppError } from "#core/errors/app-error.ts";
import type { CommandResult } from "../haproxy.ts";

const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/** Runs a program to its end; a nonzero exit is a result, not an error. */
export function runCommand(argv: readonly string[], timeoutMs: number): Promise<CommandResult> {
  const [file, ...args] = argv;
  if (file === undefined) throw new TypeError("Empty argv");
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, maxBuffer: MAX_OUTPUT_BYTES, encoding: "utf8" as const };
    execFile(file, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve({ exitCode: 0, stdout, stderr });
      if (typeof error.code === "number") {
        return resolve({ exitCode: error.code, stdout, stderr });
      }
      const missing = error.code === "ENOENT";
      const why = missing ? "not found" : error.killed ? `not done in ${timeoutMs} ms` : "failed";
      reject(new AppError("internal", `Cannot run ${file}: ${why}`, { cause: error }));
    });
  });
}
