import { CommanderError } from "commander";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { EXIT_REFUSED } from "./commands/verify.ts";
import type { CliPorts } from "./context.ts";
import { createProgram } from "./program.ts";

const EXIT_FAILED = 1;
/** What the user gave cannot be used: an option, a file, evidence. */
const EXIT_USAGE = 2;

/** Runs one command; what went wrong is said on stderr, and the exit status is design section 4's. */
export async function runCli(
  argv: readonly string[],
  version: string,
  ports: CliPorts,
): Promise<void> {
  try {
    await createProgram(version, ports).parseAsync([...argv], { from: "user" });
  } catch (error) {
    ports.setExitCode(report(error, ports));
  }
}

function report(error: unknown, { say }: CliPorts): number {
  // Commander has said it already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (!(error instanceof AppError)) {
    say(`dstack: ${errorChain(error)}`);
    return EXIT_FAILED;
  }
  say(`dstack: ${error.message} (${error.code})`);
  if (/^(attestation\/refused|crypto\/invalid-signature)$/.test(error.code)) return EXIT_REFUSED;
  return /^(input|config)\//.test(error.code) ? EXIT_USAGE : EXIT_FAILED;
}
