import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, isZero, toHex } from "../bytes/bytes.ts";
import { keyProviderEventPayload } from "../compose/key-provider.ts";
import { parseMrConfigV3 } from "../compose/mr-config.ts";
import { replayRuntimeEvents } from "../event-log/replay.ts";
import type { HashName } from "../event-log/runtime-event.ts";
import { type NitroDocument, parseNitroDocument } from "../nitro/attestation-document.ts";
import { parseSnpReport } from "../sev-snp/report.ts";
import { parseQuote } from "../tdx/quote.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import type { Attestation, GuestStack, PlatformEvidence, SevSnpEvidence } from "./attestation.ts";
import { BOOT_MR_DONE, initScriptHashesOf, launchPayload } from "./launch-events.ts";
import { tdReportOf } from "./versioned-attestation.ts";
import { osImageHashOf } from "./vm-config-text.ts";

const NONE = new Uint8Array(0);

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
  /** The raw id of the machine (PPID, chip id, module id), known after verification; its hash is the device id. */
  readonly rawDeviceId?: Uint8Array;
}

/** Decodes without verifying. Throws `input/malformed` or `input/unsupported`. */
export function appInfoOf(attestation: Attestation, options: AppInfoOptions = {}): AppInfo {
  const { platform, stack } = attestation;
  const { bootTime = false, rawDeviceId = NONE } = options;
  if (platform.kind === "sev-snp") return snpAppInfoOf(platform, stack, bootTime, rawDeviceId);
  const { runtimeEvents } = stack;
  const keyProviderInfo = bootTime ? NONE : launchPayload(runtimeEvents, "key-provider");
  const through = bootTime ? { through: BOOT_MR_DONE } : {};
  const osImageHash = osImageHashOf(stack.config);
  return {
    appId: launchPayload(runtimeEvents, "app-id"),
    composeHash: platform.kind === "nitro-enclave"
      ? osImageHash
      : launchPayload(runtimeEvents, "compose-hash"),
    instanceId: launchPayload(runtimeEvents, "instance-id"),
    deviceId: sha256(rawDeviceId),
    ...aggregatesOf(
      platform,
      osImageHash,
      mrKeyProviderOf(keyProviderInfo),
      (hash) => replayRuntimeEvents(runtimeEvents, { ...through, hash }),
    ),
    osImageHash,
    keyProviderInfo,
    initScriptHashes: initScriptHashesOf(runtimeEvents),
  };
}

type Aggregates = Pick<AppInfo, "mrSystem" | "mrAggregated">;

/** Both aggregates of evidence with a log; `replay` answers what the log's register holds. */
function aggregatesOf(
  platform: Exclude<PlatformEvidence, SevSnpEvidence>,
  osImageHash: Uint8Array,
  mrKeyProvider: Uint8Array,
  replay: (hash: HashName) => Uint8Array,
): Aggregates {
  switch (platform.kind) {
    case "tdx": {
      const td = tdReportOf(parseQuote(platform.quote));
      return {
        mrSystem: hashOf(...bootRegistersOf(td), mrKeyProvider),
        mrAggregated: hashOf(...bootRegistersOf(td), replay("sha384"), chosenByHost(td)),
      };
    }
    case "gcp-tdx": {
      const pcr = (index: number) =>
        platform.tpmQuote.pcrValues.find((one) => one.index === index)?.value ?? NONE;
      return {
        mrSystem: hashOf(osImageHash, mrKeyProvider),
        mrAggregated: hashOf(pcr(0), pcr(2), replay("sha256")),
      };
    }
    case "nitro-enclave": {
      const mrEnclave = pcrAggregateOf(parseNitroDocument(platform.nsmQuote), ENCLAVE_PCRS);
      return { mrSystem: mrEnclave, mrAggregated: mrEnclave };
    }
    case "aws-nitro-tpm": {
      const { pcrs } = parseNitroDocument(platform.attestationDoc);
      const boot = BOOT_PCRS.map((index) => pcrs.get(index) ?? NONE);
      return {
        mrSystem: hashOf(...boot, mrKeyProvider),
        mrAggregated: hashOf(...boot, replay("sha384")),
      };
    }
  }
}

/** An SEV-SNP guest's identity is bound at launch, so its log says nothing here. */
function snpAppInfoOf(
  platform: SevSnpEvidence,
  stack: GuestStack,
  bootTime: boolean,
  rawDeviceId: Uint8Array,
): AppInfo {
  const report = parseSnpReport(platform.report);
  const config = parseMrConfigV3(platform.mrConfig);
  const { keyProvider, keyProviderId = NONE } = config;
  return {
    appId: config.appId ?? NONE,
    composeHash: config.composeHash,
    instanceId: config.instanceId ?? NONE,
    deviceId: sha256(rawDeviceId),
    mrSystem: sha256(report.measurement),
    mrAggregated: hashOf(report.measurement, report.hostData),
    osImageHash: osImageHashOf(stack.config),
    keyProviderInfo: bootTime ? NONE : keyProviderEventPayload(keyProvider, toHex(keyProviderId)),
    initScriptHashes: config.initScriptHashes ?? [],
  };
}

/** PCRs that measure an enclave's image, and those that measure the boot of an instance. */
export const ENCLAVE_PCRS = [0, 1, 2] as const;
export const BOOT_PCRS = [4, 7, 12] as const;

/** SHA-256 of those registers, one after the other; absent ones count as no bytes. */
export function pcrAggregateOf({ pcrs }: NitroDocument, indexes: readonly number[]): Uint8Array {
  return hashOf(...indexes.map((index) => pcrs.get(index) ?? NONE));
}

/** Of the event's payload; zeros without one. */
function mrKeyProviderOf(keyProviderInfo: Uint8Array): Uint8Array {
  return keyProviderInfo.length === 0 ? new Uint8Array(32) : sha256(keyProviderInfo);
}

function bootRegistersOf(td: TdReportBody): Uint8Array[] {
  return [td.mrTd, ...td.rtmrs.slice(0, 3)];
}

/** The host's configuration members, when any is set. */
function chosenByHost(td: TdReportBody): Uint8Array {
  const chosen = concatBytes(td.mrConfigId, td.mrOwner, td.mrOwnerConfig);
  return isZero(chosen) ? NONE : chosen;
}

function hashOf(...parts: readonly Uint8Array[]): Uint8Array {
  return sha256(concatBytes(...parts));
}
