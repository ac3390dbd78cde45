import { spawn } from "node:child_process";
import { access } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { AppError } from "#core/errors/app-error.ts";

/**
 * Runs a program of the checkout dstack was started from, on this terminal, and resolves with its exit
 * status. Throws `input/unsupported` where there is none, as beside a compiled binary.
 */
export async function runFromCheckout(program: string, argv: readonly string[]): Promise<number> {
  const path = join(import.meta.dirname, "../..", program);
  if (!await access(path).then(() => true, () => false)) {
    throw new AppError("input/unsupported", `This needs a checkout of dstack-edge, for ${program}`);
  }
  return await new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path, ...argv], {
      stdio: "inherit",
      env: { ...process.env, NODE_USE_ENV_PROXY: "1" },
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 128)); // ended by a signal
  });
}
