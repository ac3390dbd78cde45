import { type Allowlist, normalizeHex } from "./allowlist.ts";
import type { BootInfo } from "./boot-info.ts";

export type BootRole = "app" | "kms";

/**
 * Why `boot` is not allowed, in the words and the order of the reference's auth-simple, or undefined
 * when it is. An empty list denies, except that no listed device means any device.
 */
export function denialReason(
  role: BootRole,
  boot: BootInfo,
  allowlist: Allowlist,
): string | undefined {
  if (!allowlist.allowedTcbStatuses.includes(boot.tcbStatus)) return "TCB status is not allowed";
  if (!boot.advisoryIds.every((id) => allowlist.allowedAdvisoryIds.includes(id))) {
    return "advisory ID is not allowed";
  }
  if (!lists(allowlist.osImages, boot.osImageHash)) return "OS image is not allowed";
  if (role === "kms") {
    if (!lists(allowlist.kms.mrAggregated, boot.mrAggregated)) return "aggregated MR not allowed";
    if (!allowsDevice(allowlist.kms, boot)) return "KMS is not allowed to boot on this device";
    return undefined;
  }
  const appId = normalizeHex(boot.appId);
  const app = Object.hasOwn(allowlist.apps, appId) ? allowlist.apps[appId] : undefined;
  if (app === undefined) return "app not registered";
  if (!lists(app.composeHashes, boot.composeHash)) return "compose hash not allowed";
  if (!allowsDevice(app, boot)) return "app is not allowed to boot on this device";
  return undefined;
}

function lists(values: readonly string[], hex: string): boolean {
  return values.includes(normalizeHex(hex));
}

function allowsDevice(
  rule: { readonly devices: readonly string[]; readonly allowAnyDevice: boolean },
  boot: BootInfo,
): boolean {
  return rule.allowAnyDevice || rule.devices.length === 0 || lists(rule.devices, boot.deviceId);
}
