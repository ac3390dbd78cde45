import { makeWebFetch } from "#adapters/web-fetch.ts";
import { errorChain } from "#core/errors/app-error.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { notifyServiceManager, onStop } from "../adapters/service-manager.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import type { AppOptions } from "../containers/app.ts";
import type { KeyedGuestContext } from "./guest-context.ts";
import { prepareGuest } from "./setup.ts";

/** The unit gives up on this one: only a new boot can be measured again. */
const SETUP_FAILED = 78;
/** Says that the app was started in this boot; a restarted program must not start it over its owner's head. */
const STARTED_MARKER = "/run/dstack/app-started";

/**
 * `dstack-guest run`: everything the guest does, in one process. Loading the runtime four times, for
 * setup, agent, app and gateway checker, costs more than all they do; and what does not depend on one
 * another overlaps: agent, gateway and containers start together once the data disk is there.
 */
export async function runCommand(): Promise<number> {
  // What comes after setup is loaded while setup waits for the disk's programs.
  let rest: Awaited<ReturnType<typeof loadRest>> | undefined;
  const prepared = await prepareGuest(new Map(), async () => {
    rest = await loadRest();
  });
  if (!prepared) return SETUP_FAILED;
  const { sockets, readKeyedGuestContext, serveAgent, startWatchdog, app } = rest ??=
    await loadRest();
  const context = await readKeyedGuestContext();
  const options = await app.appOptions(context);
  await serveAgent(context, sockets.serve);
  await notifyServiceManager("READY=1");
  startWatchdog();

  const stopping = onStop();
  const working = work(context, options);
  await stopping;
  const { stopApp } = await import("../containers/app.ts");
  await stopApp(options, app.appPorts(context.sysConfig));
  void working; // ends with the process: systemd is waiting for that
  return 0;
}

/** The modules that setup does not need, and the sockets that must be there before any container is. */
async function loadRest() {
  const [{ openAgentSockets }, { readKeyedGuestContext }, { serveAgent, startWatchdog }, app] =
    await Promise.all([
      import("./agent-sockets.ts"),
      import("./guest-context.ts"),
      import("./agent.ts"),
      import("./app.ts"),
    ]);
  const sockets = await openAgentSockets();
  return { sockets, readKeyedGuestContext, serveAgent, startWatchdog, app };
}

async function work(context: KeyedGuestContext, options: AppOptions): Promise<void> {
  const [{ connectGateway }, { checkGateway, gatewayPorts }, { appPorts }, { startApp }] =
    await Promise.all([
      import("../boot/gateway.ts"),
      import("./gateway-checker.ts"),
      import("./app.ts"),
      import("../containers/app.ts"),
    ]);
  if (!await files.exists(STARTED_MARKER)) {
    await files.write(STARTED_MARKER, "", 0o644);
    const notifier = createHostNotifier(context.sysConfig, { fetch: makeWebFetch(), log });
    const routed = connectGateway(context, notifier, gatewayPorts(context))
      .then(() => notifier.flush());
    try {
      await startApp(options, appPorts(context.sysConfig, () => routed));
    } catch (error) {
      log("the app does not run", { error: errorChain(error) });
    }
    await routed;
  }
  try {
    await checkGateway(context, () => Promise.resolve());
  } catch (error) {
    log("gateway checker ended", { error: errorChain(error) });
  }
}
