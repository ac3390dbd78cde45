import { type Allowlist, normalizeHex } from "./allowlist.ts";
import type { BootRole } from "./backend.ts";
import type { BootInfo } from "./boot-info.ts";

/** One rule of an allowlist, as it applies to one boot. */
export interface RuleResult {
  readonly passed: boolean;
  /** Why not, in the words of the reference's auth-simple. */
  readonly reason: string;
  /** What to change so that it passes. */
  readonly remedy: string;
}

/**
 * The rules in the reference's order; the first that does not pass is the reason of a denial. An empty
 * list denies, except that no listed device means any device.
 */
export function applyRules(role: BootRole, boot: BootInfo, allowlist: Allowlist): RuleResult[] {
  const open = boot.advisoryIds.filter((id) => !allowlist.allowedAdvisoryIds.includes(id));
  const results: RuleResult[] = [
    {
      passed: allowlist.allowedTcbStatuses.includes(boot.tcbStatus),
      reason: "TCB status is not allowed",
      remedy: `update the platform, or add "${boot.tcbStatus}" to allowedTcbStatuses`,
    },
    {
      passed: open.length === 0,
      reason: "advisory ID is not allowed",
      remedy: `update the platform, or add ${open.join(", ")} to allowedAdvisoryIds`,
    },
    {
      passed: lists(allowlist.osImages, boot.osImageHash),
      reason: "OS image is not allowed",
      remedy: `add ${boot.osImageHash} (the image's digest.txt) to osImages`,
    },
  ];
  if (role === "kms") {
    results.push({
      passed: lists(allowlist.kms.mrAggregated, boot.mrAggregated),
      reason: "aggregated MR not allowed",
      remedy: `add ${boot.mrAggregated} to kms.mrAggregated`,
    }, {
      passed: allowsDevice(allowlist.kms, boot),
      reason: "KMS is not allowed to boot on this device",
      remedy: `add ${boot.deviceId} to kms.devices`,
    });
    return results;
  }
  const appId = normalizeHex(boot.appId);
  const app = Object.hasOwn(allowlist.apps, appId) ? allowlist.apps[appId] : undefined;
  results.push({
    passed: app !== undefined,
    reason: "app not registered",
    remedy: `add ${appId} to apps`,
  }, {
    passed: app !== undefined && lists(app.composeHashes, boot.composeHash),
    reason: "compose hash not allowed",
    remedy: `add ${boot.composeHash} to apps.${appId}.composeHashes`,
  }, {
    passed: app !== undefined && allowsDevice(app, boot),
    reason: "app is not allowed to boot on this device",
    remedy: `add ${boot.deviceId} to apps.${appId}.devices`,
  });
  return results;
}

/** The rule that denies, or undefined when every one passes. */
export function denial(
  role: BootRole,
  boot: BootInfo,
  allowlist: Allowlist,
): RuleResult | undefined {
  return applyRules(role, boot, allowlist).find(({ passed }) => !passed);
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
