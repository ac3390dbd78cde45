import { fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";

/** The event a guest extends after its GPUs passed, before the app can say anything. */
export const GPU_ATTESTATION_EVENT = "gpu-attestation";

const MAX_DEVICES = 64;

/** What a guest measured about its GPUs: payload of the event, version 2 (spec attestation.md 2.2). */
export interface GpuAttestation {
  readonly devices: number;
  /** Confidential computing mode: memory and bus are encrypted. */
  readonly ccMode: string;
  /** Developer tools can read the memory of the GPUs. */
  readonly devtools: boolean;
  /** SHA-256 of NVIDIA's whole output, which the guest serves. */
  readonly evidenceSha256: Uint8Array;
}

/** Throws `input/malformed`. */
export function parseGpuAttestation(payload: Uint8Array): GpuAttestation {
  const name = GPU_ATTESTATION_EVENT;
  const json = new JsonObject(parseStrictJson(fromUtf8(payload, name), name), name)
    .only(["version", "provider", "devices", "cc_mode", "devtools", "evidence_sha256"]);
  if (json.unsigned("version", 255) !== 2) throw json.malformed("version", "is not 2");
  json.oneOf("provider", ["nvidia"]);
  return {
    devices: json.unsigned("devices", MAX_DEVICES),
    ccMode: json.string("cc_mode"),
    devtools: json.boolean("devtools"),
    evidenceSha256: json.hex("evidence_sha256", 32),
  };
}

export function encodeGpuAttestation(attestation: GpuAttestation): Uint8Array {
  return utf8(JSON.stringify({
    version: 2,
    provider: "nvidia",
    devices: attestation.devices,
    cc_mode: attestation.ccMode,
    devtools: attestation.devtools,
    evidence_sha256: toHex(attestation.evidenceSha256),
  }));
}
