import { makeWebFetch } from "#adapters/web-fetch.ts";
import { findDataDevice, openDisk } from "../adapters/block-devices.ts";
import { log, printOnConsole } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { takeHostFiles } from "../adapters/host-share.ts";
import { readKernelParameters } from "../adapters/kernel-cmdline.ts";
import { kmsTrust } from "../adapters/kms-trust.ts";
import { isMountPoint } from "../adapters/mounts.ts";
import { run } from "../adapters/run.ts";
import { openTee } from "../adapters/tee.ts";
import { sleep } from "../adapters/timers.ts";
import { createHostNotifier } from "../boot/host-notifier.ts";
import { setup } from "../boot/setup.ts";
import { issuerOf } from "./issuer.ts";

const WORK_DIR = "/var/volatile/dstack";

/** `dstack-guest setup [--work-dir DIR] [--device DEV] [--mount-point DIR]`. */
export async function setupCommand(options: ReadonlyMap<string, string>): Promise<number> {
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
      takeHostFiles: (targetDir) => takeHostFiles(run, targetDir),
      createNotifier: (config) => createHostNotifier(config, { fetch: makeWebFetch(), log }),
      openTee,
      findDataDevice,
      dataDisk: { openDisk, isMountPoint },
      kmsTrust,
      createIssuer: (keys, tee, config, trust) => issuerOf(keys, tee, config.vmConfig, trust),
      console: printOnConsole,
    });
  } catch {
    return 1; // reported where it belongs: to the host, the journal and the console
  }
  return 0;
}
