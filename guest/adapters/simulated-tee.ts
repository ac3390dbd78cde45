import { AppError } from "#core/errors/app-error.ts";
import { parseCcel } from "#core/event-log/ccel.ts";
import type { SysConfig } from "../boot/sys-config.ts";
import { createSimulatedTee } from "../tee/sim.ts";
import type { TeeDriver } from "../tee/tee.ts";

/** dstackd plays the TEE on the listener of its Host API, under this VM's token. */
export function openSimulatedTee(config: SysConfig): TeeDriver {
  const { hostApiUrl, hostApiToken } = config;
  if (hostApiUrl === undefined || hostApiToken === undefined) {
    throw new AppError("guest/tee", "The host names no Host API, so there is no simulated TEE");
  }
  return createSimulatedTee({
    origin: new URL(hostApiUrl).origin,
    token: hostApiToken,
    fetch: (url, init) => fetch(url, init),
    parseBootLog: parseCcel,
  });
}
