import { AppError } from "../errors/app-error.ts";
import { JsonObject } from "../encoding/json-object.ts";
import type { JsonValue } from "../encoding/jcs.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { parseByteSize } from "./byte-size.ts";
import { type GpuPolicy, parseGpuPolicy } from "./gpu-policy.ts";
import { KEY_PROVIDERS, type KeyProvider, selectKeyProvider } from "./key-provider.ts";

/** Largest app-compose.json a guest copies from its host share (spec/os.md 3.2). */
export const MAX_APP_COMPOSE_BYTES = 50 * 1024 * 1024;

/** Newest manifest version this implementation understands. */
export const MAX_MANIFEST_VERSION = 3;

/** Most init scripts an app may have; each one is an event of its own. */
export const MAX_INIT_SCRIPTS = 5;

/** What an app asks of the platform before its keys are released (spec/os.md 4.1). */
export interface Requirements {
  /** Cargo requirement syntax, checked against the guest's VERSION_ID. */
  readonly osVersion: string | undefined;
  /** undefined: any platform; empty: none. */
  readonly platforms: readonly string[] | undefined;
  readonly tdxMeasureAcpiTables: boolean | undefined;
  /** Hex as written; its form is checked where the token is. */
  readonly launchTokenHash: string | undefined;
  readonly gpuPolicy: GpuPolicy;
}

export interface PortPolicy {
  readonly ports: readonly { readonly port: number; readonly pp: boolean }[];
  readonly restrictMode: boolean;
}

/** Read-only data a host attaches, authenticated by its dm-verity root. */
export interface VerityVolume {
  readonly source: string;
  /** 32 bytes. */
  readonly verityRoot: Uint8Array;
  /** Absolute path in the guest. */
  readonly target: string;
}

/** app-compose.json, spec/os.md 4.1. Parsed once: what the guest uses is what was hashed. */
export interface AppCompose {
  readonly manifestVersion: number;
  readonly name: string;
  readonly runner: string;
  readonly features: readonly string[];
  readonly snapshotter: "overlayfs" | "stargz" | undefined;
  readonly dockerComposeFile: string | undefined;
  readonly bashScript: string | undefined;
  readonly initScripts: readonly string[];
  readonly preLaunchScript: string | undefined;
  readonly publicLogs: boolean;
  readonly publicSysinfo: boolean;
  readonly publicTcbinfo: boolean;
  /** `gateway_enabled`, the older `tproxy_enabled` or the feature `tproxy-net`. */
  readonly gatewayEnabled: boolean;
  /** Chosen by `key_provider`, else by the two legacy flags. */
  readonly keyProvider: KeyProvider;
  /** Pinned provider identity; empty when not pinned. */
  readonly keyProviderId: Uint8Array;
  readonly allowedEnvs: readonly string[];
  readonly noInstanceId: boolean;
  readonly secureTime: boolean;
  readonly storageFs: "zfs" | "ext4" | undefined;
  /** Bytes; 0 for none. */
  readonly swapSize: number;
  readonly eventLogVersion: 1 | 2;
  readonly portPolicy: PortPolicy;
  readonly requirements: Requirements | undefined;
  readonly verityVolumes: readonly VerityVolume[];
}

/**
 * Parses the exact bytes that are hashed. Unknown top-level members are allowed, repeated ones at any
 * depth are not: two readers of one hash must not see two apps. Throws `input/malformed`.
 */
export function parseAppCompose(bytes: Uint8Array): AppCompose {
  const json = parseStrictJson(bytes, "app-compose", { maxSize: MAX_APP_COMPOSE_BYTES });
  const o = new JsonObject(json, "app-compose");
  const optional = o.withoutNulls();
  const keyProvider = selectKeyProvider({
    keyProvider: optional.oneOf("key_provider", KEY_PROVIDERS, undefined),
    kmsEnabled: o.boolean("kms_enabled", false),
    localKeyProviderEnabled: o.boolean("local_key_provider_enabled", false),
  });
  const features = o.strings("features", []);
  return {
    manifestVersion: parseManifestVersion(o.raw("manifest_version")),
    name: o.string("name"),
    runner: o.string("runner"),
    features,
    snapshotter: optional.oneOf("snapshotter", ["overlayfs", "stargz"], undefined),
    dockerComposeFile: optional.string("docker_compose_file", undefined),
    bashScript: o.string("bash_script", undefined),
    initScripts: parseInitScripts(optional),
    preLaunchScript: o.string("pre_launch_script", undefined),
    publicLogs: o.boolean("public_logs", false),
    publicSysinfo: o.boolean("public_sysinfo", false),
    publicTcbinfo: o.boolean("public_tcbinfo", true),
    gatewayEnabled: [
      o.boolean("gateway_enabled", false),
      o.boolean("tproxy_enabled", false),
      features.includes("tproxy-net"),
    ].includes(true),
    keyProvider,
    keyProviderId: o.hex("key_provider_id", undefined, new Uint8Array()),
    allowedEnvs: o.strings("allowed_envs", []),
    noInstanceId: o.boolean("no_instance_id", false),
    secureTime: o.boolean("secure_time", true),
    storageFs: parseStorageFs(optional),
    swapSize: parseByteSize(o.raw("swap_size") ?? 0, "app-compose: swap_size"),
    eventLogVersion: parseEventLogVersion(o),
    portPolicy: parsePortPolicy(o),
    requirements: parseRequirements(optional),
    verityVolumes: parseVerityVolumes(o),
  };
}

/**
 * The rules a guest applies before it asks for keys (spec/os.md 3.3 step 3, first bullet). A host need
 * not: it carries apps that only newer guests understand. Throws `compose/unsupported`.
 */
export function checkManifestRules(compose: AppCompose): void {
  const { manifestVersion, runner } = compose;
  if (manifestVersion > MAX_MANIFEST_VERSION) {
    throw unsupported(
      `Unsupported manifest_version ${manifestVersion}: at most ${MAX_MANIFEST_VERSION}`,
    );
  }
  const needsVersion3: [boolean, string][] = [
    [compose.requirements !== undefined, "requirements"],
    [runner === "nerdctl-compose", "runner nerdctl-compose"],
    [compose.initScripts.length > 1, "more than one init_script"],
  ];
  for (const [used, what] of needsVersion3) {
    if (used && manifestVersion < 3) {
      throw unsupported(`${what} requires manifest_version 3, this app has ${manifestVersion}`);
    }
  }
  if (compose.snapshotter !== undefined && runner !== "nerdctl-compose") {
    throw unsupported(`snapshotter is only for runner nerdctl-compose, this app has ${runner}`);
  }
  const source = runnerSource(compose);
  if (source === undefined) {
    throw unsupported(
      runner === "bash"
        ? "runner bash needs bash_script"
        : `runner ${runner} needs docker_compose_file`,
    );
  }
}

/** The text the runner executes: compose YAML, or the script of runner `bash`. */
function runnerSource(compose: AppCompose): string | undefined {
  switch (compose.runner) {
    case "docker-compose":
    case "nerdctl-compose":
      return compose.dockerComposeFile;
    case "bash":
      return compose.bashScript;
    default:
      throw unsupported(`Unsupported runner ${JSON.stringify(compose.runner)}`);
  }
}

/** Numbers stop at 2 so that guests older than version 3 refuse newer manifests. */
function parseManifestVersion(value: unknown): number {
  const refuse = (why: string) =>
    new AppError("input/malformed", `Cannot parse app-compose: manifest_version ${why}`);
  if (typeof value === "number") {
    if (value === 1 || value === 2) return value;
    if (!Number.isInteger(value) || value < 0) throw refuse("must be a positive integer");
    throw refuse("as a number only allows legacy versions 1 and 2; write it as a string");
  }
  if (typeof value !== "string") throw refuse("must be a string or a number");
  const text = value.trim();
  if (text === "") throw refuse("must not be empty");
  if (text === "0") throw refuse("must be greater than 0");
  if (!/^[1-9][0-9]*$/.test(text) || Number(text) > 0xffff_ffff) {
    throw refuse("must be a canonical integer string");
  }
  return Number(text);
}

function parseInitScripts(o: JsonObject): readonly string[] {
  const value = o.raw("init_script");
  if (value === undefined) return [];
  if (typeof value === "string") return [value];
  const scripts = o.strings("init_script");
  if (scripts.length > MAX_INIT_SCRIPTS) {
    throw o.malformed("init_script", `has ${scripts.length} scripts, at most 5 are allowed`);
  }
  return scripts;
}

function parseStorageFs(o: JsonObject): "zfs" | "ext4" | undefined {
  if (!o.has("storage_fs")) return undefined;
  const name = o.string("storage_fs").toLowerCase();
  if (name !== "zfs" && name !== "ext4") throw o.malformed("storage_fs", "must be zfs or ext4");
  return name;
}

function parseEventLogVersion(o: JsonObject): 1 | 2 {
  const version = o.raw("event_log_version") ?? 1;
  if (version !== 1 && version !== 2) throw o.malformed("event_log_version", "must be 1 or 2");
  return version;
}

function parsePortPolicy(o: JsonObject): PortPolicy {
  const policy = new JsonObject(o.raw("port_policy") ?? {}, "app-compose: port_policy");
  const ports = policy.array("ports", []).map((item) => {
    const port = new JsonObject(item, "app-compose: port_policy.ports");
    return { port: port.unsigned("port", 0xffff), pp: port.boolean("pp", false) };
  });
  return { ports, restrictMode: policy.boolean("restrict_mode", false) };
}

function parseRequirements(o: JsonObject): Requirements | undefined {
  if (!o.has("requirements")) return undefined;
  const r = new JsonObject(o.raw("requirements"), "app-compose: requirements").only([
    "os_version",
    "platforms",
    "tdx_measure_acpi_tables",
    "launch_token_hash",
    "gpu_policy",
  ]);
  const optional = r.withoutNulls();
  return {
    osVersion: optional.string("os_version", undefined),
    platforms: optional.strings("platforms", undefined),
    tdxMeasureAcpiTables: optional.boolean("tdx_measure_acpi_tables", undefined),
    launchTokenHash: optional.string("launch_token_hash", undefined),
    gpuPolicy: parseGpuPolicy(r.has("gpu_policy") ? r.raw("gpu_policy") as JsonValue : {}),
  };
}

function parseVerityVolumes(o: JsonObject): readonly VerityVolume[] {
  const targets = new Set<string>();
  return o.array("verity_volumes", []).map((item) => {
    const v = new JsonObject(item, "app-compose: verity_volumes");
    const target = v.string("target");
    if (!target.startsWith("/")) throw v.malformed("target", "must be an absolute path");
    if (targets.has(target)) {
      throw new AppError("input/malformed", `duplicate verity volume target ${target}`);
    }
    targets.add(target);
    return { source: v.string("source"), verityRoot: v.hex("verity_root", 32), target };
  });
}

function unsupported(message: string): AppError {
  return new AppError("compose/unsupported", message);
}
