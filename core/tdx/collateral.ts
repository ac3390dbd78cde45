import { fromHex, toHex } from "../bytes/bytes.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";

/** The largest collateral document, in characters of JSON. Real ones are near 20 KiB. */
export const MAX_COLLATERAL_TEXT = 32 * 1024 * 1024;

/**
 * What Intel signs about a platform, as a PCCS hands it out. Texts are exactly as received: the
 * signatures cover their bytes.
 */
export interface QuoteCollateral {
  /** PEM, the PCK CA first. */
  readonly pckCrlIssuerChain: string;
  /** DER. */
  readonly rootCaCrl: Uint8Array;
  /** DER. */
  readonly pckCrl: Uint8Array;
  /** PEM, leaf first. */
  readonly tcbInfoIssuerChain: string;
  readonly tcbInfo: string;
  /** Raw r || s. */
  readonly tcbInfoSignature: Uint8Array;
  readonly qeIdentityIssuerChain: string;
  readonly qeIdentity: string;
  readonly qeIdentitySignature: Uint8Array;
  /** PEM, leaf first; for quotes that carry an encrypted PPID instead of their certificate. */
  readonly pckCertificateChain?: string;
}

const MEMBERS = [
  "pck_crl_issuer_chain",
  "root_ca_crl",
  "pck_crl",
  "tcb_info_issuer_chain",
  "tcb_info",
  "tcb_info_signature",
  "qe_identity_issuer_chain",
  "qe_identity",
  "qe_identity_signature",
  "pck_certificate_chain",
] as const;

/** Parses the JSON form (dcap-qvl's QuoteCollateralV3: byte members are hex). Throws `input/malformed`. */
export function parseCollateralJson(text: string | Uint8Array): QuoteCollateral {
  const limits = { maxSize: MAX_COLLATERAL_TEXT };
  return collateralFromJson(parseStrictJson(text, "collateral", limits));
}

/** The same from a JSON value inside another document. */
export function collateralFromJson(value: unknown): QuoteCollateral {
  const json = new JsonObject(value, "collateral").only(MEMBERS).withoutNulls();
  return {
    pckCrlIssuerChain: json.string("pck_crl_issuer_chain"),
    rootCaCrl: readBytes(json, "root_ca_crl"),
    pckCrl: readBytes(json, "pck_crl"),
    tcbInfoIssuerChain: json.string("tcb_info_issuer_chain"),
    tcbInfo: json.string("tcb_info"),
    tcbInfoSignature: readBytes(json, "tcb_info_signature"),
    qeIdentityIssuerChain: json.string("qe_identity_issuer_chain"),
    qeIdentity: json.string("qe_identity"),
    qeIdentitySignature: readBytes(json, "qe_identity_signature"),
    ...(json.has("pck_certificate_chain")
      ? { pckCertificateChain: json.string("pck_certificate_chain") }
      : {}),
  };
}

export function collateralToJson(collateral: QuoteCollateral): Record<string, string> {
  return {
    pck_crl_issuer_chain: collateral.pckCrlIssuerChain,
    root_ca_crl: toHex(collateral.rootCaCrl),
    pck_crl: toHex(collateral.pckCrl),
    tcb_info_issuer_chain: collateral.tcbInfoIssuerChain,
    tcb_info: collateral.tcbInfo,
    tcb_info_signature: toHex(collateral.tcbInfoSignature),
    qe_identity_issuer_chain: collateral.qeIdentityIssuerChain,
    qe_identity: collateral.qeIdentity,
    qe_identity_signature: toHex(collateral.qeIdentitySignature),
    ...(collateral.pckCertificateChain === undefined
      ? {}
      : { pck_certificate_chain: collateral.pckCertificateChain }),
  };
}

function readBytes(json: JsonObject, name: string): Uint8Array {
  const value = json.string(name);
  if (value === "") throw json.malformed(name, "is empty");
  return fromHex(value, name);
}
