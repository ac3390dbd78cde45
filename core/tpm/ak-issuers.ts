import { fromUtf8 } from "../bytes/bytes.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { findDocument } from "../http/get-document.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";

const AUTHORITY_INFORMATION_ACCESS = "1.3.6.1.5.5.7.1.1";
const CA_ISSUERS = "1.3.6.1.5.5.7.48.2";
const MAX_ISSUERS = 4;
const MAX_BODY_BYTES = 64 * 1024;
const DEFAULT_TIMEOUT_MS = 30_000;

/**
 * Where Google's certificate authority publishes its certificates. A certificate of unknown origin
 * names the URL, so any other host would let its sender choose what the verifier asks whom.
 */
const GOOGLE_CA_HOST = /^privateca-content-[0-9a-f-]{36}\.storage\.googleapis\.com$/;

export interface AkIssuersOptions {
  readonly fetch: FetchLike;
  /** For each request. */
  readonly timeoutMs?: number;
  /** Hosts beside Google's that may be asked. */
  readonly hosts?: readonly string[];
}

/**
 * Fetches the issuers of an attestation key's certificate, DER, each from where the one before names it
 * (RFC 5280 4.2.2.1), up to a self-signed one. Nothing is trusted here. Throws `upstream/unavailable`,
 * `upstream/invalid`, or `input/…` for a certificate that cannot be used.
 */
export async function fetchAkIssuers(
  akCertificate: Uint8Array,
  options: AkIssuersOptions,
): Promise<Uint8Array[]> {
  const issuers: Uint8Array[] = [];
  let url = issuerUrlOf(parseX509Certificate(akCertificate));
  while (url !== undefined && issuers.length < MAX_ISSUERS) {
    requireAllowed(url, options.hosts ?? []);
    const body = await findDocument(url, {
      fetch: options.fetch,
      name: "The vTPM's certificate authority",
      timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      maxBytes: MAX_BODY_BYTES,
    });
    const issuer = parseAnswer(body);
    issuers.push(issuer.encoded);
    url = issuerUrlOf(issuer);
  }
  return issuers;
}

/** The http(s) URL of the issuer's certificate; undefined for one that names none. */
export function issuerUrlOf(certificate: X509Certificate): string | undefined {
  const extension = certificate.extensions.get(AUTHORITY_INFORMATION_ACCESS);
  if (!extension) return undefined;
  const outer = new DerReader(extension.value, "authority information access");
  const list = outer.enter("descriptions");
  outer.end();
  while (!list.done) {
    const description = list.enter("description");
    const method = description.oid("accessMethod");
    const { tag, content } = description.any("accessLocation");
    if (method !== CA_ISSUERS || tag !== DER.contextPrimitive(6)) continue;
    const uri = fromUtf8(content, "issuer URL");
    if (/^https?:\/\//.test(uri)) return uri;
  }
  return undefined;
}

function requireAllowed(url: string, hosts: readonly string[]): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const isGoogles = parsed && GOOGLE_CA_HOST.test(parsed.host);
  if (parsed && parsed.username === "" && (isGoogles || hosts.includes(parsed.host))) return;
  throw new AppError(
    "input/unsupported",
    "The attestation key's certificate names an issuer at a host that is not asked",
  );
}

function parseAnswer(body: Uint8Array | undefined): X509Certificate {
  if (body === undefined) {
    throw new AppError("upstream/unavailable", "The vTPM's certificate authority has no issuer");
  }
  try {
    return parseX509Certificate(body);
  } catch (cause) {
    throw new AppError(
      "upstream/invalid",
      "The vTPM's certificate authority sent a malformed certificate",
      { cause },
    );
  }
}
