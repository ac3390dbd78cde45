import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import { CommanderError } from "commander";
import { writeFileAtomic } from "#adapters/files.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { EXIT_UNREADABLE, UnreadableError } from "./commands/verify.ts";
import type { CliPorts } from "./context.ts";
import { createProgram } from "./program.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const ports: CliPorts = {
  env: process.env,
  readFile: async (path) => new Uint8Array(await readFile(path)),
  writeFile: (path, bytes) => writeFileAtomic(path, bytes, 0o600),
  fetch: (url, init) => fetch(url, init as RequestInit),
  tlsFetch: (caPem) =>
    makeTlsFetch({ verify: "ca", checkHostname: true, ...(caPem !== undefined && { caPem }) }),
  now: () => new Date(),
  randomBytes: (length) => new Uint8Array(randomBytes(length)),
  sleep: (ms) => sleep(ms),
  print: (text) => process.stdout.write(`${text}\n`),
  write: (text) => process.stdout.write(text),
  say: (text) => process.stderr.write(`${text}\n`),
  setExitCode: (code) => process.exitCode = code,
};

try {
  await createProgram("0.1.0", ports).parseAsync(process.argv);
} catch (error) {
  process.exitCode = report(error);
}

/** Says what went wrong on stderr; answers the exit status. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const known = error instanceof AppError || error instanceof UnreadableError;
  const text = known ? error.message : errorChain(error);
  const reason = error instanceof AppError ? ` (${error.code})` : "";
  ports.say(`dstack: ${text}${reason}`);
  if (error instanceof AppError && error.code === "attestation/refused") return 3;
  return error instanceof UnreadableError ? EXIT_UNREADABLE : EXIT_FAILED;
}
