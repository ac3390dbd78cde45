import { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { P256_SPKI_LENGTH, signP256, verifyP256 } from "../crypto/p256.ts";
import {
  readScaleBool,
  readScaleBytes,
  readScaleOption,
  readScaleString,
  readScaleVec,
  writeScaleBool,
  writeScaleBytes,
  writeScaleOption,
  writeScaleString,
  writeScaleVec,
} from "../encoding/scale.ts";
import { AppError } from "../errors/app-error.ts";
import { type CertificateEvidence, MAX_ATTESTATION_BYTES } from "./claims.ts";

const CONFIRM = "please sign cert:";
const MAX_NAME_BYTES = 1024;
const MAX_ALT_NAMES = 256;

/** What the certificate shall hold (attestation.md 4.3). */
export interface CsrConfig {
  readonly organization?: string | undefined;
  readonly subject: string;
  readonly altNames: readonly string[];
  readonly serverAuth: boolean;
  readonly clientAuth: boolean;
  /** Put the (stripped) attestation into the certificate. */
  readonly includeAttestation: boolean;
  /** V2 only; false in V1. */
  readonly includeAppInfo: boolean;
  /** V2 only; unix seconds. */
  readonly notBefore?: bigint | undefined;
  readonly notAfter?: bigint | undefined;
}

/** A request whose signature holds. Its evidence is not appraised yet. */
export interface CertificateSigningRequest {
  /** DER SubjectPublicKeyInfo of the key to certify; the evidence must be bound to it. */
  readonly publicKey: Uint8Array;
  readonly config: CsrConfig;
  readonly evidence: CertificateEvidence;
}

/** Encodes a V2 request. `attestation` is the versioned attestation, which takes the rest. */
export function encodeCsr(
  publicKey: Uint8Array,
  config: CsrConfig,
  attestation: Uint8Array,
): Uint8Array {
  const w = new ByteWriter();
  writeScaleString(w, CONFIRM);
  writeScaleBytes(w, publicKey);
  writeScaleOption(w, config.organization, writeScaleString);
  writeScaleString(w, config.subject);
  writeScaleVec(w, config.altNames, writeScaleString);
  writeScaleBool(w, config.serverAuth);
  writeScaleBool(w, config.clientAuth);
  writeScaleBool(w, config.includeAttestation);
  writeScaleBool(w, config.includeAppInfo);
  writeScaleOption(w, config.notBefore, (out, seconds) => out.u64le(seconds));
  writeScaleOption(w, config.notAfter, (out, seconds) => out.u64le(seconds));
  return w.bytes(attestation).finish();
}

/** Signs an encoded request with the scalar of the key to certify. */
export function signCsr(csr: Uint8Array, key: Uint8Array): Uint8Array {
  return signP256(key, csr);
}

/**
 * Parses a request of version 1 or 2 and checks its confirmation word and signature. SCALE is read
 * canonically, so the bytes received are the bytes the reference would re-encode and verify. Throws
 * `input/malformed`, `input/unsupported`, `crypto/invalid-signature`.
 */
export function verifyCsr(
  csr: Uint8Array,
  signature: Uint8Array,
  version: number,
): CertificateSigningRequest {
  const request = parseCsr(csr, version);
  verifyP256(request.publicKey, csr, signature);
  return request;
}

function parseCsr(csr: Uint8Array, version: number): CertificateSigningRequest {
  if (version !== 1 && version !== 2) {
    throw new AppError("input/unsupported", `Unsupported API version: ${version}`);
  }
  const r = new ByteReader(csr, "certificate signing request");
  if (readScaleString(r, "confirm", 64) !== CONFIRM) {
    throw new AppError("input/malformed", "Invalid confirm word");
  }
  const publicKey = readScaleBytes(r, "pubkey", 1024);
  if (publicKey.length !== P256_SPKI_LENGTH) {
    throw new AppError("input/unsupported", "Unsupported algorithm");
  }
  const head = {
    organization: readScaleOption(r, "org_name", (s) => readName(s, "org_name")),
    subject: readName(r, "subject"),
    altNames: readScaleVec(r, "subject_alt_names", MAX_ALT_NAMES, (s) => readName(s, "alt name")),
    serverAuth: readScaleBool(r, "usage_server_auth"),
    clientAuth: readScaleBool(r, "usage_client_auth"),
    includeAttestation: readScaleBool(r, "ext_quote"),
  };
  if (version === 1) {
    const quote = readScaleBytes(r, "quote", MAX_ATTESTATION_BYTES);
    const eventLog = readScaleBytes(r, "event_log", MAX_ATTESTATION_BYTES);
    r.end();
    const config = { ...head, includeAppInfo: false };
    return { publicKey, config, evidence: { form: "legacy", quote, eventLog } };
  }
  const config = {
    ...head,
    includeAppInfo: readScaleBool(r, "ext_app_info"),
    notBefore: readScaleOption(r, "not_before", (s) => s.u64le("not_before")),
    notAfter: readScaleOption(r, "not_after", (s) => s.u64le("not_after")),
  };
  const attestation = r.bounded("attestation", r.remaining, MAX_ATTESTATION_BYTES);
  return { publicKey, config, evidence: { form: "versioned", attestation } };
}

function readName(r: ByteReader, field: string): string {
  return readScaleString(r, field, MAX_NAME_BYTES);
}
