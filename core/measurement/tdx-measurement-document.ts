import { cborMap, encodeCbor } from "../encoding/cbor.ts";
import { CborObject } from "../encoding/cbor-object.ts";
import { type AcceptedMemory, encodeTdHobWitness, parseTdHobWitness } from "./td-hob.ts";

/** Measurement layout of the firmware; the only one there is (edk2 before 202505). */
export const OVMF_VARIANT = "pre202505";

/** Largest document in bytes; a real one has 384. */
export const MAX_MEASUREMENT_DOCUMENT_BYTES = 64 * 1024;

/** measurement.tdx.cbor, version 3 (spec/attestation.md 3.6). Digests are SHA-384, 48 bytes. */
export interface TdxMeasurementDocument {
  readonly image: {
    /** Of the UTF-16 command line with ` initrd=initrd` and a terminating zero. */
    readonly cmdlineSha384: Uint8Array;
    /** Of the kernel as QEMU patches it for 2 GiB, or for 2816 MiB and more. */
    readonly kernelAuthenticode: Uint8Array;
    readonly initrdSha384: Uint8Array;
  };
  readonly mrTd: { readonly singlePass: Uint8Array; readonly twoPass: Uint8Array };
  readonly acceptedMemory: AcceptedMemory;
}

export function encodeTdxMeasurementDocument(document: TdxMeasurementDocument): Uint8Array {
  const { image, mrTd } = document;
  return encodeCbor(cborMap({
    version: 3,
    image: cborMap({
      cmdline_sha384: image.cmdlineSha384,
      kernel_authenticode: image.kernelAuthenticode,
      initrd_sha384: image.initrdSha384,
    }),
    tdvf: cborMap({
      ovmf: OVMF_VARIANT,
      mrtd: cborMap({ single_pass: mrTd.singlePass, two_pass: mrTd.twoPass }),
      td_hob: encodeTdHobWitness(document.acceptedMemory),
    }),
  }));
}

/** Throws `input/malformed` for another version, member or length. */
export function parseTdxMeasurementDocument(bytes: Uint8Array): TdxMeasurementDocument {
  const root = CborObject.decode(bytes, "TDX measurement", MAX_MEASUREMENT_DOCUMENT_BYTES)
    .only(["version", "image", "tdvf"]);
  root.exactly("version", 3);
  const image = root.object("image").only([
    "cmdline_sha384",
    "kernel_authenticode",
    "initrd_sha384",
  ]);
  const tdvf = root.object("tdvf").only(["ovmf", "mrtd", "td_hob"]);
  tdvf.exactly("ovmf", OVMF_VARIANT);
  const mrTd = tdvf.object("mrtd").only(["single_pass", "two_pass"]);
  return {
    image: {
      cmdlineSha384: image.bytes("cmdline_sha384", 48),
      kernelAuthenticode: image.bytes("kernel_authenticode", 48),
      initrdSha384: image.bytes("initrd_sha384", 48),
    },
    mrTd: { singlePass: mrTd.bytes("single_pass", 48), twoPass: mrTd.bytes("two_pass", 48) },
    acceptedMemory: parseTdHobWitness(tdvf.bytes("td_hob")),
  };
}
