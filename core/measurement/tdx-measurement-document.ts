import { type CborMap, cborMap, type CborValue, decodeCbor, encodeCbor } from "../encoding/cbor.ts";
import { AppError } from "../errors/app-error.ts";
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
  if (bytes.length > MAX_MEASUREMENT_DOCUMENT_BYTES) {
    throw malformed(`${bytes.length} bytes, at most ${MAX_MEASUREMENT_DOCUMENT_BYTES} are allowed`);
  }
  const root = new Members(decodeCbor(bytes, "TDX measurement"), "document", [
    "version",
    "image",
    "tdvf",
  ]);
  root.exactly("version", 3);
  const image = root.members("image", ["cmdline_sha384", "kernel_authenticode", "initrd_sha384"]);
  const tdvf = root.members("tdvf", ["ovmf", "mrtd", "td_hob"]);
  tdvf.exactly("ovmf", OVMF_VARIANT);
  const mrTd = tdvf.members("mrtd", ["single_pass", "two_pass"]);
  return {
    image: {
      cmdlineSha384: image.digest("cmdline_sha384"),
      kernelAuthenticode: image.digest("kernel_authenticode"),
      initrdSha384: image.digest("initrd_sha384"),
    },
    mrTd: { singlePass: mrTd.digest("single_pass"), twoPass: mrTd.digest("two_pass") },
    acceptedMemory: parseTdHobWitness(tdvf.bytes("td_hob")),
  };
}

/** A CBOR map with exactly the named members. */
class Members {
  readonly #map: CborMap;
  readonly #path: string;

  constructor(value: CborValue | undefined, path: string, names: readonly string[]) {
    if (!(value instanceof Map)) throw malformed(`${path} is not a map`);
    for (const name of (value as CborMap).keys()) {
      if (!names.includes(String(name))) throw malformed(`unknown field \`${name}\` in ${path}`);
    }
    this.#map = value;
    this.#path = path;
  }

  members(name: string, names: readonly string[]): Members {
    return new Members(this.#map.get(name), name, names);
  }

  exactly(name: string, expected: number | string): void {
    const value = this.#map.get(name);
    if (value !== expected) {
      throw malformed(`${this.#path}.${name} is ${String(value)}, expected ${expected}`);
    }
  }

  bytes(name: string): Uint8Array {
    const value = this.#map.get(name);
    if (!(value instanceof Uint8Array)) throw malformed(`${this.#path}.${name} is not bytes`);
    return value;
  }

  digest(name: string): Uint8Array {
    const value = this.bytes(name);
    if (value.length !== 48) {
      throw malformed(`${this.#path}.${name} has ${value.length} bytes, not 48`);
    }
    return value;
  }
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse TDX measurement: ${why}`);
}
