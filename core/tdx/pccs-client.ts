import { ByteReader } from "../bytes/byte-reader.ts";
import { fromHex, fromUtf8, toHex } from "../bytes/bytes.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { DER, DerReader } from "../encoding/der.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { readResponse } from "../http/response-body.ts";
import { parsePemChain } from "../x509/pem-chain.ts";
import { EXTENSION, type X509Certificate } from "../x509/x509-certificate.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { pckCaOf, pckPlatformOf } from "./pck-certificate.ts";
import { CERTIFICATION, parseQuote, type Quote } from "./quote.ts";
import { pckChainOf } from "./pck-chain.ts";
import { rawMember } from "./raw-member.ts";

export const INTEL_PCS_URL = "https://api.trustedservices.intel.com";
export const DEFAULT_PCCS_URL = "https://pccs.phala.network";

const MAX_BODY_BYTES = 16 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 180_000;

export interface PccsOptions {
  /** With or without `/sgx/certification/v4` or `/tdx/certification/v4` at its end. */
  readonly baseUrl: string;
  readonly fetch: FetchLike;
  /** For each request. */
  readonly timeoutMs?: number;
}

/**
 * Fetches from a PCCS (or from Intel) what verifies a quote, parsed or as bytes. Nothing is trusted
 * here: `verifyDcap` does that. Throws `upstream/unavailable`, `upstream/invalid`, or `input/…` for an
 * unusable quote.
 */
export async function fetchCollateral(
  quoteOrBytes: Quote | Uint8Array,
  options: PccsOptions,
): Promise<QuoteCollateral> {
  const quote = quoteOrBytes instanceof Uint8Array ? parseQuote(quoteOrBytes) : quoteOrBytes;
  const pccs = new Pccs(options);
  const pckCertificateChain = await fetchedPckChain(pccs, quote);
  const chain = pckCertificateChain ?? pckChainOf(quote);
  const [leaf] = parsePemChain(chain);
  if (!leaf) throw new AppError("input/malformed", "Cannot use quote: it has no PCK certificate");
  const fmspc = toHex(pckPlatformOf(leaf).fmspc).toUpperCase();
  const { tee } = quote.header;

  const [crl, tcb, qe] = await Promise.all([
    pccs.get(`/sgx/certification/v4/pckcrl?ca=${pckCaOf(leaf)}&encoding=der`),
    pccs.get(`/${tee}/certification/v4/tcb?fmspc=${fmspc}`),
    pccs.get(`/${tee}/certification/v4/qe/identity?update=standard`),
  ]);
  const tcbInfo = answered(() => signedMember(tcb, "tcbInfo"));
  const qeIdentity = answered(() => signedMember(qe, "enclaveIdentity"));
  const qeIdentityIssuerChain = qe.chain("sgx-enclave-identity-issuer-chain");
  return {
    pckCrlIssuerChain: crl.chain("sgx-pck-crl-issuer-chain"),
    rootCaCrl: await fetchRootCrl(pccs, qeIdentityIssuerChain),
    pckCrl: crl.body,
    tcbInfoIssuerChain: tcb.chain("sgx-tcb-info-issuer-chain", "tcb-info-issuer-chain"),
    tcbInfo: tcbInfo.text,
    tcbInfoSignature: tcbInfo.signature,
    qeIdentityIssuerChain,
    qeIdentity: qeIdentity.text,
    qeIdentitySignature: qeIdentity.signature,
    ...(pckCertificateChain === undefined ? {} : { pckCertificateChain }),
  };
}

/** Quotes whose machine has no cached certificate carry an encrypted PPID: the PCCS knows the rest. */
async function fetchedPckChain(pccs: Pccs, quote: Quote): Promise<string | undefined> {
  const { type, bytes } = quote.signatureData.certification;
  const ppidBytes = type === CERTIFICATION.encryptedPpidRsa2048
    ? 256
    : type === CERTIFICATION.encryptedPpidRsa3072
    ? 384
    : undefined;
  if (ppidBytes === undefined) return undefined;
  const r = new ByteReader(bytes, "PCK identification");
  const encryptedPpid = r.bytes("encrypted PPID", ppidBytes);
  const cpuSvn = r.bytes("CPUSVN", 16);
  const pceSvn = new ByteWriter().u16le(r.u16le("PCESVN")).finish();
  const pceId = r.bytes("PCEID", 2);
  r.end();
  const upper = (value: Uint8Array) => toHex(value).toUpperCase();
  const tcbm = upper(cpuSvn) + upper(pceSvn);
  const answer = await pccs.get(
    `/sgx/certification/v4/pckcert?qeid=${upper(quote.header.userData.subarray(0, 16))}` +
      `&encrypted_ppid=${upper(encryptedPpid)}&cpusvn=${upper(cpuSvn)}` +
      `&pcesvn=${upper(pceSvn)}&pceid=${upper(pceId)}`,
  );
  if (answer.header("sgx-tcbm").toUpperCase() !== tcbm) {
    throw new AppError("upstream/invalid", "The PCCS sent a PCK certificate of another TCB level");
  }
  const leaf = answered(() => fromUtf8(answer.body, "PCK certificate"));
  return `${leaf.trimEnd()}\n${answer.chain("sgx-pck-certificate-issuer-chain")}`;
}

/** A PCCS serves the root CRL as hex; Intel serves it where its root certificate says. */
async function fetchRootCrl(pccs: Pccs, chain: string): Promise<Uint8Array> {
  if (!pccs.isIntel) {
    const answer = await pccs.find("/sgx/certification/v4/rootcacrl");
    if (answer) {
      return answered(() => fromHex(fromUtf8(answer.body, "root CA CRL").trim(), "root CA CRL"));
    }
  }
  const url = answered(() => {
    const root = parsePemChain(chain).at(-1);
    return root && distributionPointOf(root);
  });
  if (url === undefined) {
    throw new AppError("upstream/invalid", "The PCCS has no root CRL and names none");
  }
  return (await pccs.getUrl(url)).body;
}

/** The first http(s) URI of the CRL distribution points extension (RFC 5280 4.2.1.13). */
function distributionPointOf(certificate: X509Certificate): string | undefined {
  const extension = certificate.extensions.get(EXTENSION.crlDistributionPoints);
  if (!extension) return undefined;
  const points = new DerReader(extension.value, "CRL distribution points").enter("points");
  while (!points.done) {
    const name = points.enter("point");
    if (name.peek() !== DER.context(0)) continue;
    const choice = name.enter("distributionPoint", DER.context(0));
    if (choice.peek() !== DER.context(0)) continue;
    const fullName = choice.enter("fullName", DER.context(0));
    while (!fullName.done) {
      const { tag, content } = fullName.any("name");
      const uri = tag === DER.contextPrimitive(6) ? fromUtf8(content, "CRL URI") : "";
      if (/^https?:\/\//.test(uri)) return uri;
    }
  }
  return undefined;
}

/** Parses what the PCCS sent: malformed input is the PCCS's fault, not our caller's. */
function answered<T>(parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (cause instanceof AppError && cause.code.startsWith("input/")) {
      throw new AppError("upstream/invalid", "The PCCS answered with malformed data", { cause });
    }
    throw cause;
  }
}

function signedMember(answer: PccsAnswer, name: string): { text: string; signature: Uint8Array } {
  const body = fromUtf8(answer.body, name);
  const json = new JsonObject(parseStrictJson(body, name, { maxSize: MAX_BODY_BYTES }), name);
  const text = rawMember(body, name);
  if (text === undefined) throw json.malformed(name, "is missing");
  return { text, signature: json.hex("signature", 64) };
}

class Pccs {
  readonly #base: string;
  readonly #fetch: FetchLike;
  readonly #timeoutMs: number;

  constructor({ baseUrl, fetch, timeoutMs = DEFAULT_TIMEOUT_MS }: PccsOptions) {
    this.#base = baseUrl.replace(/\/+$/, "").replace(/\/(sgx|tdx)\/certification\/v4$/, "");
    this.#fetch = fetch;
    this.#timeoutMs = timeoutMs;
  }

  get isIntel(): boolean {
    return this.#base === INTEL_PCS_URL;
  }

  get(path: string): Promise<PccsAnswer> {
    return this.getUrl(this.#base + path);
  }

  /** Undefined when the server answers but not with success. */
  async find(path: string): Promise<PccsAnswer | undefined> {
    const answer = await this.#request(this.#base + path);
    return answer.ok ? answer : undefined;
  }

  async getUrl(url: string): Promise<PccsAnswer> {
    const answer = await this.#request(url);
    if (answer.ok) return answer;
    throw new AppError("upstream/unavailable", `The PCCS answered ${answer.status} for ${url}`);
  }

  async #request(url: string): Promise<PccsAnswer> {
    const signal = AbortSignal.timeout(this.#timeoutMs);
    let response: Response;
    try {
      response = await this.#fetch(url, { method: "GET", headers: {}, signal });
    } catch (cause) {
      throw new AppError("upstream/unavailable", `The PCCS cannot be reached at ${url}`, { cause });
    }
    const body = await readResponse(response, MAX_BODY_BYTES, "The PCCS");
    return new PccsAnswer(response, body);
  }
}

class PccsAnswer {
  readonly status: number;
  readonly body: Uint8Array;
  readonly #headers: Headers;

  constructor(response: Response, body: Uint8Array) {
    this.status = response.status;
    this.body = body;
    this.#headers = response.headers;
  }

  get ok(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  /** The first of these headers that is there. */
  header(...names: readonly string[]): string {
    for (const name of names) {
      const value = this.#headers.get(name);
      if (value !== null) return value;
    }
    throw new AppError("upstream/invalid", `The PCCS sent no ${names[0]} header`);
  }

  /** A header that carries a PEM chain, URL-encoded. */
  chain(...names: readonly string[]): string {
    const value = this.header(...names);
    try {
      return decodeURIComponent(value);
    } catch (cause) {
      throw new AppError("upstream/invalid", `The PCCS sent a malformed ${names[0]} header`, {
        cause,
      });
    }
  }
}
