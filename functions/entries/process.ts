import process from "node:process";
import { AppError, errorChain } from "#core/errors/app-error.ts";

/** Runs `main`; what it throws is said on stderr, with exit 2 for a bad configuration, else 1. */
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
      process.stderr.write(`${errorChain(error)}\n`);
      process.exit(1);
    });
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
