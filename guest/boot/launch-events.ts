import { utf8 } from "#core/bytes/bytes.ts";
import type { AppCompose } from "#core/compose/app-compose.ts";
import { gpuPolicyHash } from "#core/compose/gpu-policy.ts";
import { initScriptHashes } from "#core/compose/launch-binding.ts";
import { type KeyProvider, keyProviderEventPayload } from "#core/compose/key-provider.ts";

/** A launch event before its digest version is known. */
export interface LaunchEvent {
  readonly event: string;
  readonly payload: Uint8Array;
}

const EMPTY = new Uint8Array();

/** Everything measured before keys are requested, in the reference's order (spec/os.md 3.5, 1 to 8). */
export function bootEvents(launch: {
  readonly compose: AppCompose;
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  readonly instanceId: Uint8Array;
}): LaunchEvent[] {
  const { compose, composeHash, appId, instanceId } = launch;
  return [
    { event: "system-preparing", payload: EMPTY },
    { event: "app-id", payload: appId },
    { event: "compose-hash", payload: composeHash },
    ...initScriptHashes(compose).map((payload) => ({ event: "init-script-hash", payload })),
    { event: "gpu-policy-hash", payload: gpuPolicyHash(compose.requirements?.gpuPolicy) },
    { event: "instance-id", payload: instanceId },
    { event: "boot-mr-done", payload: EMPTY },
  ];
}

export function osImageHashEvent(osImageHash: Uint8Array): LaunchEvent {
  return { event: "os-image-hash", payload: osImageHash };
}

/** `idHex`: as `keyProviderEventPayload` says. */
export function keyProviderEvent(provider: KeyProvider, idHex: string): LaunchEvent {
  return { event: "key-provider", payload: keyProviderEventPayload(provider, idHex) };
}

export function storageFsEvent(fs: "ext4" | "zfs"): LaunchEvent {
  return { event: "storage-fs", payload: utf8(fs) };
}

export const SYSTEM_READY: LaunchEvent = { event: "system-ready", payload: EMPTY };
