import { AppError, type ErrorCode } from "#core/errors/app-error.ts";
import type { Run, RunOptions } from "./ports.ts";

/** The most of a command's error output that goes into a message. */
const MAX_STDERR = 500;

/**
 * Runs a command that must succeed; answers its output. The error names the program and shows what it
 * said, not its arguments.
 */
export async function runChecked(
  run: Run,
  argv: readonly string[],
  options: RunOptions & { readonly errorCode?: ErrorCode; readonly okCodes?: readonly number[] } =
    {},
): Promise<string> {
  const { errorCode = "guest/command-failed", okCodes = [0], ...runOptions } = options;
  const { code, stdout, stderr } = await run(argv, runOptions);
  if (okCodes.includes(code)) return stdout;
  const said = (stderr.trim() || stdout.trim()).slice(-MAX_STDERR).replaceAll("\n", "; ");
  const program = argv.slice(0, 2).join(" ");
  throw new AppError(errorCode, `${program} exited with ${code}${said && `: ${said}`}`);
}
