import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import { writeFileAtomic } from "#adapters/files.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { unixFetch } from "#adapters/unix-http.ts";
import { runFromCheckout } from "./adapters/checkout.ts";
import type { CliPorts } from "./context.ts";
import { runCli } from "./run.ts";
import manifest from "../package.json" with { type: "json" };

const ports: CliPorts = {
  env: process.env,
  readFile: async (path) => new Uint8Array(await readFile(path)),
  writeFile: (path, bytes) => writeFileAtomic(path, bytes, 0o600),
  fetch: (url, init) => fetch(url, init as RequestInit),
  // Logs are followed for as long as somebody reads them.
  unixFetch: (path) => unixFetch(path, { timeoutMs: 0, maxResponseBytes: Infinity }),
  tlsFetch: (caPem) =>
    makeTlsFetch({ verify: "ca", checkHostname: true, ...(caPem !== undefined && { caPem }) }),
  now: () => new Date(),
  randomBytes: (length) => new Uint8Array(randomBytes(length)),
  sleep: (ms) => sleep(ms),
  print: (text) => process.stdout.write(`${text}\n`),
  write: (text) => process.stdout.write(text),
  say: (text) => process.stderr.write(`${text}\n`),
  runFromCheckout,
  setExitCode: (code) => process.exitCode = code,
};

await runCli(process.argv.slice(2), manifest.version, ports);
