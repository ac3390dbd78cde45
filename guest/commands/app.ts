import { unixFetch } from "#adapters/unix-http.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { inheritedEnv, run, runLines } from "../adapters/run.ts";
import { sleep } from "../adapters/timers.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import { startApp, stopApp } from "../containers/app.ts";
import { readGuestContext, waitForSetup, WORK_DIR } from "./guest-context.ts";

const DOCKER_SOCKET = "/var/run/docker.sock";

/** `dstack-guest app start|stop`. */
export async function appCommand(action: string | undefined): Promise<number> {
  if (action !== "start" && action !== "stop") return 2;
  if (action === "start") await waitForSetup();
  const { compose, sysConfig } = await readGuestContext();
  const decrypted = await files.read(`${WORK_DIR}/.host-shared/.decrypted-env.json`);
  const appEnv: Record<string, string> = decrypted === undefined
    ? {}
    : JSON.parse(fromUtf8(decrypted));
  const options = {
    dir: WORK_DIR,
    compose,
    env: {
      ...inheritedEnv(),
      ...appEnv,
      ...sysConfig.pccsUrl !== undefined && { PCCS_URL: sysConfig.pccsUrl },
    },
  };
  const docker = unixFetch(DOCKER_SOCKET, { timeoutMs: 2000 });
  const ports = {
    run,
    runLines,
    files,
    log,
    sleep,
    notifier: createHostNotifier(sysConfig, { fetch: makeWebFetch(), log }),
    async dockerIsUp() {
      try {
        const response = await docker("http://docker/_ping", { method: "GET", headers: {} });
        await response.arrayBuffer();
        return response.ok;
      } catch {
        return false; // not there yet
      }
    },
  };
  if (action === "start") await startApp(options, ports);
  else await stopApp(options, ports);
  return 0;
}
