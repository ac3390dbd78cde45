import { equalBytes } from "../bytes/bytes.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { refusal } from "../errors/refusal.ts";

/** The largest output of `nvattest` that is read, in bytes, and the GPUs in it. */
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;
const MAX_CLAIMS = 64;
const NONCE_BYTES = 32;

/** What the app-compose allows its GPUs (`requirements.gpu_policy`). */
export interface GpuClaimPolicy {
  readonly allowDebug: boolean;
  readonly allowInsecureBoot: boolean;
}

/** What NVIDIA's verifier found about one GPU: report, certificates, OCSP and RIM are its to check. */
export interface GpuClaim {
  readonly deviceType: string;
  readonly nonce: Uint8Array;
  readonly reportMatchesNonce: boolean;
  /** `success` when the GPU measures what NVIDIA's reference manifests list. */
  readonly measurementResult: string;
  readonly secureBoot: boolean;
  readonly debug: "disabled" | "enabled";
}

/**
 * Parses the JSON that `nvattest attest --format json` prints (spec os.md 3.12); it may say more about a
 * GPU than is read here. Throws `input/malformed`, or `attestation/refused` when the tool reports failure.
 */
export function parseNvattestOutput(output: string | Uint8Array): readonly GpuClaim[] {
  const limits = { maxSize: MAX_OUTPUT_BYTES };
  const json = new JsonObject(
    parseStrictJson(output, "nvattest output", limits),
    "nvattest output",
  );
  const code = json.raw("result_code");
  if (typeof code !== "number") throw json.malformed("result_code", "is not a number");
  if (code !== 0) throw notGenuine(`NVIDIA's verifier failed with code ${code}`);
  const claims = json.array("claims");
  if (claims.length > MAX_CLAIMS) throw json.malformed("claims", `are more than ${MAX_CLAIMS}`);
  return claims.map((value) => {
    const claim = new JsonObject(value, "GPU claim");
    return {
      deviceType: claim.string("x-nvidia-device-type"),
      nonce: claim.hex("eat_nonce", NONCE_BYTES),
      reportMatchesNonce: claim.boolean("x-nvidia-gpu-attestation-report-nonce-match"),
      measurementResult: claim.string("measres"),
      secureBoot: claim.boolean("secboot"),
      debug: claim.oneOf("dbgstat", ["disabled", "enabled"]),
    };
  });
}

/**
 * Requires one good claim of each GPU for this nonce (32 bytes): genuine, measuring what NVIDIA lists,
 * booted securely and without debug unless the app allows otherwise. Throws `attestation/refused`.
 */
export function requireGenuineGpus(
  claims: readonly GpuClaim[],
  devices: number,
  nonce: Uint8Array,
  policy: GpuClaimPolicy,
): void {
  if (claims.length !== devices) {
    throw notGenuine(`NVIDIA's verifier names ${claims.length} GPUs, the VM has ${devices}`);
  }
  for (const [index, claim] of claims.entries()) {
    const which = `GPU ${index}`;
    if (claim.deviceType !== "gpu") throw notGenuine(`${which} is not a GPU`);
    if (!equalBytes(claim.nonce, nonce) || !claim.reportMatchesNonce) {
      throw notGenuine(`${which} answered another nonce`);
    }
    if (claim.measurementResult !== "success") {
      throw notGenuine(`${which} does not measure what NVIDIA lists`);
    }
    if (!claim.secureBoot && !policy.allowInsecureBoot) {
      throw notAllowed(`${which} was not booted securely`);
    }
    if (claim.debug === "enabled" && !policy.allowDebug) {
      throw notAllowed(`${which} can be debugged`);
    }
  }
}

function notGenuine(detail: string) {
  return refusal("gpu-attestation-mismatch", detail);
}

function notAllowed(detail: string) {
  return refusal("gpu-mode-not-allowed", detail);
}
