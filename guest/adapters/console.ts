import { open } from "node:fs/promises";
import process from "node:process";
import type { Log } from "../ports.ts";

/** JSON lines on standard error, which the units send to the journal; `ms` since the process started. */
export const log: Log = (message, fields = {}) => {
  const ms = Math.round(performance.now());
  const line = { time: new Date().toISOString(), ms, message, ...fields };
  process.stderr.write(JSON.stringify(line) + "\n");
};

/** A line on the kernel's console: the serial port, which the host reads. Lost where there is none. */
export async function printOnConsole(line: string): Promise<void> {
  let file;
  try {
    file = await open("/dev/console", "w");
  } catch (error) {
    log("no console", { error: String(error) });
    return;
  }
  try {
    await file.write(`\n${line}\n`);
  } finally {
    await file.close();
  }
}
