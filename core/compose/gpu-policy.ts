import { sha256 } from "@noble/hashes/sha2.js";
import { utf8 } from "../bytes/bytes.ts";
import { canonicalJson, type JsonValue } from "../encoding/jcs.ts";
import { JsonObject } from "../encoding/json-object.ts";

/** `requirements.gpu_policy` of app-compose, spec/os.md 4.1. */
export interface GpuPolicy {
  readonly attestGpu: boolean;
  /** Rego text evaluated over the GPU's claims. */
  readonly rego: string | undefined;
  readonly allowDevtools: boolean;
  readonly allowDebug: boolean;
  readonly allowInsecureBoot: boolean;
  /** SHA-256 of the JCS form of the value as written: an explicit default changes it. 32 bytes. */
  readonly hash: Uint8Array;
}

export function parseGpuPolicy(value: JsonValue): GpuPolicy {
  const policy = new JsonObject(value, "app-compose: gpu_policy").only([
    "attest_gpu",
    "rego",
    "allow_devtools",
    "allow_debug",
    "allow_insecure_boot",
  ]);
  return {
    attestGpu: policy.boolean("attest_gpu", true),
    rego: policy.withoutNulls().string("rego", undefined),
    allowDevtools: policy.boolean("allow_devtools", false),
    allowDebug: policy.boolean("allow_debug", false),
    allowInsecureBoot: policy.boolean("allow_insecure_boot", false),
    hash: sha256(utf8(canonicalJson(value))),
  };
}

/** What the `gpu-policy-hash` event carries when the app has no requirements: SHA-256 of `{}`. */
export function gpuPolicyHash(policy: GpuPolicy | undefined): Uint8Array {
  return policy?.hash ?? sha256(utf8("{}"));
}
