import { fromUtf8 } from "#core/bytes/bytes.ts";
import { run } from "#adapters/processes.ts";
import type { CommandResult } from "../haproxy.ts";

const ANY_EXIT_CODE = Array.from({ length: 256 }, (_, code) => code);
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/** Runs a program to its end; a nonzero exit is a result, not an error. */
export async function runCommand(
  argv: readonly string[],
  timeoutMs: number,
): Promise<CommandResult> {
  const options = { timeoutMs, okCodes: ANY_EXIT_CODE, maxOutputBytes: MAX_OUTPUT_BYTES };
  const { code, stdout, stderr } = await run(argv, options);
  return { exitCode: code, stdout: fromUtf8(stdout, `output of ${argv[0]}`), stderr };
}
