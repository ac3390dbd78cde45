import { fromBase64, toBase64 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { parseX509Certificate, type X509Certificate } from "./x509-certificate.ts";

/** The longest chain text, in characters. */
const MAX_TEXT = 256 * 1024;
const BLOCK = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n ]*)-----END CERTIFICATE-----[\r\n ]*/y;

/** Parsed certificates by their base64 text: chains share issuers, and are seen again and again. */
export interface KnownCertificates {
  get(text: string): X509Certificate | undefined;
  set(text: string, certificate: X509Certificate): unknown;
}

/**
 * Parses a PEM chain as vendors send it, leaf first: certificates one after the other and nothing
 * else. RFC 7468 lets parsers skip what they do not understand; in evidence that would leave bytes that
 * nobody verified, so it is refused. Throws `input/malformed`.
 */
export function parsePemChain(
  pem: string,
  known: KnownCertificates = new Map(),
): X509Certificate[] {
  if (pem.length > MAX_TEXT) throw malformed(`${pem.length} characters`);
  const chain: X509Certificate[] = [];
  BLOCK.lastIndex = 0;
  while (BLOCK.lastIndex < pem.length) {
    const at = BLOCK.lastIndex;
    const block = BLOCK.exec(pem);
    if (!block) throw malformed(`no certificate at character ${at}`);
    const text = block[1]!.replace(/[\r\n ]/g, "");
    const certificate = known.get(text) ?? parseBase64(text);
    known.set(text, certificate);
    chain.push(certificate);
  }
  return chain;
}

function parseBase64(text: string): X509Certificate {
  const der = fromBase64(text, "PEM certificate");
  const lastGroup = der.subarray(der.length - (der.length % 3 || 3));
  if (toBase64(lastGroup) !== text.slice(-4)) throw malformed("base64 with stray bits");
  return parseX509Certificate(der);
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse certificate chain: ${why}`);
}
