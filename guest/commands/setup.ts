import { makeWebFetch } from "#adapters/web-fetch.ts";
import { findDataDevice, openDisk } from "../adapters/block-devices.ts";
import { log, printOnConsole } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { takeHostFiles } from "../adapters/host-share.ts";
import { readKernelParameters } from "../adapters/kernel-cmdline.ts";
import { kmsTrust } from "../adapters/kms-trust.ts";
import { isMountPoint } from "../adapters/mounts.ts";
import { run } from "../adapters/run.ts";
import { systemIsUp } from "../adapters/service-manager.ts";
import { openTee } from "../adapters/tee.ts";
import { sleep } from "../adapters/timers.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import { setup } from "../boot/setup.ts";
import { useSmallCurveTables } from "../curve-tables.ts";

const WORK_DIR = "/var/volatile/dstack";

/** Prepares the VM; false when it could not, which was reported where it belongs. */
export async function prepareGuest(
  options: ReadonlyMap<string, string>,
  meanwhile: () => Promise<void> = () => Promise.resolve(),
): Promise<boolean> {
  useSmallCurveTables();
  const workDir = options.get("work-dir") ?? WORK_DIR;
  try {
    await setup({
      workDir,
      mountPoint: options.get("mount-point") ?? `${workDir}/persistent`,
      device: options.get("device"),
    }, {
      files,
      run,
      log,
      sleep,
      now: () => new Date(),
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
      kernelParameters: readKernelParameters,
      systemIsUp,
      takeHostFiles: (targetDir) => takeHostFiles(run, targetDir),
      createNotifier: (config) => createHostNotifier(config, { fetch: makeWebFetch(), log }),
      openTee,
      findDataDevice,
      dataDisk: { openDisk, isMountPoint },
      kmsTrust,
      meanwhile,
      console: printOnConsole,
    });
    return true;
  } catch {
    return false; // told to the host, the journal and the console
  }
}

/** `dstack-guest setup [--work-dir DIR] [--device DEV] [--mount-point DIR]`: as the reference, gateway included. */
export async function setupCommand(options: ReadonlyMap<string, string>): Promise<number> {
  if (!await prepareGuest(options)) return 1;
  const [{ connectGateway }, { gatewayPorts }, { readKeyedGuestContext }] = await Promise.all([
    import("../boot/gateway.ts"),
    import("./gateway-checker.ts"),
    import("./guest-context.ts"),
  ]);
  const context = await readKeyedGuestContext();
  const notifier = createHostNotifier(context.sysConfig, { fetch: makeWebFetch(), log });
  await connectGateway(context, notifier, gatewayPorts(context));
  await notifier.flush();
  return 0;
}
