import type { Attestation } from "#core/attestation/attestation.ts";
import type { Verdict } from "#core/attestation/verdict.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { MeasurementScope } from "./ports.ts";

/** What the auth API is told about a booting VM (kms.md 6.2); bytes are hex without prefix. */
export interface BootInfo {
  readonly teeVariant: string;
  readonly mrAggregated: string;
  readonly mrSystem: string;
  readonly osImageHash: string;
  readonly appId: string;
  readonly composeHash: string;
  readonly instanceId: string;
  readonly deviceId: string;
  readonly keyProviderInfo: string;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
}

/** Builds the boot info of accepted evidence. Throws `input/malformed` for ids of odd length. */
export function bootInfoOf(
  verdict: Verdict,
  attestation: Attestation,
  scope: MeasurementScope,
): BootInfo {
  const { identity, tcb } = verdict;
  if (identity === null) throw new AppError("internal", "Accepted evidence has no identity");
  if (identity.appId.length !== 40) {
    throw new AppError("input/malformed", "app_id must be 20 bytes");
  }
  if (identity.instanceId.length !== 40 && identity.instanceId !== "") {
    throw new AppError("input/malformed", "instance_id must be 20 bytes or empty");
  }
  return {
    teeVariant: verdict.tee,
    mrAggregated: identity.mrAggregated,
    mrSystem: identity.mrSystem,
    osImageHash: identity.osImageHash,
    appId: identity.appId,
    composeHash: identity.composeHash,
    instanceId: identity.instanceId,
    deviceId: identity.deviceId,
    keyProviderInfo: scope === "runtime" ? toHex(keyProviderInfo(attestation)) : "",
    tcbStatus: tcb?.status ?? "",
    advisoryIds: tcb?.advisoryIds ?? [],
  };
}

/** The key-provider event's payload as measured; empty before the guest has its keys. */
function keyProviderInfo(attestation: Attestation): Uint8Array {
  for (const { event, payload } of attestation.stack.runtimeEvents) {
    if (event === "system-ready") break;
    if (event === "key-provider") return payload;
  }
  return new Uint8Array();
}
