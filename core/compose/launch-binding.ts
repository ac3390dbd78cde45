import { sha256 } from "@noble/hashes/sha2.js";
import { utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import type { AppCompose } from "./app-compose.ts";
import { gpuPolicyHash } from "./gpu-policy.ts";
import { encodeMrConfigV3, mrConfigIdV1, mrConfigIdV3, mrConfigV3Hash } from "./mr-config.ts";

/** SHA-256 of each init script's text, in execution order. 32 bytes each. */
export function initScriptHashes(compose: AppCompose): Uint8Array[] {
  return compose.initScripts.map((script) => sha256(utf8(script)));
}

/** The launch a host is about to make. */
export interface Launch {
  readonly platform: "tdx" | "amd-sev-snp";
  /** `cvm.use_mrconfigid` of the node; SEV-SNP always binds. */
  readonly useMrConfigId: boolean;
  readonly compose: AppCompose;
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  /** Empty for an app with `no_instance_id`. The host draws the seed when it binds a V3 document. */
  readonly instanceId: Uint8Array;
  readonly gpuCount: number;
}

/** What the host puts into the launch. */
export type LaunchBinding =
  | { readonly version: 0 }
  | { readonly version: 1; readonly mrConfigId: Uint8Array }
  | {
    readonly version: 3;
    readonly mrConfigId: Uint8Array;
    /** HOST_DATA on SEV-SNP. 32 bytes. */
    readonly hostData: Uint8Array;
    /** Goes to the guest as `mr_config` of its sys-config, byte for byte. */
    readonly document: Uint8Array;
  };

/** Chooses as spec/vmm.md 4.6 does. Throws `compose/unsupported` for a pin the node cannot bind. */
export function bindLaunch(launch: Launch): LaunchBinding {
  const isPinned = launch.compose.keyProviderId.length > 0;
  if (launch.platform === "tdx" && !launch.useMrConfigId) {
    if (!isPinned) return { version: 0 };
    throw new AppError(
      "compose/unsupported",
      "key provider ID requires MrConfigV3, but use_mrconfigid is disabled",
    );
  }
  if (launch.platform === "tdx" && !isPinned) {
    return { version: 1, mrConfigId: mrConfigIdV1(launch.composeHash) };
  }
  const document = encodeMrConfigV3({
    appId: launch.appId,
    composeHash: launch.composeHash,
    ...(launch.gpuCount > 0
      ? { gpuPolicyHash: gpuPolicyHash(launch.compose.requirements?.gpuPolicy) }
      : {}),
    instanceId: launch.instanceId,
    ...(launch.compose.manifestVersion >= 3
      ? { initScriptHashes: initScriptHashes(launch.compose) }
      : {}),
    keyProvider: launch.compose.keyProvider,
    keyProviderId: launch.compose.keyProviderId,
  });
  const [mrConfigId, hostData] = [mrConfigIdV3(document), mrConfigV3Hash(document)];
  return { version: 3, mrConfigId, hostData, document };
}
