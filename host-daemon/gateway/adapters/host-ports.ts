import { mkdir, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import type { DataPlanePorts } from "../data-plane.ts";
import type { DataPlanePaths } from "../haproxy-config.ts";
import type { WireguardPorts } from "../wireguard.ts";
import { runCommand } from "./command.ts";
import { inspectCertificate } from "./inspect-certificate.ts";
import { exchange, serveLines, type SocketOwner, watchPeer } from "./line-socket.ts";
import { commandLine, identify, signalProcess } from "./process-table.ts";

const RUNTIME_TIMEOUT_MS = 5_000;
const MAX_HOST_BYTES = 300;
const MAX_TEXT_BYTES = 1024 * 1024;

/** The data plane's ports on a Linux host; what remains is the control plane's own. */
export function hostDataPlanePorts(
  paths: DataPlanePaths,
  own: Pick<DataPlanePorts, "decide" | "onRefused" | "log">,
  haproxyOwner?: SocketOwner,
): DataPlanePorts {
  return {
    ...own,
    run: runCommand,
    readText: async (path) => {
      const bytes = await readFileIfExists(path, MAX_TEXT_BYTES);
      return bytes === undefined ? undefined : fromUtf8(bytes, path);
    },
    writeText: (path, text) => writeFileAtomic(path, text),
    remove: (path) => rm(path, { force: true }),
    makeDirectory: async (path, mode) => {
      await mkdir(path, { recursive: true, mode });
    },
    identify,
    commandLine,
    signal: signalProcess,
    send: (text) => exchange(paths.runtimeSocket, text, RUNTIME_TIMEOUT_MS),
    watch: (onClosed) => watchPeer(paths.runtimeSocket, onClosed),
    sleep: (ms) => sleep(ms),
    now: () => new Date(),
    inspect: inspectCertificate,
    serveRoutes: (path, answer) =>
      serveLines(
        path,
        { maxBytes: MAX_HOST_BYTES, timeoutMs: RUNTIME_TIMEOUT_MS, owner: haproxyOwner },
        answer,
        (error) => own.log("error", "route question failed", { error }),
      ),
  };
}

export const hostWireguardPorts: WireguardPorts = {
  run: runCommand,
  writeText: (path, text) => writeFileAtomic(path, text),
  exists: async (path) => await readFileIfExists(path, MAX_TEXT_BYTES) !== undefined,
  remove: (path) => rm(path, { force: true }),
  sleep: (ms) => sleep(ms),
};
