import process from "node:process";
import { run as runProgram, startProcess } from "#adapters/processes.ts";
import type { Run } from "../ports.ts";

/** Exit codes are for the caller to judge. */
const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);
/** Formatting a large disk, an app's script: nothing here is quick by contract. */
const TIMEOUT_MS = 30 * 60_000;

export const run: Run = async (argv, options = {}) => {
  const { input, env, cwd, timeoutMs = TIMEOUT_MS } = options;
  const result = await runProgram(argv, {
    okCodes: ANY_CODE,
    timeoutMs,
    env: { ...inheritedEnv(), ...env },
    ...input !== undefined && { input },
    ...cwd !== undefined && { cwd },
  });
  return { ...result, stdout: new TextDecoder().decode(result.stdout) };
};

/** Runs a command whose output is worth showing while it runs; answers its exit code. */
export async function runLines(
  argv: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
  onLine: (line: string) => void,
): Promise<number> {
  const child = await startProcess(argv, { ...options, onLine });
  const { code } = await child.exited;
  return code ?? 255;
}

/** The environment of this process without what systemd meant for it alone. */
export function inheritedEnv(): Record<string, string> {
  const own = /^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_|INVOCATION_ID|JOURNAL_STREAM|DENO_|MALLOC_)/;
  const entries = Object.entries(process.env).filter(([name, value]) =>
    value !== undefined && !own.test(name)
  );
  return Object.fromEntries(entries) as Record<string, string>;
}
