import { serveHttp } from "#adapters/http-server.ts";
import { unixFetch } from "#adapters/unix-http.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { errorChain } from "#core/errors/app-error.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { notifyServiceManager, watchdogIntervalMs } from "../adapters/service-manager.ts";
import { readNetworkInfo } from "../adapters/network.ts";
import { run } from "../adapters/run.ts";
import { readCloud, readSystemFiles } from "../adapters/system-files.ts";
import { dstackSocketApp, externalApp, tappdSocketApp } from "../agent/agent-app.ts";
import { createAgent } from "../agent/agent.ts";
import { DOCKER_SOCKET } from "../agent/docker-client.ts";
import { guestApiApp } from "../agent/guest-api-service.ts";
import { parseSystemInfo } from "../agent/system-info.ts";
import { osReleaseValue } from "../boot/guest-facts.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import type { SysConfig } from "../boot/sys-config.ts";
import { runChecked } from "../run-checked.ts";
import { GUEST_VERSION } from "../version.ts";
import {
  type KeyedGuestContext,
  readKeyedGuestContext,
  waitForSetup,
  WORK_DIR,
} from "./guest-context.ts";
import { openAgentSockets, type SocketApps } from "./agent-sockets.ts";

const GPU_ATTESTATION = "/run/nvidia-gpu-attestation/attestation.out";
const EXTERNAL_PORT = 8090;
const GUEST_API_PORT = 8000;

/** `dstack-guest agent [--watchdog] [-c FILE]`: serves until it is stopped. */
export async function agentCommand(options: ReadonlyMap<string, string>): Promise<number> {
  const sockets = await openAgentSockets();
  await waitForSetup();
  await serveAgent(await readKeyedGuestContext(), sockets.serve, options);
  await notifyServiceManager("READY=1");
  startWatchdog();
  return await new Promise<number>(() => {});
}

/** Opens every listener of the agent; resolves when all accept. */
export async function serveAgent(
  context: KeyedGuestContext,
  serveSockets: (apps: SocketApps) => void,
  options: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  const disks = await dataDisks(options.get("config") ?? `${WORK_DIR}/agent.json`);
  const agent = createAgent({
    ...context,
    vmConfig: context.sysConfig.vmConfig,
    gpuAttestation: async () => {
      const text = await files.read(GPU_ATTESTATION);
      return text === undefined ? "" : fromUtf8(text, "GPU attestation");
    },
    version: GUEST_VERSION,
    cloud: await readCloud(),
    log,
  });
  serveSockets({ dstack: dstackSocketApp(agent), tappd: tappdSocketApp(agent) });
  const docker = unixFetch(DOCKER_SOCKET, {
    timeoutMs: 0,
    maxResponseBytes: Number.MAX_SAFE_INTEGER,
  });
  const systemInfo = async () => parseSystemInfo(await readSystemFiles(disks), osReleaseValue);
  const external = externalApp(agent, {
    docker,
    systemInfo,
    now: () => new Date(),
  });
  await serveHttp((request) => external.fetch(request), { host: "0.0.0.0", port: EXTERNAL_PORT });
  const { hostApiToken } = context.sysConfig;
  if (hostApiToken !== undefined) {
    const guestApi = guestApiApp(agent, {
      docker,
      systemInfo,
      networkInfo: readNetworkInfo,
      powerOff: () => powerOff(context.sysConfig),
    }, hostApiToken);
    await serveHttp((request) => guestApi.fetch(request), {
      host: "0.0.0.0",
      port: GUEST_API_PORT,
    });
  }
  log("agent is up", { version: GUEST_VERSION.version, simulated: context.tee.simulated });
}

/** The host learns first that this is no crash; then the caller gets its answer, then it is dark. */
async function powerOff(config: SysConfig): Promise<void> {
  const notifier = createHostNotifier(config, { fetch: makeWebFetch(), log });
  notifier.notify("shutdown.progress", "powering off");
  await notifier.flush();
  await runChecked(run, ["systemctl", "--no-block", "poweroff"]);
}

/** Where the agent measures disk space; a configuration that is not there means the root alone. */
async function dataDisks(path: string): Promise<readonly string[]> {
  const bytes = await files.read(path);
  if (bytes === undefined) return ["/"];
  const member = (value: unknown, name: string) => new JsonObject(value, "agent.json").raw(name);
  const config: unknown = JSON.parse(new TextDecoder().decode(bytes));
  const core = new JsonObject(member(member(config, "default"), "core"), "agent.json");
  return core.strings("data_disks", ["/"]);
}

/** The watchdog is fed only while the agent answers on its own port. */
export function startWatchdog(): void {
  const intervalMs = watchdogIntervalMs();
  if (intervalMs === undefined) return;
  setInterval(async () => {
    try {
      const url = `http://127.0.0.1:${EXTERNAL_PORT}/prpc/Worker.Version`;
      const response = await fetch(url, { signal: AbortSignal.timeout(intervalMs) });
      await response.arrayBuffer();
      if (response.ok) await notifyServiceManager("WATCHDOG=1");
    } catch (error) {
      log("watchdog was not fed", { error: errorChain(error) });
    }
  }, intervalMs);
}
