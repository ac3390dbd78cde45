import { makeWebFetch } from "#adapters/web-fetch.ts";
import { readFileBounded, writeFileAtomic } from "#adapters/files.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import { fromHex, fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { tdxEventToJson } from "#core/event-log/tdx-event.ts";
import { log } from "../adapters/console.ts";
import { mountHostShare } from "../adapters/host-share.ts";
import { run } from "../adapters/run.ts";
import { runChecked } from "../run-checked.ts";
import type { CommandLine } from "./command-line.ts";
import { readKernelParameters } from "../adapters/kernel-cmdline.ts";
import { readStandardInput, writeStandardOutput } from "../adapters/standard-streams.ts";
import { openTee } from "../adapters/tee.ts";
import { createHostNotifier, type HostEvent } from "../boot/host-notifier.ts";
import type { SysConfig } from "../boot/sys-config.ts";
import { attest } from "../tee/attest.ts";
import { REPORT_DATA_LENGTH, type Tee } from "../tee/tee.ts";
import { readGuestContext, readSysConfig } from "./guest-context.ts";

export type Options = ReadonlyMap<string, string>;

const MAX_INPUT_BYTES = 64 * 1024 * 1024;

/** Names that only setup may write into RTMR3 (spec/guest-agent.md 4.10). */
const RESERVED_EVENTS: ReadonlySet<string> = new Set([
  "system-preparing",
  "app-id",
  "compose-hash",
  "init-script-hash",
  "gpu-policy-hash",
  "gpu-attestation",
  "instance-id",
  "boot-mr-done",
  "os-image-hash",
  "key-provider",
  "storage-fs",
  "system-ready",
]);

/** `quote`: 64 bytes on standard input, the raw quote on standard output. */
export async function quoteCommand(): Promise<number> {
  const reportData = await readStandardInput(REPORT_DATA_LENGTH);
  if (reportData.length !== REPORT_DATA_LENGTH) {
    throw new AppError("input/malformed", `Report data must be ${REPORT_DATA_LENGTH} bytes`);
  }
  await writeStandardOutput(await (await guestTee()).quote(reportData));
  return 0;
}

/** `eventlog`: firmware and runtime events as pretty JSON. */
export async function eventLogCommand(): Promise<number> {
  const events = await (await guestTee()).eventLog();
  await writeStandardOutput(JSON.stringify(events.map(tdxEventToJson), null, 2) + "\n");
  return 0;
}

/** `extend -e NAME [-p HEX]`: one event of the app's own. */
export async function extendCommand(options: Options): Promise<number> {
  const event = required(options, "event");
  if (RESERVED_EVENTS.has(event)) {
    throw new AppError("auth/forbidden", `Event ${event} is the system's`);
  }
  const { compose } = await readGuestContext();
  const payload = fromHex(options.get("payload") ?? "", "payload");
  await (await guestTee()).extend({ event, payload, version: compose.eventLogVersion });
  return 0;
}

/** `show`: what this guest's own evidence says about it. */
export async function showCommand(): Promise<number> {
  const { vmConfig } = await readSysConfig();
  const info = appInfoOf(await attest(await guestTee(), new Uint8Array(64), vmConfig));
  const json = {
    app_id: toHex(info.appId),
    compose_hash: toHex(info.composeHash),
    instance_id: toHex(info.instanceId),
    device_id: toHex(info.deviceId),
    mr_system: toHex(info.mrSystem),
    mr_aggregated: toHex(info.mrAggregated),
    os_image_hash: toHex(info.osImageHash),
    key_provider_info: fromUtf8(info.keyProviderInfo),
    init_script_hashes: info.initScriptHashes.map(toHex),
  };
  await writeStandardOutput(JSON.stringify(json, null, 2) + "\n");
  return 0;
}

/** `hex [FILE]`: lower-case hex without a newline. */
export async function hexCommand(file: string | undefined): Promise<number> {
  const bytes = file === undefined
    ? await readStandardInput(MAX_INPUT_BYTES)
    : await readInput(file);
  await writeStandardOutput(toHex(bytes));
  return 0;
}

/** `rand [-n 20] [-o FILE] [-x]`: random bytes; a file is written atomically and is its owner's alone. */
export async function randCommand(options: Options): Promise<number> {
  const length = Number(options.get("bytes") ?? 20);
  if (!Number.isInteger(length) || length < 0 || length > MAX_INPUT_BYTES) {
    throw new AppError("config/invalid", "-n needs a number of bytes");
  }
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65_536, length)));
  }
  const data = options.has("hex") ? toHex(bytes) : bytes;
  const path = options.get("output");
  if (path === undefined) await writeStandardOutput(data);
  else await writeFileAtomic(path, data, 0o600);
  return 0;
}

/** `notify-host -e EVENT -d PAYLOAD [-u URL]`. */
export async function notifyHostCommand(options: Options): Promise<number> {
  const config = await readSysConfig();
  const notifier = createHostNotifier({
    hostApiUrl: options.get("url") ?? config.hostApiUrl,
    hostApiToken: config.hostApiToken,
  }, { fetch: makeWebFetch(), log });
  notifier.notify(required(options, "event") as HostEvent, required(options, "payload"));
  await notifier.flush();
  return 0;
}

/** `host-shared mount|unmount --mount-point DIR`: read-only. */
export async function hostSharedCommand({ operands, options }: CommandLine): Promise<number> {
  const mountPoint = required(options, "mount-point");
  switch (operands[0]) {
    case "mount":
      await mountHostShare(run, mountPoint);
      return 0;
    case "unmount":
      await runChecked(run, ["umount", mountPoint], { errorCode: "guest/host-share" });
      return 0;
    default:
      throw new AppError("config/invalid", "host-shared is for mount or unmount");
  }
}

export async function guestTee(sysConfig?: SysConfig): Promise<Tee> {
  return openTee(await readKernelParameters(), sysConfig ?? await readSysConfig());
}

/** A file that an option names. */
export function readInput(path: string, maxBytes = MAX_INPUT_BYTES): Promise<Uint8Array> {
  return readFileBounded(path, maxBytes);
}

export function required(options: Options, name: string): string {
  const value = options.get(name);
  if (value === undefined) throw new AppError("config/invalid", `--${name} is missing`);
  return value;
}
