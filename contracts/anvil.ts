import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";

/** Foundry's development chain from npm; undefined where it is not installed. */
export function anvilPath(): string | undefined {
  try {
    const require = createRequire(import.meta.url);
    const manifest = require.resolve("@foundry-rs/anvil-linux-amd64/package.json");
    return join(dirname(manifest), "bin", "anvil");
  } catch {
    return undefined;
  }
}

/** Starts a chain on loopback whose blocks are final after two more. */
export async function startAnvil(path: string): Promise<{ url: string; close(): Promise<void> }> {
  const free = createServer();
  await new Promise<void>((resolve) => free.listen(0, "127.0.0.1", resolve));
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  const child = spawn(path, [
    "--host",
    "127.0.0.1",
    "--port",
    String(port),
    "--slots-in-an-epoch",
    "1",
  ], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk: Uint8Array) => {
      text = (text + new TextDecoder().decode(chunk)).slice(-4096);
      if (text.includes("Listening on")) resolve();
    });
    child.once("exit", () => reject(new Error("anvil ended")));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
