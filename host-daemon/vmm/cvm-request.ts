import { composeHash, defaultAppId } from "#core/compose/identity.ts";
import { type AppCompose, parseAppCompose } from "#core/compose/app-compose.ts";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { StoredNetwork, StoredPortMapping } from "../db/schema.ts";
import { parsePortMappings, type PortPolicy, type PortRequest } from "./port-mapping.ts";
import { requireCvmName, requireImageName } from "./vm-id.ts";

/** `vmm.VmConfiguration` as far as it asks for something. */
export interface CvmConfiguration {
  readonly name: string;
  readonly image: string;
  readonly composeFile: string;
  readonly vcpu: number;
  /** MiB. */
  readonly memory: number;
  /** GiB. */
  readonly diskSize: number;
  readonly ports: readonly PortRequest[];
  readonly encryptedEnv: Uint8Array;
  readonly appId?: string | undefined;
  readonly userConfig: string;
  readonly hugepages: boolean;
  readonly pinNuma: boolean;
  readonly gpus?:
    | { readonly attachMode: string; readonly gpus: readonly unknown[] }
    | undefined;
  readonly kmsUrls: readonly string[];
  readonly gatewayUrls: readonly string[];
  readonly stopped: boolean;
  readonly noTee: boolean;
  readonly networking?: NetworkRequest | undefined;
  readonly networks: readonly NetworkRequest[];
  readonly simulatedTee?: string | undefined;
}

export interface NetworkRequest {
  readonly mode: string;
  readonly bridgeName: string;
}

/** What this node can give. */
export interface NodePolicy {
  readonly ports: PortPolicy;
  readonly networking: { readonly mode: "user" | "bridge"; readonly bridge: string };
  /** TEE of VMs that do not ask for none. */
  readonly tee: "tdx" | "simulated";
}

export interface AcceptedCvm {
  readonly name: string;
  readonly image: string;
  readonly appId: string;
  readonly composeHash: string;
  readonly compose: AppCompose;
  readonly vcpu: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  readonly portMappings: StoredPortMapping[];
  readonly networks: StoredNetwork[];
  readonly noTee: boolean;
}

/** Guest files of the host share are limited by the guest (spec/vmm.md section 4.1). */
const MAX_ENCRYPTED_ENV_BYTES = 256 * 1024;
const MAX_USER_CONFIG_BYTES = 50 * 1024 * 1024;

/** Checks a request in the order the reference does (spec/vmm.md section 3.3). */
export function acceptCvm(request: CvmConfiguration, policy: NodePolicy): AcceptedCvm {
  const name = requireCvmName(request.name);
  const portMappings = parsePortMappings(request.ports, policy.ports);
  requireNoGpu(request.gpus);
  const simulated = request.simulatedTee !== undefined && request.simulatedTee !== "";
  if (simulated) requireSimulatedTee(request.simulatedTee, policy);
  const composeBytes = utf8(request.composeFile);
  const compose = parseAppCompose(composeBytes);
  requireSupportedCompose(compose);
  const networks = resolveNetworks(
    request.networks.length > 0
      ? request.networks
      : request.networking === undefined
      ? []
      : [request.networking],
    policy.networking,
  );
  const noTee = request.noTee && !simulated;
  requireResources(request.vcpu, request.memory, request.diskSize, noTee);
  requireLimits(request.encryptedEnv, request.userConfig);
  for (const [asked, what] of [[request.hugepages, "hugepages"], [request.pinNuma, "pin_numa"]]) {
    if (asked) throw new AppError("input/unsupported", `${what} is not supported yet`);
  }
  const hash = composeHash(composeBytes);
  return {
    name,
    image: requireImageName(request.image),
    appId: request.appId === undefined || request.appId === ""
      ? toHex(defaultAppId(hash))
      : requireAppId(request.appId),
    composeHash: toHex(hash),
    compose,
    vcpu: Math.max(1, request.vcpu),
    memoryMib: request.memory,
    diskGib: request.diskSize,
    portMappings,
    networks,
    noTee,
  };
}

/** The reference stores any text; guests and the KMS accept 20 bytes only, so we say so at once. */
function requireAppId(text: string): string {
  const hex = text.replace(/^0x/, "").toLowerCase();
  if (!/^[0-9a-f]{40}$/.test(hex)) {
    throw new AppError("input/malformed", "Invalid app_id: not 20 bytes in hex");
  }
  return hex;
}

export function requireSupportedCompose(compose: AppCompose): void {
  if (compose.verityVolumes.length > 0) {
    throw new AppError(
      "input/unsupported",
      "volumes requested but cvm.volumes_dir is not configured",
    );
  }
  if (compose.keyProvider === "tpm") {
    throw new AppError("input/unsupported", "key provider tpm is not supported on this node");
  }
}

export function requireResources(
  vcpu: number,
  memoryMib: number,
  diskGib: number,
  noTee: boolean,
): void {
  if (vcpu > 255) throw new AppError("input/malformed", "vcpu must be at most 255");
  if (memoryMib < 128) throw new AppError("input/malformed", "memory must be at least 128 MiB");
  if (diskGib < 1) throw new AppError("input/malformed", "disk_size must be at least 1 GiB");
  // The witness in measurement.tdx.cbor covers these sizes only (spec/os.md section 1.5).
  if (!noTee && memoryMib !== 2048 && memoryMib < 2816) {
    throw new AppError(
      "input/unsupported",
      `A CVM with ${memoryMib} MiB cannot be measured: give it 2048 MiB, or 2816 MiB or more`,
    );
  }
}

export function requireLimits(encryptedEnv: Uint8Array, userConfig: string): void {
  if (encryptedEnv.length > MAX_ENCRYPTED_ENV_BYTES) {
    throw new AppError("input/too-large", "encrypted_env is larger than 256 KiB");
  }
  if (utf8(userConfig).length > MAX_USER_CONFIG_BYTES) {
    throw new AppError("input/too-large", "user_config is larger than 50 MiB");
  }
}

export function requireNoGpu(gpus: CvmConfiguration["gpus"]): void {
  if (gpus === undefined) return;
  if (gpus.attachMode === "all" || gpus.gpus.length > 0) {
    throw new AppError("input/unsupported", "GPU is not enabled");
  }
}

const REFERENCE_SIMULATED_TEES = [
  "dstack-tdx",
  "dstack-gcp-tdx",
  "dstack-amd-sev-snp",
  "dstack-nitro-enclave",
  "dstack-aws-nitro-tpm",
];

function requireSimulatedTee(variant: string | undefined, policy: NodePolicy): void {
  if (!REFERENCE_SIMULATED_TEES.includes(variant ?? "")) {
    throw new AppError("input/unsupported", `unsupported TEE variant: ${variant?.slice(0, 40)}`);
  }
  if (variant !== "dstack-tdx" || policy.tee !== "simulated") {
    throw new AppError("input/unsupported", `This node does not simulate ${variant}`);
  }
}

/** Explicit entries are stored resolved; none stored means the node's default at each start. */
export function resolveNetworks(
  requests: readonly NetworkRequest[],
  node: NodePolicy["networking"],
): StoredNetwork[] {
  return requests.flatMap((request): StoredNetwork[] => {
    const { mode, bridgeName } = request;
    const refuse = (why: string) => new AppError("input/malformed", why);
    if (mode === "") {
      if (bridgeName !== "") throw refuse("networking mode is required when bridge is set");
      if (requests.length > 1) throw refuse("networking mode is required");
      return [];
    }
    if (mode === "custom") throw refuse("custom networking mode is manifest-only");
    if (mode === "user") {
      if (bridgeName !== "") throw refuse("bridge_name is only valid for bridge networking mode");
      return [{ mode, bridge: "" }];
    }
    if (mode !== "bridge") throw refuse(`unsupported networking mode '${mode.slice(0, 40)}'`);
    const bridge = bridgeName === "" ? node.bridge : bridgeName;
    if (bridge === "") throw refuse("bridge networking requested but no bridge is configured");
    if (!/^[A-Za-z0-9_.-]{1,15}$/.test(bridge)) throw refuse("Invalid bridge name");
    return [{ mode, bridge }];
  });
}
