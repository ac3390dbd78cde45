import { errorChain } from "#core/errors/app-error.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { run } from "../adapters/run.ts";
import { notifyServiceManager } from "../adapters/service-manager.ts";
import { sleep } from "../adapters/timers.ts";
import { type GatewayPorts, refreshGateway, requireGatewayConfig } from "../boot/gateway.ts";
import {
  afterAttempt,
  decide,
  initialState,
  parseLatestHandshake,
} from "../boot/gateway-schedule.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import { WIREGUARD_CONFIG, WIREGUARD_INTERFACE } from "../boot/wireguard.ts";
import {
  type KeyedGuestContext,
  readKeyedGuestContext,
  waitForSetup,
  WORK_DIR,
} from "./guest-context.ts";

const POLL_MS = 10_000;
/** Tells systemd not to start the checker again: only a new boot can mend the configuration. */
const MISCONFIGURED = 3;

/** `dstack-guest gateway-checker [--work-dir DIR]`; 0 when the app has no gateway, 3 when it is misconfigured. */
export async function gatewayCheckerCommand(
  options: ReadonlyMap<string, string>,
): Promise<number> {
  await waitForSetup();
  const context = await readKeyedGuestContext(options.get("work-dir") ?? WORK_DIR);
  await notifyServiceManager("READY=1");
  return await checkGateway(context, () => notifyServiceManager("WATCHDOG=1"));
}

/** `dstack-guest gateway-refresh [--work-dir DIR] [--force]`: registers once. */
export async function gatewayRefreshCommand(options: ReadonlyMap<string, string>): Promise<number> {
  const context = await readKeyedGuestContext(options.get("work-dir") ?? WORK_DIR);
  if (!context.compose.gatewayEnabled) return 0;
  const outcome = await refreshGateway(context, options.has("force"), gatewayPorts(context));
  log("gateway refreshed", { outcome });
  return 0;
}

/** Returns only where there is nothing to check. `alive` is called at each poll. */
export async function checkGateway(
  context: KeyedGuestContext,
  alive: () => Promise<void>,
): Promise<number> {
  if (!context.compose.gatewayEnabled) return 0;
  try {
    requireGatewayConfig(context);
  } catch (error) {
    log("no gateway to check", { error: errorChain(error) });
    return MISCONFIGURED;
  }
  const notifier = createHostNotifier(context.sysConfig, { fetch: makeWebFetch(), log });
  const ports = gatewayPorts(context);
  const now = () => Math.floor(Date.now() / 1000);
  let state = initialState(now(), await files.exists(WIREGUARD_CONFIG));
  // Without a configuration the boot could not register, and the host shows that.
  let hostShowsError = !await files.exists(WIREGUARD_CONFIG);
  for (;;) {
    await alive();
    const configPresent = await files.exists(WIREGUARD_CONFIG);
    const latestHandshake = configPresent ? await readLatestHandshake() : 0;
    const decision = decide(state, { now: now(), configPresent, latestHandshake });
    state = decision.state;
    if (decision.action !== "none") {
      const forced = decision.action === "forced-refresh";
      let succeeded = true;
      try {
        await refreshGateway(context, forced, ports);
        if (hostShowsError) notifier.notify("boot.error", "");
        hostShowsError = false;
      } catch (error) {
        succeeded = false;
        log("gateway refresh failed", { forced, error: errorChain(error) });
      }
      state = afterAttempt(state, { now: now(), forced, succeeded });
    }
    await sleep(POLL_MS);
  }
}

export function gatewayPorts(context: KeyedGuestContext): GatewayPorts {
  return {
    files,
    run,
    log,
    now: () => new Date(),
    makeTlsFetch: context.trust.makeTlsFetch,
    issueCertificate: context.issueCertificate,
  };
}

async function readLatestHandshake(): Promise<number> {
  const { code, stdout } = await run(["wg", "show", WIREGUARD_INTERFACE, "latest-handshakes"]);
  return code === 0 ? parseLatestHandshake(stdout) : 0;
}
