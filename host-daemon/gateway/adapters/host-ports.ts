import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { DataPlanePorts } from "../data-plane.ts";
import type { DataPlanePaths } from "../haproxy-config.ts";
import { runCommand } from "./command.ts";
import { inspectCertificate } from "./inspect-certificate.ts";
import { exchange, serveLines, watchPeer } from "./line-socket.ts";
import { makeDirectory, readTextIfAny, writePrivateText } from "./private-files.ts";
import { commandLine, identify, signalProcess } from "./process-table.ts";

const RUNTIME_TIMEOUT_MS = 5_000;
const MAX_HOST_BYTES = 300;

/** The data plane's ports on a Linux host; what remains is the control plane's own. */
export function hostDataPlanePorts(
  paths: DataPlanePaths,
  own: Pick<DataPlanePorts, "decide" | "onRefused" | "log">,
): DataPlanePorts {
  return {
    ...own,
    run: runCommand,
    readText: readTextIfAny,
    writeText: writePrivateText,
    remove: (path) => rm(path, { force: true }),
    makeDirectory,
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
        { maxBytes: MAX_HOST_BYTES, timeoutMs: RUNTIME_TIMEOUT_MS, mode: 0o600 },
        answer,
        (error) => own.log("error", "route question failed", { error }),
      ),
  };
}
