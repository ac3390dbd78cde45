import { equalBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { AppError } from "../errors/app-error.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import type { QuoteCollateral } from "../tdx/collateral.ts";
import {
  type DcapTrust,
  parsePckChain,
  type VerifiedCollateral,
  type VerifiedQuote,
  verifyCollateral,
  verifyQuoteSignatures,
} from "../tdx/dcap-verify.ts";
import type { EndorsementCache } from "../tdx/endorsement-cache.ts";
import { parseQuote, type Quote } from "../tdx/quote.ts";
import { requireNoDebug, requireSgxAttributes, requireTdAttributes } from "../tdx/td-attributes.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import { matchTcb, type TcbMatch } from "../tdx/tcb-match.ts";
import type { X509Certificate } from "../x509/x509-certificate.ts";
import { appInfoOf } from "./app-info.ts";
import { type Attestation, TEE_VARIANTS } from "./attestation.ts";
import { CheckList } from "./check-list.ts";
import { requireReplay } from "./event-log-check.ts";
import { keyProviderOf, launchPayload, requireLaunchEvents } from "./launch-events.ts";
import { registersByName } from "./measurements.ts";
import { checkMrConfig } from "./mr-config-check.ts";
import { provenOsImage } from "./os-image.ts";
import { DEFAULT_POLICY, type Policy } from "./policy.ts";
import type { Reference } from "./reference.ts";
import { reportData } from "./report-data.ts";
import { anchorOf, type TrustAnchor } from "./trust-anchor.ts";
import {
  type Verdict,
  VERDICT_SCHEMA,
  type VerdictIdentity,
  type VerdictTcb,
  type VerdictTee,
} from "./verdict.ts";
import { encodeAttestation, tdReportOf } from "./versioned-attestation.ts";

/** A quote by itself, TDX or SGX: it proves hardware and registers, and says nothing about an app. */
export interface BareQuote {
  readonly quote: Uint8Array;
}

export interface AppraisalInput {
  readonly attestation: Attestation | BareQuote;
  /** What Intel says about the platform; without it nothing can be accepted. */
  readonly collateral: QuoteCollateral | undefined;
  readonly trustAnchors: readonly TrustAnchor[];
  readonly reference?: Reference;
  readonly policy?: Policy;
  /** The time the verdict is for. */
  readonly now: Date;
  /** 64 bytes the quote must bind: the caller's challenge. */
  readonly expectedReportData?: Uint8Array;
  /** Where the runtime has faster primitives than WebCrypto. They do not change the verdict. */
  readonly crypto?: CryptoProvider;
  /** What was verified for other evidence; a caller that judges much keeps one. */
  readonly endorsements?: EndorsementCache;
}

/**
 * Decides about evidence: the one function behind the KMS, the gateway's admission, the verifier, the
 * CLI and the browser page. Runs every check it can, in the order of CHECK_IDS; whatever was not
 * proven stays visible. Answers the same document on every runtime for the same input.
 *
 * Throws only for evidence it cannot judge at all (`input/unsupported`: another TEE) and for a
 * caller's mistakes; evidence that does not hold is `refused` in the verdict.
 */
export async function appraise(input: AppraisalInput): Promise<Verdict> {
  const { attestation } = input;
  if ("platform" in attestation && attestation.platform.kind !== "tdx") {
    throw new AppError(
      "input/unsupported",
      `Evidence of kind ${attestation.platform.kind} cannot be appraised`,
    );
  }
  const { now } = input;
  if (Number.isNaN(now.getTime())) throw new TypeError("The time of an appraisal must be valid");
  return await new QuoteAppraisal(input).run();
}

class QuoteAppraisal {
  readonly #input: AppraisalInput;
  readonly #attestation: Attestation | undefined;
  readonly #quoteBytes: Uint8Array;
  readonly #policy: Policy;
  readonly #reference: Reference;
  readonly #checks = new CheckList();
  #anchor: TrustAnchor | undefined;
  #identity: VerdictIdentity | null = null;
  #tcb: VerdictTcb | null = null;

  constructor(input: AppraisalInput) {
    this.#input = input;
    this.#policy = input.policy ?? DEFAULT_POLICY;
    this.#reference = input.reference ?? {};
    const { attestation } = input;
    this.#attestation = "platform" in attestation ? attestation : undefined;
    this.#quoteBytes = "quote" in attestation
      ? attestation.quote
      : (attestation.platform as { quote: Uint8Array }).quote;
  }

  async run(): Promise<Verdict> {
    const checks = this.#checks;
    const quote = checks.attempt(() => {
      const parsed = refusing("evidence-malformed", () => parseQuote(this.#quoteBytes));
      if (this.#attestation) refusing("evidence-unsupported", () => tdReportOf(parsed));
      return parsed;
    });
    if (quote) {
      checks.pass("evidence-format", `A version ${quote.header.version} quote`);
      const platformId = await this.#checkHardware(quote);
      this.#checkReportData(quote);
      if (quote.body.kind === "sgx" || !this.#attestation) this.#skipGuest();
      else await this.#checkGuest(this.#attestation, quote.body.report, platformId);
    }
    checks.requireAll(this.#policy.required);
    return this.#verdict(quote);
  }

  /** Signatures, TCB and attributes; answers the platform's raw id when the quote is genuine. */
  async #checkHardware(quote: Quote): Promise<Uint8Array | undefined> {
    const checks = this.#checks;
    const endorsed = await checks.attemptAsync(() => this.#verifyEndorsements(quote));
    if (endorsed) {
      const { pckChain, collateral, trust } = endorsed;
      checks.pass("collateral-validity", "Collateral is signed, current and not revoked");
      const signed = await checks.attemptAsync(() =>
        verifyQuoteSignatures(quote, pckChain, collateral, trust)
      );
      if (signed) {
        checks.pass("signature-chain", `The quote is signed under ${this.#anchor!.name}`);
        this.#checkTcb(signed, collateral);
      }
      this.#checkAttributes(quote);
      return signed?.platform.ppid;
    }
    this.#checkAttributes(quote);
    return undefined;
  }

  async #verifyEndorsements(quote: Quote): Promise<Endorsed> {
    const { collateral, trustAnchors, now, crypto, endorsements } = this.#input;
    if (!collateral) throw refusal("collateral-missing", "There is no collateral for the quote");
    const known = endorsements?.certificates ?? new Map<string, X509Certificate>();
    const pckChain = parsePckChain(quote, collateral, known);
    this.#anchor = anchorOf(pckChain, trustAnchors);
    if (!this.#anchor) {
      throw refusal("certificate-untrusted", "The quote's chain leads to no trust anchor");
    }
    const trust: DcapTrust = {
      root: this.#anchor.certificate,
      now: Math.floor(now.getTime() / 1000),
      graceSeconds: this.#policy.collateralGraceSeconds,
      ...(crypto && { crypto }),
    };
    const verified = endorsements
      ? await endorsements.verifyCollateral(collateral, trust)
      : await verifyCollateral(collateral, trust, known);
    return { pckChain, trust, collateral: verified };
  }

  #checkTcb(signed: VerifiedQuote, collateral: VerifiedCollateral): void {
    const checks = this.#checks;
    const match = checks.attempt(() => matchTcb(signed, collateral));
    if (!match) return;
    this.#tcb = tcbOf(match, signed, collateral);
    checks.pass("platform-match", `Collateral is for FMSPC ${this.#tcb.fmspc}`);
    const status = checks.attempt(() => this.#requireTcb(match));
    if (status) checks.pass("tcb-status", status);
    const advisories = checks.attempt(() => this.#requireAdvisories(match));
    if (advisories) checks.pass("tcb-advisories", advisories);
  }

  #requireTcb(match: TcbMatch): string {
    const { allowedTcbStatuses, minEvaluationDataNumber } = this.#policy;
    if (!allowedTcbStatuses.includes(match.status)) {
      throw refusal("tcb-status-not-allowed", `The TCB status is ${match.status}`);
    }
    const { evaluationDataNumber } = this.#tcb!;
    if (evaluationDataNumber < minEvaluationDataNumber) {
      throw refusal(
        "tcb-evaluation-too-old",
        `Collateral is of TCB evaluation ${evaluationDataNumber}, ${minEvaluationDataNumber} is required`,
      );
    }
    return match.status;
  }

  #requireAdvisories(match: TcbMatch): string {
    const { allowedAdvisories } = this.#policy;
    const open = allowedAdvisories === "any"
      ? []
      : match.advisoryIds.filter((id) => !allowedAdvisories.includes(id));
    if (open.length > 0) {
      throw refusal("advisory-not-allowed", `Open advisories: ${open.slice(0, 8).join(", ")}`);
    }
    return match.advisoryIds.length === 0
      ? "No open advisories"
      : "All open advisories are allowed";
  }

  #checkAttributes({ body }: Quote): void {
    const checks = this.#checks;
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

  #checkReportData({ body }: Quote): void {
    const checks = this.#checks;
    const { expectedReportData } = this.#input;
    const bound = body.report.reportData;
    const stack = this.#attestation?.stack;
    const consistent = checks.attempt(() => {
      if (stack && !equalBytes(stack.reportData, bound)) {
        throw mismatch("The quote binds other report data than the attestation names");
      }
      if (stack?.kind === "dstack-pod") {
        const payload = reportData("app-data", utf8(stack.reportDataPayload ?? ""));
        if (!equalBytes(payload, bound)) {
          throw mismatch("The quote does not bind the attestation's payload");
        }
      }
      if (expectedReportData && !equalBytes(expectedReportData, bound)) {
        throw mismatch("The quote binds other report data than the challenge");
      }
      return true;
    });
    if (!consistent) return;
    if (expectedReportData) checks.pass("report-data", "The quote binds the challenge");
    else checks.notChecked("report-data", "Nobody said what the quote should bind");
  }

  #skipGuest(): void {
    for (const id of GUEST_CHECKS) {
      this.#checks.notChecked(id, "A quote by itself says nothing about this");
    }
  }

  async #checkGuest(
    attestation: Attestation,
    td: TdReportBody,
    platformId: Uint8Array | undefined,
  ): Promise<void> {
    const checks = this.#checks;
    const { runtimeEvents } = attestation.stack;
    const bootLog = attestation.platform.kind === "tdx" ? attestation.platform.eventLog : [];
    const replayed = checks.attempt(() => requireReplay(td, bootLog, runtimeEvents));
    if (replayed) {
      checks.pass("event-log-replay", `RTMR${replayed.join(", RTMR")} replay from the event log`);
    }
    if (checks.attempt(() => (requireLaunchEvents(runtimeEvents), true))) {
      checks.pass("launch-events", "Each event that names the app occurs once and in its place");
    }
    await this.#checkOsImage(attestation, td);
    this.#checkMrConfig(attestation, td);
    this.#checkIdentity(attestation);
    this.#identity = identityOf(attestation, platformId);
  }

  async #checkOsImage(attestation: Attestation, td: TdReportBody): Promise<void> {
    const checks = this.#checks;
    const bootLog = attestation.platform.kind === "tdx" ? attestation.platform.eventLog : [];
    const proven = await checks.attemptAsync(async () => ({
      hash: await provenOsImage(td, bootLog, attestation.stack.config, this.#reference),
    }));
    if (proven?.hash) {
      checks.pass("os-image", `MRTD and RTMR0-2 are those of OS image ${toHex(proven.hash)}`);
    } else if (proven) {
      checks.notChecked("os-image", "Nobody supplied what the registers should be");
    }
  }

  #checkMrConfig({ stack }: Attestation, td: TdReportBody): void {
    const checks = this.#checks;
    const required = this.#policy.required.includes("mr-config-id");
    const found = checks.attempt(() => {
      const version = checkMrConfig(
        td.mrConfigId,
        stack.runtimeEvents,
        stack.config,
        this.#reference,
      );
      if (version === 0 && required) {
        throw refusal("mr-config-id-missing", "The host bound no configuration at launch");
      }
      return { version };
    });
    if (!found) return;
    if (found.version === 0) {
      checks.notApplicable("mr-config-id", "The host bound no configuration at launch");
    } else if (found.version === undefined) {
      checks.notChecked("mr-config-id", "Nobody named the key provider that MRCONFIGID binds");
    } else {
      checks.pass("mr-config-id", `MRCONFIGID version ${found.version} is the guest's own`);
    }
  }

  #checkIdentity({ stack }: Attestation): void {
    const { composeHash, appId, instanceId, keyProvider } = this.#reference;
    const events = stack.runtimeEvents;
    const expectations = [
      ["compose-hash", composeHash, "compose-hash-mismatch"],
      ["app-id", appId, "app-id-mismatch"],
      ["instance-id", instanceId, "instance-id-mismatch"],
    ] as const;
    for (const [id, expected, code] of expectations) {
      if (!expected) {
        this.#checks.notChecked(id, `Nobody said which ${id} to expect`);
      } else if (
        this.#checks.attempt(() => {
          if (equalBytes(launchPayload(events, id), expected)) return true;
          throw refusal(code, `The guest measured another ${id} than expected`);
        })
      ) this.#checks.pass(id, `The ${id} is the expected one`);
    }
    const checked = this.#checks.attempt(() => {
      const actual = keyProviderOf(events);
      if (!keyProvider) return "none";
      if (!actual) return "early";
      const sameId = keyProvider.id === undefined || keyProvider.id === actual.id;
      if (actual.name === keyProvider.name && sameId) return "same";
      throw refusal("key-provider-mismatch", "The guest has its keys from another provider");
    });
    if (checked === "none") {
      this.#checks.notChecked("key-provider", "Nobody said which key provider to expect");
    } else if (checked === "early") {
      this.#checks.notChecked("key-provider", "The guest has no keys yet");
    } else if (checked) {
      this.#checks.pass("key-provider", "The key provider is the expected one");
    }
  }

  #verdict(quote: Quote | undefined): Verdict {
    const { reason, list } = this.#checks.finish();
    const { sha256 } = this.#input.crypto ?? webCrypto;
    const anchor = this.#anchor;
    return {
      schema: VERDICT_SCHEMA,
      tee: this.#tee(quote),
      simulated: anchor?.simulated ?? false,
      outcome: reason === null ? "accepted" : "refused",
      reason,
      checks: list,
      identity: this.#identity,
      tcb: this.#tcb,
      measurements: quote ? registersByName(quote.body) : null,
      reportData: quote ? toHex(quote.body.report.reportData) : null,
      trustAnchor: anchor ? { name: anchor.name, simulated: anchor.simulated } : null,
      evaluatedAt: rfc3339(Math.floor(this.#input.now.getTime() / 1000)),
      evidenceDigest: toHex(
        sha256(this.#attestation ? encodeAttestation(this.#attestation) : this.#quoteBytes),
      ),
    };
  }

  #tee(quote: Quote | undefined): VerdictTee {
    if (this.#attestation) return TEE_VARIANTS[this.#attestation.platform.kind];
    return quote?.header.tee === "sgx" ? "intel-sgx" : "intel-tdx";
  }
}

interface Endorsed {
  readonly pckChain: readonly X509Certificate[];
  readonly collateral: VerifiedCollateral;
  readonly trust: DcapTrust;
}

const GUEST_CHECKS = [
  "event-log-replay",
  "launch-events",
  "os-image",
  "mr-config-id",
  "compose-hash",
  "app-id",
  "instance-id",
  "key-provider",
] as const;

function mismatch(detail: string) {
  return refusal("report-data-mismatch", detail);
}

function tcbOf(
  match: TcbMatch,
  { platform }: VerifiedQuote,
  { tcbInfo, qeIdentity, validFrom, validUntil }: VerifiedCollateral,
): VerdictTcb {
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

function identityOf(
  attestation: Attestation,
  platformId: Uint8Array | undefined,
): VerdictIdentity {
  const info = appInfoOf(attestation, platformId ? { rawDeviceId: platformId } : {});
  return {
    appId: toHex(info.appId),
    composeHash: toHex(info.composeHash),
    instanceId: toHex(info.instanceId),
    deviceId: platformId ? toHex(info.deviceId) : "",
    osImageHash: toHex(info.osImageHash),
    mrSystem: toHex(info.mrSystem),
    mrAggregated: toHex(info.mrAggregated),
    keyProvider: readableKeyProvider(attestation),
    initScriptHashes: info.initScriptHashes.map(toHex),
  };
}

/** For the identity, which also describes refused evidence: null where the event is unreadable. */
function readableKeyProvider({ stack }: Attestation): VerdictIdentity["keyProvider"] {
  try {
    return keyProviderOf(stack.runtimeEvents) ?? null;
  } catch (error) {
    if (error instanceof AppError && error.code === "attestation/refused") return null;
    throw error;
  }
}

function rfc3339(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}
