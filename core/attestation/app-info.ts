import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, isZero } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { replayRuntimeEvents } from "../event-log/replay.ts";
import { parseQuote } from "../tdx/quote.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import type { Attestation } from "./attestation.ts";
import { BOOT_MR_DONE, initScriptHashesOf, launchPayload } from "./launch-events.ts";
import { tdReportOf } from "./versioned-attestation.ts";
import { osImageHashOf } from "./vm-config-text.ts";

/**
 * What an attestation says about its app (spec attestation.md 3.7). Claims, unless they come with an
 * accepted verdict; byte members are raw, empty where the guest has none.
 */
export interface AppInfo {
  readonly appId: Uint8Array;
  readonly composeHash: Uint8Array;
  readonly instanceId: Uint8Array;
  readonly deviceId: Uint8Array;
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
  readonly osImageHash: Uint8Array;
  /** JSON of `name` and `id`, as measured. */
  readonly keyProviderInfo: Uint8Array;
  readonly initScriptHashes: readonly Uint8Array[];
}

export interface AppInfoOptions {
  /** As the guest was before it had keys: no key provider, RTMR3 up to `boot-mr-done`. */
  readonly bootTime?: boolean;
  /** The raw id of the machine (PPID), known after verification; its hash is the device id. */
  readonly rawDeviceId?: Uint8Array;
}

/** Decodes without verifying. Throws `input/malformed`, or `input/unsupported` for other TEEs than TDX. */
export function appInfoOf(attestation: Attestation, options: AppInfoOptions = {}): AppInfo {
  const { platform, stack } = attestation;
  if (platform.kind !== "tdx") {
    throw new AppError("input/unsupported", `App info of ${platform.kind} is not supported`);
  }
  const td = tdReportOf(parseQuote(platform.quote));
  const { runtimeEvents } = stack;
  const bootTime = options.bootTime ?? false;
  const keyProviderInfo = bootTime
    ? new Uint8Array(0)
    : launchPayload(runtimeEvents, "key-provider");
  const rtmr3 = replayRuntimeEvents(runtimeEvents, bootTime ? { through: BOOT_MR_DONE } : {});
  return {
    appId: launchPayload(runtimeEvents, "app-id"),
    composeHash: launchPayload(runtimeEvents, "compose-hash"),
    instanceId: launchPayload(runtimeEvents, "instance-id"),
    deviceId: sha256(options.rawDeviceId ?? new Uint8Array(0)),
    mrSystem: mrSystemOf(td, keyProviderInfo),
    mrAggregated: mrAggregatedOf(td, rtmr3),
    osImageHash: osImageHashOf(stack.config),
    keyProviderInfo,
    initScriptHashes: initScriptHashesOf(runtimeEvents),
  };
}

/** SHA-256 of the boot registers and of the key provider (zeros without one). */
function mrSystemOf(td: TdReportBody, keyProviderInfo: Uint8Array): Uint8Array {
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  const mrKeyProvider = keyProviderInfo.length === 0 ? new Uint8Array(32) : sha256(keyProviderInfo);
  return sha256(concatBytes(td.mrTd, rtmr0, rtmr1, rtmr2, mrKeyProvider));
}

/** SHA-256 of all registers, and of the host's configuration members when any is set. */
function mrAggregatedOf(td: TdReportBody, rtmr3: Uint8Array): Uint8Array {
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  const chosenByHost = concatBytes(td.mrConfigId, td.mrOwner, td.mrOwnerConfig);
  const suffix = isZero(chosenByHost) ? new Uint8Array(0) : chosenByHost;
  return sha256(concatBytes(td.mrTd, rtmr0, rtmr1, rtmr2, rtmr3, suffix));
}
