import { equalBytes, utf8 } from "../bytes/bytes.ts";
import type { CryptoProvider } from "../crypto/crypto-provider.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { type CertificateRevocationList, parseCrl } from "../x509/certificate-revocation-list.ts";
import { ahead, type ChainTime, ChainVerifier, EXTENDED_KEY_USAGE } from "../x509/chain.ts";
import { ecdsaKeyOf, type EcdsaPublicKey, pointOf, verifyEcdsa } from "../x509/ecdsa.ts";
import { type KnownCertificates, parsePemChain } from "../x509/pem-chain.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { pckChainOf } from "./pck-chain.ts";
import { type PckPlatform, pckPlatformOf } from "./pck-certificate.ts";
import { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
import { requireBinding } from "./quoting-enclave.ts";
import type { Quote, QuoteSignatureData } from "./quote.ts";
import { parseSgxReportBody, type SgxReportBody } from "./sgx-report-body.ts";
import { requireNoDebug, requireSgxAttributes, requireTdAttributes } from "./td-attributes.ts";
import { parseTcbInfo, type TcbInfo } from "./tcb-info.ts";
import { matchTcb, type TcbMatch } from "./tcb-match.ts";

export interface DcapTrust {
  /** The pinned root. */
  readonly root: X509Certificate;
  /** Unix seconds. */
  readonly now: number;
  /** Seconds by which CRLs, TCB info and QE identity may be past their nextUpdate. */
  readonly graceSeconds: number;
  readonly crypto?: CryptoProvider;
}

/** Collateral whose signatures, chains, revocation and dates were all verified. */
export interface VerifiedCollateral {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly chains: ChainVerifier;
  /** The attestation key that each platform's quoting enclave vouched for last, by PCK certificate. */
  readonly attestationKeys: WeakMap<X509Certificate, CertifiedKey>;
  /** The window in which all of it holds, unix seconds, both inclusive. */
  readonly validFrom: number;
  readonly validUntil: number;
  /** When the oldest of TCB info, QE identity and PCK CRL was issued, unix seconds. */
  readonly issuedAt: number;
}

/** A platform signs all its quotes with one attestation key until its quoting enclave makes another. */
interface CertifiedKey {
  readonly key: EcdsaPublicKey;
  readonly certifiedBy: QuoteSignatureData;
}

/** A quote whose signatures lead to the root. Its TCB and attributes are judged separately. */
export interface VerifiedQuote {
  readonly quote: Quote;
  readonly qeReport: SgxReportBody;
  readonly platform: PckPlatform;
}

export interface DcapVerdict extends VerifiedQuote {
  readonly tcb: TcbMatch;
}

/**
 * The whole DCAP verification of a quote (spec attestation.md 1.4), in four steps that `appraise`
 * runs one by one. Any status but Revoked passes: the caller's policy judges it.
 * Throws `attestation/refused` with the reason.
 */
export async function verifyDcap(
  quote: Quote,
  collateral: QuoteCollateral,
  trust: DcapTrust,
): Promise<DcapVerdict> {
  const known = new Map<string, X509Certificate>();
  const verified = await verifyCollateral(collateral, trust, known);
  const pckChain = parsePckChain(quote, collateral, known);
  const signed = await verifyQuoteSignatures(quote, pckChain, verified, trust);
  const tcb = matchTcb(signed, verified);
  requireQuoteAttributes(quote);
  return { ...signed, tcb };
}

/** Step 1: everything Intel signed, but the platform's own certificate. */
export async function verifyCollateral(
  collateral: QuoteCollateral,
  trust: DcapTrust,
  known: KnownCertificates = new Map(),
): Promise<VerifiedCollateral> {
  const crls = [collateral.rootCaCrl, collateral.pckCrl].map((der) =>
    refusing("crl-malformed", () => parseCrl(der))
  );
  const chains = new ChainVerifier({ ...trust, crls, usage: EXTENDED_KEY_USAGE.serverAuth });
  const pckCrlChain = parseChain(collateral.pckCrlIssuerChain, known);
  const tcbChain = parseChain(collateral.tcbInfoIssuerChain, known);
  const qeChain = parseChain(collateral.qeIdentityIssuerChain, known);
  chains.prepare([pckCrlChain, tcbChain, qeChain]);
  const signsText = textVerifier(trust.crypto);
  const tcbSigned = signsText(tcbChain[0], collateral.tcbInfo, collateral.tcbInfoSignature);
  const qeSigned = signsText(qeChain[0], collateral.qeIdentity, collateral.qeIdentitySignature);
  await chains.verify(pckCrlChain, "ca", trust);
  await chains.verifyCrl(crls[1]!, pckCrlChain[0]!, trust);

  const tcbInfo = refusing("collateral-malformed", () => parseTcbInfo(collateral.tcbInfo));
  requireCurrent("TCB info", tcbInfo, trust);
  await chains.verify(tcbChain, "end-entity", trust);
  await requireSigned("TCB info", tcbSigned);

  const qeIdentity = refusing("collateral-malformed", () => parseQeIdentity(collateral.qeIdentity));
  requireCurrent("QE identity", qeIdentity, trust);
  await chains.verify(qeChain, "end-entity", trust);
  await requireSigned("QE identity", qeSigned);

  const certificates = [...pckCrlChain, ...tcbChain, ...qeChain, trust.root];
  return {
    tcbInfo,
    qeIdentity,
    chains,
    attestationKeys: new WeakMap(),
    // Not the root's CRL, which Intel issues once a year.
    issuedAt: Math.min(tcbInfo.issueDate, qeIdentity.issueDate, crls[1]!.thisUpdate),
    ...window(certificates, crls, [tcbInfo, qeIdentity]),
  };
}

/** The platform's certificates, leaf first: the PCCS's answer, else what the quote carries. */
export function parsePckChain(
  quote: Quote,
  collateral: QuoteCollateral,
  known?: KnownCertificates,
): X509Certificate[] {
  const pem = collateral.pckCertificateChain ??
    refusing("endorsement-missing", () => pckChainOf(quote));
  return parseChain(pem, known);
}

/** Step 2: PCK chain, quoting enclave's report, its binding to the attestation key, the quote. */
export async function verifyQuoteSignatures(
  quote: Quote,
  chain: readonly X509Certificate[],
  collateral: VerifiedCollateral,
  { crypto, ...time }: ChainTime & { readonly crypto?: CryptoProvider },
): Promise<VerifiedQuote> {
  const { signatureData } = quote;
  collateral.chains.prepare([chain]);
  const [leaf] = chain;
  const certified = leaf && collateral.attestationKeys.get(leaf);
  const isKnown = certified !== undefined && sameKey(certified.certifiedBy, signatureData);
  const key: EcdsaPublicKey = isKnown
    ? certified.key
    : { curve: "P-256", point: pointOf(signatureData.attestationKey) };
  const quoteIsSigned = ahead(
    verifyEcdsa(key, quote.signedBytes, signatureData.signature, crypto),
  );
  const pckKey = ecdsaKeyOf(leaf?.publicKey, "P-256");
  const qeIsSigned = isKnown || pckKey &&
      ahead(verifyEcdsa(pckKey, signatureData.qeReport, signatureData.qeReportSignature, crypto));
  await collateral.chains.verify(chain, "end-entity", time);
  const platform = refusing("certificate-malformed", () => pckPlatformOf(leaf!));
  if (!qeIsSigned) {
    throw refusal("certificate-usage-invalid", "The PCK certificate's key is not of P-256");
  }
  if (!await qeIsSigned) {
    throw refusal(
      "quoting-enclave-signature-invalid",
      "The quoting enclave's report is not signed by the PCK key",
    );
  }
  const qeReport = parseSgxReportBody(signatureData.qeReport);
  requireBinding(qeReport, signatureData);
  collateral.attestationKeys.set(leaf!, { key, certifiedBy: signatureData });
  if (!await quoteIsSigned) {
    throw refusal("quote-signature-invalid", "The quote is not signed by its attestation key");
  }
  return { quote, qeReport, platform };
}

/** Whether two quotes carry the same vouching for the same key; its binding is checked each time. */
function sameKey(one: QuoteSignatureData, other: QuoteSignatureData): boolean {
  return equalBytes(one.attestationKey, other.attestationKey) &&
    equalBytes(one.qeReport, other.qeReport) &&
    equalBytes(one.qeReportSignature, other.qeReportSignature);
}

/** Step 4 (3 is `matchTcb`): debug and every other attribute a production TEE must not have. */
export function requireQuoteAttributes({ body }: Quote): void {
  requireNoDebug(body.report);
  if (body.kind === "sgx") requireSgxAttributes(body.report);
  else requireTdAttributes(body.report);
}

/** Intel signs texts with P-256 alone. */
function textVerifier(crypto: CryptoProvider | undefined) {
  return (
    signer: X509Certificate | undefined,
    text: string,
    signature: Uint8Array,
  ): Promise<boolean> => {
    const key = ecdsaKeyOf(signer?.publicKey, "P-256");
    if (!key) return Promise.resolve(false);
    return ahead(verifyEcdsa(key, utf8(text), signature, crypto));
  };
}

async function requireSigned(name: string, isSigned: Promise<boolean>): Promise<void> {
  if (!await isSigned) {
    throw refusal("collateral-signature-invalid", `The signature of the ${name} is wrong`);
  }
}

function requireCurrent(
  name: string,
  signed: { readonly issueDate: number; readonly nextUpdate: number },
  { now, graceSeconds }: DcapTrust,
): void {
  if (now < signed.issueDate) {
    throw refusal("collateral-not-yet-valid", `The ${name} is not yet valid`);
  }
  if (now > signed.nextUpdate + graceSeconds) {
    throw refusal("collateral-expired", `The ${name} has expired`);
  }
}

function parseChain(pem: string, known?: KnownCertificates): X509Certificate[] {
  return refusing("certificate-malformed", () => parsePemChain(pem, known));
}

function window(
  certificates: readonly X509Certificate[],
  crls: readonly CertificateRevocationList[],
  texts: readonly { readonly issueDate: number; readonly nextUpdate: number }[],
): { validFrom: number; validUntil: number } {
  const from = [
    ...certificates.map((one) => one.notBefore),
    ...crls.map((one) => one.thisUpdate),
    ...texts.map((one) => one.issueDate),
  ];
  const until = [
    ...certificates.map((one) => one.notAfter),
    ...crls.map((one) => one.nextUpdate),
    ...texts.map((one) => one.nextUpdate),
  ];
  return { validFrom: Math.max(...from), validUntil: Math.min(...until) };
}
