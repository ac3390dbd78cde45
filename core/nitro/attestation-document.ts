import { CborObject } from "../encoding/cbor-object.ts";
import { type CoseSign1, parseCoseSign1 } from "../encoding/cose.ts";
import { type PcrBank, requirePcrBank } from "../tpm/pcr.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";

/** The largest document, in bytes; the NSM answers with 16 KiB at most. */
const MAX_DOCUMENT_BYTES = 64 * 1024;
const MAX_CABUNDLE = 8;
const MAX_OPTIONAL_BYTES = 4096;
const SHA384_BYTES = 48;

/**
 * What the Nitro hypervisor says about an enclave, or NitroTPM about an instance (AWS Nitro Enclaves
 * NSM API, attestation process 2.1).
 */
export interface NitroDocument {
  /** `enclave`: PCRs are the enclave's. `tpm`: they are the instance's NitroTPM's. */
  readonly kind: "enclave" | "tpm";
  /** `i-<instance>-enc<enclave>`, or the instance. */
  readonly moduleId: string;
  /** When the document was made, in milliseconds. */
  readonly timestampMs: number;
  /** By index, SHA-384. */
  readonly pcrs: PcrBank;
  /** Of the key that signed the document. */
  readonly certificate: X509Certificate;
  /** Root first, the issuer of `certificate` last. */
  readonly caBundle: readonly X509Certificate[];
  readonly publicKey: Uint8Array | undefined;
  readonly userData: Uint8Array | undefined;
  readonly nonce: Uint8Array | undefined;
  readonly envelope: CoseSign1;
}

/** Parses a document, signature and all; `verifyNitroDocument` verifies. Throws `input/malformed` or `input/unsupported`. */
export function parseNitroDocument(bytes: Uint8Array): NitroDocument {
  const structure = "Nitro attestation document";
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw new CborObject(new Map(), structure).malformed(`${bytes.length} bytes`);
  }
  const envelope = parseCoseSign1(bytes, structure);
  const document = CborObject.decode(envelope.payload, structure, MAX_DOCUMENT_BYTES, {
    indefinite: true,
  });
  document.exactly("digest", "SHA384");
  const moduleId = document.text("module_id");
  if (moduleId === "") throw document.malformed("module_id is empty");
  const isTpm = document.raw("nitrotpm_pcrs") !== undefined;
  if (isTpm && document.raw("pcrs") !== undefined) {
    throw document.malformed("it has the PCRs of an enclave and of a TPM");
  }
  const bundle = document.array("cabundle", MAX_CABUNDLE);
  if (bundle.length === 0) throw document.malformed("cabundle is empty");
  return {
    kind: isTpm ? "tpm" : "enclave",
    moduleId,
    timestampMs: document.unsigned("timestamp", Number.MAX_SAFE_INTEGER),
    pcrs: readPcrs(document, isTpm ? "nitrotpm_pcrs" : "pcrs"),
    certificate: parseX509Certificate(document.bytes("certificate")),
    caBundle: bundle.map((item) => {
      if (!(item instanceof Uint8Array)) throw document.malformed("cabundle holds no bytes");
      return parseX509Certificate(item);
    }),
    publicKey: optional(document, "public_key"),
    userData: optional(document, "user_data"),
    nonce: optional(document, "nonce"),
    envelope,
  };
}

function readPcrs(document: CborObject, name: string): PcrBank {
  const entries = [...document.map(name)].map(([index, value]) => {
    if (typeof index !== "number" || !(value instanceof Uint8Array)) {
      throw document.malformed(`${name} is not a map of numbers to bytes`);
    }
    return [index, value] as const;
  });
  return requirePcrBank(entries, SHA384_BYTES, (why) => document.malformed(`${name} ${why}`));
}

function optional(document: CborObject, name: string): Uint8Array | undefined {
  const bytes = document.optionalBytes(name);
  if (bytes && bytes.length > MAX_OPTIONAL_BYTES) throw document.malformed(`${name} is too long`);
  return bytes;
}
