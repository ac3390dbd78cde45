import { utf8 } from "../bytes/bytes.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { type CertificateRevocationList, parseCrl } from "../x509/certificate-revocation-list.ts";
import { ahead, ChainVerifier } from "../x509/chain.ts";
import { pointOf, verifyEcdsa } from "../x509/ecdsa.ts";
import { parsePemChain } from "../x509/pem-chain.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { pckChainOf } from "./pck-chain.ts";
import { type PckPlatform, pckPlatformOf } from "./pck-certificate.ts";
import { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
import { requireBinding } from "./quoting-enclave.ts";
import type { Quote } from "./quote.ts";
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
}

/** Collateral whose signatures, chains, revocation and dates were all verified. */
export interface VerifiedCollateral {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly chains: ChainVerifier;
  /** PEM of the PCK chain, when the PCCS supplied it. */
  readonly pckCertificateChain: string | undefined;
  /** The window in which all of it holds, unix seconds, both inclusive. */
  readonly validFrom: number;
  readonly validUntil: number;
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
  const verified = await verifyCollateral(collateral, trust);
  const signed = await verifyQuoteSignatures(quote, verified);
  const tcb = matchTcb(signed, verified);
  requireQuoteAttributes(quote);
  return { ...signed, tcb };
}

/** Step 1: everything Intel signed, but the platform's own certificate. */
export async function verifyCollateral(
  collateral: QuoteCollateral,
  trust: DcapTrust,
): Promise<VerifiedCollateral> {
  const crls = [collateral.rootCaCrl, collateral.pckCrl].map((der) =>
    refusing("crl-malformed", () => parseCrl(der))
  );
  const chains = new ChainVerifier({ ...trust, crls });
  const pckCrlChain = parseChain(collateral.pckCrlIssuerChain);
  const tcbChain = parseChain(collateral.tcbInfoIssuerChain);
  const qeChain = parseChain(collateral.qeIdentityIssuerChain);
  chains.prepare([pckCrlChain, tcbChain, qeChain]);
  const tcbSigned = signsText(tcbChain[0], collateral.tcbInfo, collateral.tcbInfoSignature);
  const qeSigned = signsText(qeChain[0], collateral.qeIdentity, collateral.qeIdentitySignature);
  await chains.verify(pckCrlChain, "ca");
  await chains.verifyCrl(crls[1]!, pckCrlChain[0]!);

  const tcbInfo = refusing("collateral-malformed", () => parseTcbInfo(collateral.tcbInfo));
  requireCurrent("TCB info", tcbInfo, trust);
  await requireSignedText(chains, "TCB info", tcbChain, tcbSigned);

  const qeIdentity = refusing("collateral-malformed", () => parseQeIdentity(collateral.qeIdentity));
  requireCurrent("QE identity", qeIdentity, trust);
  await requireSignedText(chains, "QE identity", qeChain, qeSigned);

  const certificates = [...pckCrlChain, ...tcbChain, ...qeChain, trust.root];
  return {
    tcbInfo,
    qeIdentity,
    chains,
    pckCertificateChain: collateral.pckCertificateChain,
    ...window(certificates, crls, [tcbInfo, qeIdentity]),
  };
}

/** Step 2: PCK chain, quoting enclave's report, its binding to the attestation key, the quote. */
export async function verifyQuoteSignatures(
  quote: Quote,
  collateral: VerifiedCollateral,
): Promise<VerifiedQuote> {
  const { signatureData } = quote;
  const pem = collateral.pckCertificateChain ??
    refusing("endorsement-missing", () => pckChainOf(quote));
  const chain = parseChain(pem);
  collateral.chains.prepare([chain]);
  const attestationKey = { curve: "P-256", point: pointOf(signatureData.attestationKey) } as const;
  const quoteIsSigned = ahead(
    verifyEcdsa(attestationKey, quote.signedBytes, signatureData.signature),
  );
  const [leaf] = chain;
  const pckKey = leaf?.publicKey?.curve === "P-256" ? leaf.publicKey : undefined;
  const qeIsSigned = pckKey &&
    ahead(verifyEcdsa(pckKey, signatureData.qeReport, signatureData.qeReportSignature));
  await collateral.chains.verify(chain, "end-entity");
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
  if (!await quoteIsSigned) {
    throw refusal("quote-signature-invalid", "The quote is not signed by its attestation key");
  }
  return { quote, qeReport, platform };
}

/** Step 4 (3 is `matchTcb`): debug and every other attribute a production TEE must not have. */
export function requireQuoteAttributes({ body }: Quote): void {
  requireNoDebug(body.report);
  if (body.kind === "sgx") requireSgxAttributes(body.report);
  else requireTdAttributes(body.report);
}

/** Intel signs texts with P-256 alone. */
function signsText(
  signer: X509Certificate | undefined,
  text: string,
  signature: Uint8Array,
): Promise<boolean> {
  const key = signer?.publicKey;
  if (key?.curve !== "P-256") return Promise.resolve(false);
  return ahead(verifyEcdsa(key, utf8(text), signature));
}

async function requireSignedText(
  chains: ChainVerifier,
  name: string,
  chain: readonly X509Certificate[],
  isSigned: Promise<boolean>,
): Promise<void> {
  await chains.verify(chain, "end-entity");
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

function parseChain(pem: string): X509Certificate[] {
  return refusing("certificate-malformed", () => parsePemChain(pem));
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
