import { fromUtf8 } from "#core/bytes/bytes.ts";
import { type AppCompose, parseAppCompose } from "#core/compose/app-compose.ts";
import { AppError } from "#core/errors/app-error.ts";
import { files } from "../adapters/files.ts";
import { readKernelParameters } from "../adapters/kernel-cmdline.ts";
import { kmsTrust } from "../adapters/kms-trust.ts";
import { openTee } from "../adapters/tee.ts";
import { sleep } from "../adapters/timers.ts";
import { type AppKeys, parseAppKeys } from "../boot/app-keys.ts";
import type { KmsTrust } from "../boot/kms-client.ts";
import { READY_MARKER } from "../boot/setup.ts";
import { parseSysConfig, type SysConfig } from "../boot/sys-config.ts";
import type { IssueCertificate } from "../certificate-issuer.ts";
import type { Tee } from "../tee/tee.ts";
import { useSmallCurveTables } from "../curve-tables.ts";
import { issuerOf } from "./issuer.ts";

export const WORK_DIR = "/dstack";
const READY_POLL_MS = 50;

/** What setup left for the guest's other programs. */
export interface GuestContext {
  readonly compose: AppCompose;
  readonly composeText: string;
  readonly sysConfig: SysConfig;
}

/** A guest with its keys and its TEE. */
export interface KeyedGuestContext extends GuestContext {
  readonly keys: AppKeys;
  readonly tee: Tee;
  readonly trust: KmsTrust;
  readonly issueCertificate: IssueCertificate;
}

/** Programs start beside setup, to be ready when it is. */
export async function waitForSetup(): Promise<void> {
  while (!await files.exists(READY_MARKER)) await sleep(READY_POLL_MS);
}

export async function readGuestContext(workDir = WORK_DIR): Promise<GuestContext> {
  const composeBytes = await required(`${workDir}/.host-shared/app-compose.json`);
  return {
    compose: parseAppCompose(composeBytes),
    composeText: fromUtf8(composeBytes, "app-compose.json"),
    sysConfig: await readSysConfig(workDir),
  };
}

export async function readSysConfig(workDir = WORK_DIR): Promise<SysConfig> {
  return parseSysConfig(await required(`${workDir}/.host-shared/.sys-config.json`));
}

export async function readKeyedGuestContext(workDir = WORK_DIR): Promise<KeyedGuestContext> {
  useSmallCurveTables();
  const context = await readGuestContext(workDir);
  const { sysConfig } = context;
  const parameters = await readKernelParameters();
  const tee = await openTee(parameters, sysConfig);
  const trust = kmsTrust(parameters, sysConfig);
  const keys = parseAppKeys(await required(`${workDir}/.host-shared/.appkeys.json`));
  return {
    ...context,
    keys,
    tee,
    trust,
    issueCertificate: issuerOf(keys, tee, sysConfig.vmConfig, trust),
  };
}

async function required(path: string): Promise<Uint8Array> {
  const bytes = await files.read(path);
  if (bytes === undefined) throw new AppError("resource/not-found", `${path} is missing`);
  return bytes;
}
