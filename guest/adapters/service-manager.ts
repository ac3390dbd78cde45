import { rm } from "node:fs/promises";
import process from "node:process";
import { runChecked } from "../run-checked.ts";
import { run } from "./run.ts";

/** The part of Deno this file uses: unix datagrams, which node:dgram has no form of. */
interface DenoDatagrams {
  listenDatagram?(options: { transport: "unixpacket"; path: string }): {
    send(data: Uint8Array, to: { transport: "unixpacket"; path: string }): Promise<number>;
    close(): void;
  };
}

/** Tells systemd about this service (sd_notify(3)); does nothing where nobody listens. */
export async function notifyServiceManager(state: "READY=1" | "WATCHDOG=1"): Promise<void> {
  const socket = process.env["NOTIFY_SOCKET"];
  if (socket === undefined) return;
  const listenDatagram = (globalThis as { Deno?: DenoDatagrams }).Deno?.listenDatagram;
  if (listenDatagram === undefined || !socket.startsWith("/")) {
    await run(["systemd-notify", state], { env: { NOTIFY_SOCKET: socket } });
    return;
  }
  const path = `/run/dstack/notify-${process.pid}.sock`;
  await rm(path, { force: true });
  const sender = listenDatagram({ transport: "unixpacket", path });
  try {
    await sender.send(new TextEncoder().encode(state), { transport: "unixpacket", path: socket });
  } finally {
    sender.close();
    await rm(path, { force: true });
  }
}

/** Half of the watchdog's period in milliseconds, at least 1 s; undefined when it is off. */
export function watchdogIntervalMs(): number | undefined {
  const microseconds = Number(process.env["WATCHDOG_USEC"] ?? 0);
  return microseconds > 0 ? Math.max(1000, microseconds / 2000) : undefined;
}

/** Resolves when the service is asked to stop; the second request ends the process at once. */
export function onStop(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
}

/**
 * Waits for kernel settings, TEE drivers and the network, which start beside this program. Throws
 * `guest/system`; a network that is missing shows when the host is called.
 */
export async function systemIsUp(): Promise<void> {
  await runChecked(run, ["systemctl", "start", "dstack-system.target"], {
    errorCode: "guest/system",
  });
}
