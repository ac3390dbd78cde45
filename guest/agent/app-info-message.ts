import { fromUtf8 } from "#core/bytes/bytes.ts";
import type { Agent } from "./agent.ts";

/** Info's answer. `showTcbInfo` false blanks what the app keeps to itself (public_tcbinfo). */
export async function appInfoMessage(agent: Agent, { showTcbInfo }: { showTcbInfo: boolean }) {
  const { info, tcbInfo } = await agent.describe();
  return {
    appId: info.appId,
    instanceId: info.instanceId,
    appCert: agent.demoCertificate(),
    tcbInfo: showTcbInfo ? tcbInfo : "",
    appName: agent.compose.name,
    deviceId: info.deviceId,
    mrAggregated: info.mrAggregated,
    osImageHash: info.osImageHash,
    keyProviderInfo: fromUtf8(info.keyProviderInfo, "key-provider event"),
    composeHash: info.composeHash,
    vmConfig: showTcbInfo ? agent.vmConfig : "",
    cloudVendor: agent.cloud.vendor,
    cloudProduct: agent.cloud.product,
  };
}
