import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "#core/errors/app-error.ts";
import { parseCcel } from "#core/event-log/ccel.ts";
import type { KernelParameters } from "../boot/kernel-parameters.ts";
import type { SysConfig } from "../boot/sys-config.ts";
import { createTdxTee } from "../tee/tdx.ts";
import { createTee, type Tee, type TeeDriver } from "../tee/tee.ts";
import { openRuntimeEventLog } from "./runtime-event-log.ts";
import { tsmFiles } from "./tsm-files.ts";

/** False in production bundles, which then hold no simulator; unset when run from source. */
declare const __SIM_TEE__: boolean | undefined;

const EVENT_LOG_DIR = "/run/log/dstack";

/** The TEE that the measured command line names. */
export async function openTee(
  parameters: Pick<KernelParameters, "tee">,
  config: SysConfig,
): Promise<Tee> {
  return createTee(await openDriver(parameters, config), openRuntimeEventLog(EVENT_LOG_DIR));
}

async function openDriver(
  { tee }: Pick<KernelParameters, "tee">,
  config: SysConfig,
): Promise<TeeDriver> {
  if (typeof __SIM_TEE__ === "undefined" || __SIM_TEE__) {
    if (tee === "sim") {
      const { openSimulatedTee } = await import("./simulated-tee.ts");
      return openSimulatedTee(config);
    }
  }
  if (tee !== "tdx") throw new AppError("guest/tee", "This image has no simulated TEE");
  return createTdxTee({ files: tsmFiles, sleep: (ms) => sleep(ms), parseBootLog: parseCcel });
}
