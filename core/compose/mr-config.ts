import { keccak_256 } from "@noble/hashes/sha3.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, equalBytes, isZero, toHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { canonicalJson } from "../encoding/jcs.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { ID_LENGTH, requireIdLength } from "./identity.ts";
import { KEY_PROVIDER_KIND, KEY_PROVIDERS, type KeyProvider } from "./key-provider.ts";

/** Length of TDX MRCONFIGID in bytes: a version byte, 32 bytes of hash, zeros (spec/attestation.md 3.8). */
export const MR_CONFIG_ID_LENGTH = 48;

/** Version 1 binds the compose hash alone. */
export function mrConfigIdV1(composeHash: Uint8Array): Uint8Array {
  return mrConfigId(1, composeHash);
}

/** Version 2 adds app id and key provider. */
export function mrConfigIdV2(launch: {
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  readonly keyProvider: KeyProvider;
  readonly keyProviderId: Uint8Array;
}): Uint8Array {
  requireIdLength("app id", launch.appId);
  const kind = Uint8Array.of(KEY_PROVIDER_KIND[launch.keyProvider]);
  return mrConfigId(
    2,
    keccak_256(concatBytes(launch.composeHash, launch.appId, kind, launch.keyProviderId)),
  );
}

/** Version 3 binds a document by the hash of its exact bytes. */
export function mrConfigIdV3(document: Uint8Array): Uint8Array {
  return mrConfigId(3, mrConfigV3Hash(document));
}

/** HOST_DATA of a SEV-SNP launch, and bytes 1 to 33 of a V3 MRCONFIGID. 32 bytes. */
export function mrConfigV3Hash(document: Uint8Array): Uint8Array {
  return sha256(concatBytes(utf8("dstack-mr-config-v3:\0"), document));
}

/** The V3 document. Absent members are not compared; an empty `initScriptHashes` allows no script. */
export interface MrConfigV3 {
  readonly appId?: Uint8Array;
  readonly composeHash: Uint8Array;
  readonly gpuPolicyHash?: Uint8Array;
  readonly instanceId?: Uint8Array;
  readonly initScriptHashes?: readonly Uint8Array[];
  readonly keyProvider: KeyProvider;
  readonly keyProviderId?: Uint8Array;
}

/** Writes the document as JCS; empty and absent members are left out. */
export function encodeMrConfigV3(config: MrConfigV3): Uint8Array {
  const optionalHex = (name: string, bytes: Uint8Array | undefined) =>
    bytes === undefined || bytes.length === 0 ? {} : { [name]: toHex(bytes) };
  return utf8(canonicalJson({
    version: 3,
    ...optionalHex("app_id", config.appId),
    compose_hash: toHex(config.composeHash),
    ...optionalHex("gpu_policy_hash", config.gpuPolicyHash),
    key_provider: config.keyProvider,
    ...optionalHex("key_provider_id", config.keyProviderId),
    ...optionalHex("instance_id", config.instanceId),
    ...(config.initScriptHashes && { init_script_hashes: config.initScriptHashes.map(toHex) }),
  }));
}

/** Throws `input/malformed`: unknown members, another version than 3, or members of a wrong length. */
export function parseMrConfigV3(document: Uint8Array | string): MrConfigV3 {
  const o = new JsonObject(parseStrictJson(document, "mr_config"), "mr_config").only([
    "version",
    "app_id",
    "compose_hash",
    "gpu_policy_hash",
    "key_provider",
    "key_provider_id",
    "instance_id",
    "init_script_hashes",
  ]).withoutNulls();
  if (o.unsigned("version", 0xffff_ffff, 3) !== 3) throw o.malformed("version", "must be 3");
  const optionalHex = <K extends string>(key: K, name: string, length?: number) =>
    (o.has(name) ? { [key]: o.hex(name, length) } : {}) as {
      [P in K]?: Uint8Array;
    };
  return {
    ...optionalHex("appId", "app_id", ID_LENGTH),
    composeHash: o.hex("compose_hash", 32),
    ...optionalHex("gpuPolicyHash", "gpu_policy_hash", 32),
    ...optionalHex("instanceId", "instance_id", ID_LENGTH),
    keyProvider: o.oneOf("key_provider", KEY_PROVIDERS),
    ...optionalHex("keyProviderId", "key_provider_id"),
    ...(o.has("init_script_hashes") ? { initScriptHashes: parseScriptHashes(o) } : {}),
  };
}

function parseScriptHashes(o: JsonObject): Uint8Array[] {
  const hashes = o.strings("init_script_hashes");
  if (hashes.length > 5) throw o.malformed("init_script_hashes", "has more than 5 entries");
  return hashes.map((hex) => new JsonObject({ hash: hex }, "init_script_hashes").hex("hash", 32));
}

/** What the guest measured about itself, to compare with what the host bound at launch. */
export interface LaunchIdentity {
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  /** Empty for an app with `no_instance_id`. */
  readonly instanceId: Uint8Array;
  readonly gpuPolicyHash: Uint8Array;
  readonly initScriptHashes: readonly Uint8Array[];
  readonly keyProvider: KeyProvider;
  /**
   * Identity of the provider the keys came from; empty for tpm and none. Undefined before there are
   * keys: what it decides is then left for a second check.
   */
  readonly keyProviderId: Uint8Array | undefined;
}

/**
 * Compares MRCONFIGID with what the guest measured; answers the version that bound it, 0 when the host
 * chose no binding. `document` is the received mr_config text, needed for version 3.
 * Throws `measurement/mr-config-mismatch`.
 */
export function checkMrConfigId(
  actual: Uint8Array,
  launch: LaunchIdentity,
  document?: Uint8Array,
): 0 | 1 | 2 | 3 {
  if (actual.length !== MR_CONFIG_ID_LENGTH) {
    throw new AppError("input/malformed", `mr_config_id must be 48 bytes, got ${actual.length}`);
  }
  if (isZero(actual)) return 0;
  const version = actual[0]!;
  switch (version) {
    case 1:
      requireSame("mr_config_id", actual, mrConfigIdV1(launch.composeHash));
      return 1;
    case 2: {
      const { keyProviderId } = launch;
      if (keyProviderId !== undefined) {
        requireSame("mr_config_id", actual, mrConfigIdV2({ ...launch, keyProviderId }));
      }
      return 2;
    }
    case 3:
      if (document === undefined) throw mismatch("the host bound a V3 document but sent none");
      checkMrConfigV3(document, launch);
      requireSame("mr_config_id", actual, mrConfigIdV3(document));
      return 3;
    default:
      throw mismatch(`unknown mr_config_id version ${version}`);
  }
}

/** Compares every member the document has with the guest's own value. */
export function checkMrConfigV3(document: Uint8Array, launch: LaunchIdentity): void {
  const config = parseMrConfigV3(document);
  requireSame("compose_hash", config.composeHash, launch.composeHash);
  if (config.keyProvider !== launch.keyProvider) {
    throw mismatch(`key_provider is ${config.keyProvider}, the app has ${launch.keyProvider}`);
  }
  const members = [
    ["app_id", config.appId, launch.appId],
    ["instance_id", config.instanceId, launch.instanceId],
    ["gpu_policy_hash", config.gpuPolicyHash, launch.gpuPolicyHash],
    ["key_provider_id", config.keyProviderId, launch.keyProviderId],
  ] as const;
  for (const [name, bound, own] of members) {
    if (bound !== undefined && own !== undefined) requireSame(name, bound, own);
  }
  if (config.initScriptHashes !== undefined) {
    const own = launch.initScriptHashes;
    if (config.initScriptHashes.length !== own.length) {
      throw mismatch(
        `${config.initScriptHashes.length} init scripts bound, the app has ${own.length}`,
      );
    }
    config.initScriptHashes.forEach((hash, i) =>
      requireSame(`init_script_hashes[${i}]`, hash, own[i]!)
    );
  }
}

function mrConfigId(version: number, hash: Uint8Array): Uint8Array {
  const id = new Uint8Array(MR_CONFIG_ID_LENGTH);
  if (hash.length !== 32) throw new TypeError("MRCONFIGID carries a 32-byte hash");
  id[0] = version;
  id.set(hash, 1);
  return id;
}

function requireSame(name: string, bound: Uint8Array, own: Uint8Array): void {
  if (!equalBytes(bound, own)) {
    throw mismatch(`${name} is ${toHex(bound)}, the guest measured ${toHex(own)}`);
  }
}

function mismatch(why: string): AppError {
  return new AppError("measurement/mr-config-mismatch", `Launch configuration refused: ${why}`);
}
