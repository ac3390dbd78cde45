import { equalBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { AppError } from "../errors/app-error.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import type { QuoteCollateral } from "../tdx/collateral.ts";
import type { EndorsementCache } from "../tdx/endorsement-cache.ts";
import type { TcbStatus } from "../tdx/tcb-status.ts";
import { type CertificateRevocationList, parseCrl } from "../x509/certificate-revocation-list.ts";
import { parseX509Certificate, type X509Certificate } from "../x509/x509-certificate.ts";
import type { Attestation, GuestStack } from "./attestation.ts";
import { CheckList } from "./check-list.ts";
import type { KeyProviderInfo } from "./launch-events.ts";
import { DEFAULT_POLICY, type Policy } from "./policy.ts";
import type { Reference } from "./reference.ts";
import { reportData } from "./report-data.ts";
import { anchorOf, type Endorsement, type TrustAnchor } from "./trust-anchor.ts";
import {
  type Verdict,
  VERDICT_SCHEMA,
  type VerdictIdentity,
  type VerdictTcb,
  type VerdictTee,
} from "./verdict.ts";

/** A quote by itself, TDX or SGX: it proves hardware and registers, and says nothing about an app. */
export interface BareQuote {
  readonly quote: Uint8Array;
}

/** What AMD, AWS or Google say that evidence does not carry, DER. Nothing of it is trusted unverified. */
export interface VendorDocuments {
  /** SEV-SNP: ASK and VCEK. TPM: the issuers of the attestation key's certificate. */
  readonly certificates?: readonly Uint8Array[];
  /** Revocation lists. */
  readonly crls?: readonly Uint8Array[];
}

export interface AppraisalInput {
  readonly attestation: Attestation | BareQuote;
  /** What Intel says about the platform; without it no quote can be accepted. */
  readonly collateral: QuoteCollateral | undefined;
  /** The same of other vendors, where the evidence does not bring it. */
  readonly vendorDocuments?: VendorDocuments;
  readonly trustAnchors: readonly TrustAnchor[];
  readonly reference?: Reference;
  readonly policy?: Policy;
  /** The time the verdict is for. */
  readonly now: Date;
  /** 64 bytes the evidence must bind: the caller's challenge. */
  readonly expectedReportData?: Uint8Array;
  /** Where the runtime has faster primitives than WebCrypto. They do not change the verdict. */
  readonly crypto?: CryptoProvider;
  /** What was verified for other evidence; a caller that judges much keeps one. */
  readonly endorsements?: EndorsementCache;
}

/** Who a guest proved to be, from its event log or its launch configuration; empty for what it left open. */
export interface GuestIdentity {
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  readonly instanceId: Uint8Array;
}

/**
 * One appraisal under way: the checks so far and what the verdict will say, with the steps that are the
 * same on every TEE. What differs is in `quote-appraisal.ts` and its siblings, one a kind of evidence.
 */
export class Appraisal {
  readonly input: AppraisalInput;
  readonly policy: Policy;
  readonly reference: Reference;
  readonly checks = new CheckList();
  readonly crypto: CryptoProvider;
  /** Unix seconds. */
  readonly now: number;
  readonly #anchors: TrustAnchor[] = [];
  identity: VerdictIdentity | null = null;
  tcb: VerdictTcb | null = null;
  measurements: Readonly<Record<string, string>> | null = null;
  boundReportData: Uint8Array | null = null;

  constructor(input: AppraisalInput) {
    this.input = input;
    this.policy = input.policy ?? DEFAULT_POLICY;
    this.reference = input.reference ?? {};
    this.crypto = input.crypto ?? webCrypto;
    this.now = Math.floor(input.now.getTime() / 1000);
  }

  /** The trust anchor a chain (leaf first) leads to; the verdict names it. Throws `attestation/refused`. */
  anchor(chain: readonly X509Certificate[], endorsement: Endorsement | "amd"): TrustAnchor {
    const anchor = anchorOf(chain, this.input.trustAnchors, endorsement);
    if (!anchor) {
      throw refusal("certificate-untrusted", "The evidence's chain leads to no trust anchor");
    }
    this.#anchors.push(anchor);
    return anchor;
  }

  /** What chains other than Intel's are verified against. Throws `attestation/refused`. */
  trustIn(anchor: TrustAnchor) {
    return {
      root: anchor.certificate,
      crls: this.#crls(),
      now: this.now,
      graceSeconds: this.policy.collateralGraceSeconds,
      crypto: this.crypto,
    };
  }

  /** Certificates the caller brought. Throws `attestation/refused`. */
  vendorCertificates(): X509Certificate[] {
    const { certificates = [] } = this.input.vendorDocuments ?? {};
    return certificates.map((der) =>
      refusing("certificate-malformed", () => parseX509Certificate(der))
    );
  }

  /** To be called once a chain outside Intel's collateral has been verified. */
  passChain(detail: string): void {
    const { checks } = this;
    checks.pass("collateral-validity", "The evidence's certificates are there and hold now");
    checks.pass("signature-chain", detail);
    if ((this.input.vendorDocuments?.crls ?? []).length > 0) {
      checks.pass("revocation", "No certificate is on a revocation list that was supplied");
    } else checks.notChecked("revocation", "Nobody supplied the vendor's revocation lists");
  }

  /** Evidence binds 64 bytes: those the attestation says, its payload's, and the challenge's. */
  checkReportData(
    bound: Uint8Array,
    stack: GuestStack | undefined,
    evidence: "quote" | "report" | "document",
  ): void {
    const { checks } = this;
    this.boundReportData = bound;
    const { expectedReportData } = this.input;
    const consistent = checks.attempt(() => {
      if (stack && !equalBytes(stack.reportData, bound)) {
        throw unbound(`The ${evidence} binds other report data than the attestation names`);
      }
      if (stack?.kind === "dstack-pod") {
        const payload = reportData("app-data", utf8(stack.reportDataPayload ?? ""));
        if (!equalBytes(payload, bound)) {
          throw unbound(`The ${evidence} does not bind the attestation's payload`);
        }
      }
      if (expectedReportData && !equalBytes(expectedReportData, bound)) {
        throw unbound(`The ${evidence} binds other report data than the challenge`);
      }
      return true;
    });
    if (!consistent) return;
    if (expectedReportData) checks.pass("report-data", `The ${evidence} binds the challenge`);
    else checks.notChecked("report-data", `Nobody said what the ${evidence} should bind`);
  }

  requireTcbStatus(status: TcbStatus): string {
    if (!this.policy.allowedTcbStatuses.includes(status)) {
      throw refusal("tcb-status-not-allowed", `The TCB status is ${status}`);
    }
    return status;
  }

  /** Compares the guest with what the caller expects of it; evidence that names none is not the expected. */
  checkExpectedIdentity(identity: GuestIdentity): void {
    const { composeHash, appId, instanceId } = this.reference;
    const expectations = [
      ["compose-hash", composeHash, identity.composeHash, "compose-hash-mismatch"],
      ["app-id", appId, identity.appId, "app-id-mismatch"],
      ["instance-id", instanceId, identity.instanceId, "instance-id-mismatch"],
    ] as const;
    for (const [id, expected, actual, code] of expectations) {
      if (!expected) {
        this.checks.notChecked(id, `Nobody said which ${id} to expect`);
      } else if (
        this.checks.attempt(() => {
          if (equalBytes(actual, expected)) return true;
          throw refusal(code, `The guest proved another ${id} than expected`);
        })
      ) this.checks.pass(id, `The ${id} is the expected one`);
    }
  }

  /** `actual` answers undefined before the guest has keys, and throws for what it cannot read. */
  checkKeyProvider(actual: () => KeyProviderInfo | undefined): void {
    const expected = this.reference.keyProvider;
    const checked = this.checks.attempt(() => {
      const provider = actual();
      if (!expected) return "none";
      if (!provider) return "early";
      const sameId = expected.id === undefined || expected.id === provider.id;
      if (provider.name === expected.name && sameId) return "same";
      throw refusal("key-provider-mismatch", "The guest has its keys from another provider");
    });
    if (checked === "none") {
      this.checks.notChecked("key-provider", "Nobody said which key provider to expect");
    } else if (checked === "early") {
      this.checks.notChecked("key-provider", "The guest has no keys yet");
    } else if (checked) {
      this.checks.pass("key-provider", "The key provider is the expected one");
    }
  }

  /** The verdict about `evidence`, which `tee` names. */
  verdict(tee: VerdictTee, evidence: Uint8Array): Verdict {
    this.checks.requireAll(this.policy.required);
    const { reason, list } = this.checks.finish();
    const anchors = this.#anchors;
    const simulated = anchors.some((anchor) => anchor.simulated);
    return {
      schema: VERDICT_SCHEMA,
      tee,
      simulated,
      outcome: reason === null ? "accepted" : "refused",
      reason,
      checks: list,
      identity: this.identity,
      tcb: this.tcb,
      measurements: this.measurements,
      reportData: this.boundReportData && toHex(this.boundReportData),
      trustAnchor: anchors.length === 0
        ? null
        : { name: anchors.map(({ name }) => name).join(" and "), simulated },
      evaluatedAt: rfc3339(this.now),
      evidenceDigest: toHex(this.crypto.sha256(evidence)),
    };
  }

  #crls(): CertificateRevocationList[] {
    const { crls = [] } = this.input.vendorDocuments ?? {};
    return crls.map((der) => refusing("crl-malformed", () => parseCrl(der)));
  }
}

export function rfc3339(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

/** For the identity, which also describes refused evidence: undefined where a step is refused. */
export function unlessRefused<T>(step: () => T): T | undefined {
  try {
    return step();
  } catch (error) {
    return undefinedIfRefused(error);
  }
}

/** The same for a step that is a promise, as its `catch`. */
export function undefinedIfRefused(error: unknown): undefined {
  if (!(error instanceof AppError) || error.code !== "attestation/refused") throw error;
}

function unbound(detail: string) {
  return refusal("report-data-mismatch", detail);
}
