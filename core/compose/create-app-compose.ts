import { toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalJson, type JsonValue } from "../encoding/jcs.ts";
import { checkManifestRules, parseAppCompose } from "./app-compose.ts";
import type { KeyProvider } from "./key-provider.ts";

/** What a person decides about an app; everything else has the default of a new manifest. */
export interface AppComposeSpec {
  readonly name: string;
  /** Compose YAML, kept as written. */
  readonly dockerComposeFile: string;
  readonly keyProvider?: KeyProvider;
  /** Pins the provider's identity; 0 bytes or absent for any. */
  readonly keyProviderId?: Uint8Array;
  readonly gatewayEnabled?: boolean;
  readonly publicLogs?: boolean;
  readonly publicSysinfo?: boolean;
  readonly publicTcbinfo?: boolean;
  readonly allowedEnvs?: readonly string[];
  readonly noInstanceId?: boolean;
  readonly secureTime?: boolean;
  readonly storageFs?: "zfs" | "ext4";
  readonly swapSize?: string | number;
  readonly preLaunchScript?: string;
  readonly initScripts?: readonly string[];
  /** Written as given, so that its members keep the reference's names. */
  readonly requirements?: Readonly<Record<string, JsonValue>>;
  readonly portPolicy?: {
    readonly ports: readonly { readonly port: number; readonly pp: boolean }[];
    readonly restrictMode: boolean;
  };
}

/**
 * The app-compose.json of a new app: the exact bytes to deploy and to hash. They are the normalised
 * form SDKs agree on, which is RFC 8785: sorted keys, no blanks, non-ASCII text unescaped. Every
 * choice is written out, so a change of defaults never changes what an app means.
 * Throws what a guest would refuse the app with.
 */
export function createAppCompose(spec: AppComposeSpec): Uint8Array {
  const bytes = utf8(canonicalJson(members(spec)));
  checkManifestRules(parseAppCompose(bytes));
  return bytes;
}

function members(spec: AppComposeSpec): { [name: string]: JsonValue } {
  const scripts = spec.initScripts ?? [];
  return {
    manifest_version: spec.requirements !== undefined || scripts.length > 1 ? "3" : 2,
    name: spec.name,
    runner: "docker-compose",
    docker_compose_file: spec.dockerComposeFile,
    key_provider: spec.keyProvider ?? "kms",
    kms_enabled: (spec.keyProvider ?? "kms") === "kms", // read by guests that know no key_provider
    gateway_enabled: spec.gatewayEnabled ?? true,
    public_logs: spec.publicLogs ?? false,
    public_sysinfo: spec.publicSysinfo ?? false,
    public_tcbinfo: spec.publicTcbinfo ?? true,
    allowed_envs: [...(spec.allowedEnvs ?? [])],
    no_instance_id: spec.noInstanceId ?? false,
    secure_time: spec.secureTime ?? false,
    ...(spec.keyProviderId?.length ? { key_provider_id: toHex(spec.keyProviderId) } : {}),
    ...given("storage_fs", spec.storageFs),
    ...given("swap_size", spec.swapSize),
    // A guest's shell executes these when they are there at all, so an empty one is left out.
    ...given("pre_launch_script", spec.preLaunchScript || undefined),
    ...given("init_script", scripts.length > 1 ? scripts : scripts[0]),
    ...given("requirements", spec.requirements),
    ...given(
      "port_policy",
      spec.portPolicy && {
        ports: spec.portPolicy.ports.map(({ port, pp }) => ({ port, pp })),
        restrict_mode: spec.portPolicy.restrictMode,
      },
    ),
  };
}

function given(name: string, value: JsonValue | undefined): { [name: string]: JsonValue } {
  return value === undefined ? {} : { [name]: value };
}
