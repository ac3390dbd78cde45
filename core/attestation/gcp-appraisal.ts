import { sha256 } from "@noble/hashes/sha2.js";
import { equalBytes, toHex } from "../bytes/bytes.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { replayRuntimeEvents } from "../event-log/replay.ts";
import { pcrsOfTpmQuote, type TpmPcrs, verifyTpmSignature } from "../tpm/verify.ts";
import { chainFrom } from "../x509/chain-order.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import type { Appraisal } from "./appraisal.ts";
import type { Attestation, GcpTdxEvidence } from "./attestation.ts";
import { provenGcpImage } from "./cloud-image.ts";
import {
  checkEventLog,
  checkLoggedIdentity,
  checkOsImage,
  checkTdMrConfig,
  replayTdx,
  setLoggedIdentity,
} from "./guest-appraisal.ts";
import { appraiseQuote } from "./quote-appraisal.ts";
import { tdReportOf } from "./versioned-attestation.ts";

/** Firmware, kernel image, runtime events: registers a quote must cover (spec attestation.md 8.1). */
const REQUIRED_PCRS = [0, 2, 14] as const;
const RUNTIME_PCR = 14;

/**
 * Appraises a Google Cloud TD: the TD's quote proves hardware and log, the vTPM's quote, which is bound
 * to it, proves firmware and kernel.
 */
export async function appraiseGcp(
  appraisal: Appraisal,
  attestation: Attestation,
  evidence: GcpTdxEvidence,
): Promise<void> {
  const { reference } = appraisal;
  const { stack } = attestation;
  const appraised = await appraiseQuote(appraisal, evidence.quote, tdReportOf);
  if (!appraised) return;
  const td = tdReportOf(appraised.quote);
  const tpm = await checkTpmQuote(appraisal, evidence);
  appraisal.checkReportData(td.reportData, stack, "quote");
  checkEventLog(appraisal, attestation, () => {
    const registers = replayTdx(td, attestation);
    const replayed = replayRuntimeEvents(stack.runtimeEvents, { hash: "sha256" });
    if (tpm && !equalBytes(replayed, tpm.pcrs.get(RUNTIME_PCR)!)) {
      throw refusal("event-log-mismatch", "The runtime events do not replay to PCR14");
    }
    return [...registers, `PCR${RUNTIME_PCR}`];
  });
  if (tpm) {
    await checkOsImage(
      appraisal,
      "PCR0 and PCR2 are those",
      () => Promise.resolve(provenGcpImage(tpm.pcrs, evidence.tpmQuote, stack.config, reference)),
    );
  }
  checkTdMrConfig(appraisal, attestation, td, true);
  checkLoggedIdentity(appraisal, attestation);
  setLoggedIdentity(appraisal, attestation, appraised.platformId);
}

/** The vTPM's quote: certified, over the registers needed, and about this TD's quote. */
async function checkTpmQuote(
  appraisal: Appraisal,
  { quote, tpmQuote }: GcpTdxEvidence,
): Promise<TpmPcrs | undefined> {
  const { checks } = appraisal;
  return await checks.attemptAsync(async () => {
    const ak = refusing("certificate-malformed", () => parseX509Certificate(tpmQuote.akCert));
    const chain = chainFrom(ak, appraisal.vendorCertificates());
    const anchor = appraisal.anchor(chain, "gcp-tpm");
    await verifyTpmSignature(tpmQuote, chain, appraisal.trustIn(anchor));
    const tpm = pcrsOfTpmQuote(tpmQuote);
    const missing = REQUIRED_PCRS.filter((index) => !tpm.pcrs.has(index));
    if (missing.length > 0) {
      throw refusal("tpm-quote-mismatch", `The TPM's quote leaves out PCR${missing.join(", PCR")}`);
    }
    if (!equalBytes(tpm.attest.extraData, sha256(quote))) {
      throw refusal("tpm-quote-unbound", "The TPM's quote was made for another TD's quote");
    }
    appraisal.measurements = {
      ...appraisal.measurements,
      ...Object.fromEntries([...tpm.pcrs].map(([index, value]) => [`pcr${index}`, toHex(value)])),
    };
    checks.pass("tpm-quote", `The vTPM's quote is signed under ${anchor.name} and about this TD`);
    return tpm;
  });
}
