import { toHex } from "../bytes/bytes.ts";
import { refusal } from "../errors/refusal.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import { type AppInfo, appInfoOf } from "./app-info.ts";
import { type Appraisal, unlessRefused } from "./appraisal.ts";
import type { Attestation } from "./attestation.ts";
import { requireReplay } from "./event-log-check.ts";
import { checkGpus } from "./gpu-check.ts";
import {
  type KeyProviderInfo,
  keyProviderOf,
  launchPayload,
  requireLaunchEvents,
} from "./launch-events.ts";
import { checkMrConfig } from "./mr-config-check.ts";
import { numGpusOf } from "./vm-config-text.ts";

/** The checks about a guest: evidence that is a bare quote leaves all of them open. */
const GUEST_CHECKS = [
  "event-log-replay",
  "launch-events",
  "gpu-attestation",
  "os-image",
  "acpi-tables",
  "mr-config-id",
  "compose-hash",
  "app-id",
  "instance-id",
  "key-provider",
] as const;

export function skipGuest({ checks }: Appraisal): void {
  for (const id of GUEST_CHECKS) {
    checks.notChecked(id, "A quote by itself says nothing about this");
  }
}

/**
 * What a guest says about itself in its event log: the log replays to `replayed` (which answers the
 * registers' names), the events that name the app stand in it, and GPUs are those it attested.
 */
export function checkEventLog(
  appraisal: Appraisal,
  { platform, stack }: Attestation,
  replay: () => readonly string[],
): void {
  const { checks, policy } = appraisal;
  const { runtimeEvents } = stack;
  const replayed = checks.attempt(replay);
  if (replayed) {
    checks.pass("event-log-replay", `${replayed.join(", ")} replay from the event log`);
  }
  if (checks.attempt(() => (requireLaunchEvents(runtimeEvents), true))) {
    checks.pass("launch-events", "Each event that names the app occurs once and in its place");
  }
  const devices = platform.kind === "tdx" ? numGpusOf(stack.config) : undefined;
  const gpus = checks.attempt(() => ({
    found: checkGpus(runtimeEvents, devices, policy.allowGpuDevtools),
  }));
  if (gpus?.found) {
    checks.pass("gpu-attestation", `The guest attested ${gpus.found.devices} GPUs`);
  } else if (gpus && devices) {
    checks.notChecked("gpu-attestation", "The VM has GPUs, and the guest attested none");
  } else if (gpus) {
    checks.notApplicable("gpu-attestation", "The guest measured no GPU");
  }
}

/** RTMR3, and RTMR0 to RTMR2 where the platform's log has them. */
export function replayTdx(td: TdReportBody, { platform, stack }: Attestation): readonly string[] {
  const bootLog = "eventLog" in platform ? platform.eventLog : [];
  return requireReplay(td, bootLog, stack.runtimeEvents).map((imr) => `RTMR${imr}`);
}

/** `lacking`: hosts of this kind never bind a configuration; one that is there is compared all the same. */
export function checkTdMrConfig(
  appraisal: Appraisal,
  { stack }: Attestation,
  td: TdReportBody,
  lacking = false,
): void {
  const { checks, policy, reference } = appraisal;
  const required = !lacking && policy.required.includes("mr-config-id");
  const found = checks.attempt(() => {
    const version = checkMrConfig(td.mrConfigId, stack.runtimeEvents, stack.config, reference);
    if (version === 0 && required) {
      throw refusal("mr-config-id-missing", "The host bound no configuration at launch");
    }
    return { version };
  });
  if (!found) return;
  if (found.version === 0 && lacking) {
    checks.lacks("mr-config-id", "Hosts of this cloud bind no configuration at launch");
  } else if (found.version === 0) {
    checks.notApplicable("mr-config-id", "The host bound no configuration at launch");
  } else if (found.version === undefined) {
    checks.notChecked("mr-config-id", "Nobody named the key provider that MRCONFIGID binds");
  } else {
    checks.pass("mr-config-id", `MRCONFIGID version ${found.version} is the guest's own`);
  }
}

/** Compares the identity in the log with the expected one. */
export function checkLoggedIdentity(appraisal: Appraisal, { stack }: Attestation): void {
  const events = stack.runtimeEvents;
  appraisal.checkExpectedIdentity({
    composeHash: launchPayload(events, "compose-hash"),
    appId: launchPayload(events, "app-id"),
    instanceId: launchPayload(events, "instance-id"),
  });
  appraisal.checkKeyProvider(() => keyProviderOf(events));
}

/**
 * Runs a check that answers the proven image's hash, or undefined when nobody could compare it. Answers
 * whether the image is proven.
 */
export async function checkOsImage(
  { checks }: Appraisal,
  registers: string,
  prove: () => Promise<Uint8Array | undefined>,
): Promise<boolean> {
  const proven = await checks.attemptAsync(async () => ({ hash: await prove() }));
  if (proven?.hash) {
    checks.pass("os-image", `${registers} of OS image ${toHex(proven.hash)}`);
  } else if (proven) {
    const detail = checks.hasPassed("signature-chain")
      ? "Nobody supplied what the registers should be"
      : "No image is looked up for evidence that is not proven genuine";
    checks.notChecked("os-image", detail);
  }
  return proven?.hash !== undefined;
}

/** The verdict's identity, from a log the evidence's registers vouch for. */
export function setLoggedIdentity(
  appraisal: Appraisal,
  attestation: Attestation,
  platformId: Uint8Array | undefined,
): void {
  const info = appInfoOf(attestation, platformId ? { rawDeviceId: platformId } : {});
  const provider = unlessRefused(() => keyProviderOf(attestation.stack.runtimeEvents));
  setIdentity(appraisal, info, platformId !== undefined, provider ?? null);
}

export function setIdentity(
  appraisal: Appraisal,
  info: AppInfo,
  hasDevice: boolean,
  keyProvider: KeyProviderInfo | null,
): void {
  appraisal.identity = {
    appId: toHex(info.appId),
    composeHash: toHex(info.composeHash),
    instanceId: toHex(info.instanceId),
    deviceId: hasDevice ? toHex(info.deviceId) : "",
    osImageHash: toHex(info.osImageHash),
    mrSystem: toHex(info.mrSystem),
    mrAggregated: toHex(info.mrAggregated),
    keyProvider,
    initScriptHashes: info.initScriptHashes.map(toHex),
  };
}
