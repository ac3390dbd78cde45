import { toHex } from "../bytes/bytes.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import {
  type DcapTrust,
  parsePckChain,
  type VerifiedCollateral,
  type VerifiedQuote,
  verifyCollateral,
  verifyQuoteSignatures,
} from "../tdx/dcap-verify.ts";
import { parseQuote, type Quote } from "../tdx/quote.ts";
import { requireNoDebug, requireSgxAttributes, requireTdAttributes } from "../tdx/td-attributes.ts";
import { matchTcb, type TcbMatch } from "../tdx/tcb-match.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { type Appraisal, rfc3339 } from "./appraisal.ts";
import { registersByName } from "./measurements.ts";
import type { TrustAnchor } from "./trust-anchor.ts";
import type { IntelTcb } from "./verdict.ts";

/** A quote that is well formed, with the raw id of its platform when it is genuine. */
export interface AppraisedQuote {
  readonly quote: Quote;
  readonly platformId: Uint8Array | undefined;
}

/** The hardware's part of a TDX or SGX quote: signatures, TCB and attributes. */
export async function appraiseQuote(
  appraisal: Appraisal,
  bytes: Uint8Array,
  requireKind: (quote: Quote) => void,
): Promise<AppraisedQuote | undefined> {
  const { checks } = appraisal;
  const quote = checks.attempt(() => {
    const parsed = refusing("evidence-malformed", () => parseQuote(bytes), "evidence-unsupported");
    refusing("evidence-unsupported", () => requireKind(parsed));
    return parsed;
  });
  if (!quote) return undefined;
  checks.pass("evidence-format", `A version ${quote.header.version} quote`);
  checks.lacks("evidence-freshness", "A quote does not say when it was made");
  appraisal.measurements = registersByName(quote.body);
  const signed = await checkSignatures(appraisal, quote);
  checkAttributes(appraisal, quote);
  return { quote, platformId: signed?.platform.ppid };
}

async function checkSignatures(
  appraisal: Appraisal,
  quote: Quote,
): Promise<VerifiedQuote | undefined> {
  const { checks } = appraisal;
  const endorsed = await checks.attemptAsync(() => verifyEndorsements(appraisal, quote));
  if (!endorsed) return undefined;
  const { pckChain, collateral, trust, anchor } = endorsed;
  checks.pass("collateral-validity", "Collateral is signed and current");
  const signed = await checks.attemptAsync(() =>
    verifyQuoteSignatures(quote, pckChain, collateral, trust)
  );
  if (!signed) return undefined;
  checks.pass("signature-chain", `The quote is signed under ${anchor.name}`);
  checks.pass("revocation", "No certificate is on its issuer's revocation list");
  checkTcb(appraisal, signed, collateral);
  return signed;
}

interface Endorsed {
  readonly pckChain: readonly X509Certificate[];
  readonly collateral: VerifiedCollateral;
  readonly trust: DcapTrust;
  readonly anchor: TrustAnchor;
}

async function verifyEndorsements(appraisal: Appraisal, quote: Quote): Promise<Endorsed> {
  const { collateral, endorsements } = appraisal.input;
  if (!collateral) throw refusal("collateral-missing", "There is no collateral for the quote");
  const known = endorsements?.certificates ?? new Map<string, X509Certificate>();
  const pckChain = parsePckChain(quote, collateral, known);
  const anchor = appraisal.anchor(pckChain, "intel");
  const trust: DcapTrust = {
    root: anchor.certificate,
    now: appraisal.now,
    graceSeconds: appraisal.policy.collateralGraceSeconds,
    crypto: appraisal.crypto,
  };
  const verified = endorsements
    ? await endorsements.verifyCollateral(collateral, trust)
    : await verifyCollateral(collateral, trust, known);
  const { maxCollateralAgeSeconds = Infinity } = appraisal.policy;
  if (appraisal.now - verified.issuedAt > maxCollateralAgeSeconds) {
    const age = `Collateral was issued at ${rfc3339(verified.issuedAt)}`;
    throw refusal(
      "collateral-too-old",
      `${age}, at most ${maxCollateralAgeSeconds} s ago is allowed`,
    );
  }
  return { pckChain, collateral: verified, trust, anchor };
}

function checkTcb(
  appraisal: Appraisal,
  signed: VerifiedQuote,
  collateral: VerifiedCollateral,
): void {
  const { checks } = appraisal;
  const match = checks.attempt(() => matchTcb(signed, collateral));
  if (!match) return;
  const tcb = tcbOf(match, signed, collateral);
  appraisal.tcb = tcb;
  checks.pass("platform-match", `Collateral is for FMSPC ${tcb.fmspc}`);
  const status = checks.attempt(() => {
    const { minEvaluationDataNumber } = appraisal.policy;
    const allowed = appraisal.requireTcbStatus(match.status);
    if (tcb.evaluationDataNumber < minEvaluationDataNumber) {
      throw refusal(
        "tcb-evaluation-too-old",
        `Collateral is of TCB evaluation ${tcb.evaluationDataNumber}, ${minEvaluationDataNumber} is required`,
      );
    }
    return allowed;
  });
  if (status) checks.pass("tcb-status", status);
  const advisories = checks.attempt(() => requireAdvisories(appraisal, match));
  if (advisories) checks.pass("tcb-advisories", advisories);
}

function requireAdvisories({ policy }: Appraisal, { advisoryIds }: TcbMatch): string {
  const { allowedAdvisories } = policy;
  const open = allowedAdvisories === "any"
    ? []
    : advisoryIds.filter((id) => !allowedAdvisories.includes(id));
  if (open.length > 0) {
    throw refusal("advisory-not-allowed", `Open advisories: ${open.slice(0, 8).join(", ")}`);
  }
  return advisoryIds.length === 0 ? "No open advisories" : "All open advisories are allowed";
}

function checkAttributes({ checks }: Appraisal, { body }: Quote): void {
  if (checks.attempt(() => (requireNoDebug(body.report), true))) {
    checks.pass("debug-disabled", "The TEE is not in debug mode");
  }
  const strong = checks.attempt(() => {
    if (body.kind === "sgx") requireSgxAttributes(body.report);
    else requireTdAttributes(body.report);
    return true;
  });
  if (strong) checks.pass("tee-attributes", "No attribute weakens the TEE");
}

function tcbOf(
  match: TcbMatch,
  { platform }: VerifiedQuote,
  { tcbInfo, qeIdentity, validFrom, validUntil }: VerifiedCollateral,
): IntelTcb {
  return {
    status: match.status,
    advisoryIds: match.advisoryIds,
    platformStatus: match.platform.status,
    quotingEnclaveStatus: match.quotingEnclave.status,
    levelDate: match.date,
    evaluationDataNumber: Math.min(
      tcbInfo.evaluationDataNumber,
      qeIdentity.evaluationDataNumber,
    ),
    fmspc: toHex(platform.fmspc),
    collateral: { validFrom: rfc3339(validFrom), validUntil: rfc3339(validUntil) },
  };
}
