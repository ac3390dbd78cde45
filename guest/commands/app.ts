import { unixFetch } from "#adapters/unix-http.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { inheritedEnv, runLines } from "../adapters/run.ts";
import { sleep } from "../adapters/timers.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import type { SysConfig } from "../boot/sys-config.ts";
import { type AppOptions, type AppPorts, startApp, stopApp } from "../containers/app.ts";
import { type GuestContext, readGuestContext, waitForSetup, WORK_DIR } from "./guest-context.ts";

const DOCKER_SOCKET = "/var/run/docker.sock";
/** Removing large images takes a while. */
const PRUNE_TIMEOUT_MS = 120_000;

/** `dstack-guest app start|stop`. */
export async function appCommand(action: string | undefined): Promise<number> {
  if (action !== "start" && action !== "stop") return 2;
  if (action === "start") await waitForSetup();
  const context = await readGuestContext();
  const options = await appOptions(context);
  if (action === "start") await startApp(options, appPorts(context.sysConfig));
  else await stopApp(options, appPorts(context.sysConfig));
  return 0;
}

export async function appOptions({ compose, sysConfig }: GuestContext): Promise<AppOptions> {
  const decrypted = await files.read(`${WORK_DIR}/.host-shared/.decrypted-env.json`);
  const appEnv: Record<string, string> = decrypted === undefined
    ? {}
    : JSON.parse(fromUtf8(decrypted));
  return {
    dir: WORK_DIR,
    compose,
    env: {
      ...inheritedEnv(),
      ...appEnv,
      ...sysConfig.pccsUrl !== undefined && { PCCS_URL: sysConfig.pccsUrl },
    },
  };
}

export function appPorts(
  sysConfig: SysConfig,
  allElse: () => Promise<void> = () => Promise.resolve(),
): AppPorts {
  return {
    runLines,
    files,
    log,
    sleep,
    notifier: createHostNotifier(sysConfig, { fetch: makeWebFetch(), log }),
    docker: unixFetch(DOCKER_SOCKET, { timeoutMs: PRUNE_TIMEOUT_MS }),
    allElse,
  };
}
