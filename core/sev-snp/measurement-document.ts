import { fromBase64 } from "../bytes/bytes.ts";
import { cborMap, encodeCbor } from "../encoding/cbor.ts";
import { CborObject } from "../encoding/cbor-object.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import type { SnpLaunch } from "./launch-digest.ts";

/** The line of sha256sum.txt that names the document. */
export const SNP_DOCUMENT_NAME = "measurement.snp.cbor";

const MAX_DOCUMENT_BYTES = 64 * 1024;
const MAX_SECTIONS = 64;
const MAX_U32 = 0xffff_ffff;

/** What an image fixes of its guests' launch digest: all but the processors. */
export type SnpMeasurementDocument = Omit<SnpLaunch, "vcpus" | "vcpuType" | "guestFeatures">;

/** measurement.snp.cbor, version 3 (spec attestation.md 3.6). */
export function encodeSnpMeasurementDocument(document: SnpMeasurementDocument): Uint8Array {
  return encodeCbor(cborMap({
    version: 3,
    cmdline: document.cmdline,
    ovmf_hash: document.ovmfHash,
    kernel_hash: document.kernelHash,
    initrd_hash: document.initrdHash,
    hashes_table_gpa: document.hashesTableGpa,
    reset_eip: document.resetEip,
    ovmf_sections: document.sections.map((one) => cborMap({ ...one })),
  }));
}

/** Throws `input/malformed` for another version, member or length. */
export function parseSnpMeasurementDocument(bytes: Uint8Array): SnpMeasurementDocument {
  const root = CborObject.decode(bytes, "SEV-SNP measurement", MAX_DOCUMENT_BYTES).only([
    "version",
    "cmdline",
    "ovmf_hash",
    "kernel_hash",
    "initrd_hash",
    "hashes_table_gpa",
    "reset_eip",
    "ovmf_sections",
  ]);
  root.exactly("version", 3);
  return {
    cmdline: root.text("cmdline"),
    ovmfHash: root.bytes("ovmf_hash", 48),
    kernelHash: root.bytes("kernel_hash", 32),
    initrdHash: root.bytes("initrd_hash", 32),
    hashesTableGpa: root.unsigned("hashes_table_gpa", MAX_U32),
    resetEip: root.unsigned("reset_eip", MAX_U32),
    sections: root.array("ovmf_sections", MAX_SECTIONS).map((value) => {
      const one = new CborObject(value, "SEV-SNP measurement.ovmf_sections")
        .only(["gpa", "size", "type"]);
      return {
        gpa: one.unsigned("gpa", MAX_U32),
        size: one.unsigned("size", MAX_U32),
        type: one.unsigned("type", 255),
      };
    }),
  };
}

/** What a VMM tells about a launch: the image's document with its checksum file, and the processors. */
export interface SnpLaunchMaterial {
  readonly material: { readonly checksumFile: Uint8Array; readonly measurement: Uint8Array };
  readonly vcpus: number;
  readonly vcpuType: string;
  readonly guestFeatures: number;
}

/** The model QEMU is started with when the VMM does not say. */
const DEFAULT_VCPU_TYPE = "EPYC-v4";

/** Parses `sev_snp_measurement` of a VM's configuration (spec attestation.md 3.5). Throws `input/malformed`. */
export function parseSnpLaunchMaterial(text: string): SnpLaunchMaterial {
  const json = new JsonObject(parseStrictJson(text, "sev_snp_measurement"), "sev_snp_measurement")
    .only(["checksum_file", "measurement", "vcpus", "vcpu_type", "guest_features"])
    .withoutNulls();
  const base64 = (name: string) => fromBase64(json.string(name), `sev_snp_measurement: ${name}`);
  return {
    material: { checksumFile: base64("checksum_file"), measurement: base64("measurement") },
    vcpus: json.unsigned("vcpus", MAX_U32),
    vcpuType: json.string("vcpu_type", DEFAULT_VCPU_TYPE),
    guestFeatures: json.unsigned("guest_features", Number.MAX_SAFE_INTEGER),
  };
}
