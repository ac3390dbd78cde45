import { Appraisal, type AppraisalInput, type BareQuote } from "./appraisal.ts";
import { type Attestation, type TdxEvidence, TEE_VARIANTS } from "./attestation.ts";
import { appraiseGcp } from "./gcp-appraisal.ts";
import { checkAcpiTables } from "./acpi-check.ts";
import {
  checkEventLog,
  checkLoggedIdentity,
  checkOsImage,
  checkTdMrConfig,
  replayTdx,
  setLoggedIdentity,
  skipGuest,
} from "./guest-appraisal.ts";
import { appraiseEnclave, appraiseInstance } from "./nitro-appraisal.ts";
import { provenOsImage } from "./os-image.ts";
import { appraiseQuote } from "./quote-appraisal.ts";
import { appraiseSnp } from "./snp-appraisal.ts";
import type { Verdict } from "./verdict.ts";
import { encodeAttestation, tdReportOf } from "./versioned-attestation.ts";

export type { AppraisalInput, BareQuote, VendorDocuments } from "./appraisal.ts";

/**
 * Decides about evidence: the one function behind the KMS, the gateway's admission, the verifier, the
 * CLI and the browser page. Runs every check it can, in the order of CHECK_IDS; whatever was not
 * proven stays visible. Answers the same document on every runtime for the same input.
 *
 * Throws only for a caller's mistakes; evidence that does not hold is `refused` in the verdict.
 */
export async function appraise(input: AppraisalInput): Promise<Verdict> {
  const { attestation, now } = input;
  if (Number.isNaN(now.getTime())) throw new TypeError("The time of an appraisal must be valid");
  const appraisal = new Appraisal(input);
  if (!("platform" in attestation)) return await verdictOfQuote(appraisal, attestation);
  const { platform } = attestation;
  if (platform.kind === "sev-snp") {
    appraisal.checks.notChecked("acpi-tables", "SEV-SNP does not measure ACPI tables");
  } else if (platform.kind !== "tdx") {
    appraisal.checks.lacks("acpi-tables", "This platform has no ACPI tables of QEMU's");
  }
  switch (platform.kind) {
    case "tdx":
      await appraiseTdx(appraisal, attestation, platform);
      break;
    case "gcp-tdx":
      await appraiseGcp(appraisal, attestation, platform);
      break;
    case "sev-snp":
      await appraiseSnp(appraisal, attestation, platform);
      break;
    case "nitro-enclave":
      await appraiseEnclave(appraisal, attestation, platform);
      break;
    case "aws-nitro-tpm":
      await appraiseInstance(appraisal, attestation, platform);
      break;
  }
  return appraisal.verdict(TEE_VARIANTS[platform.kind], encodeAttestation(attestation));
}

async function verdictOfQuote(appraisal: Appraisal, { quote }: BareQuote): Promise<Verdict> {
  appraisal.checks.lacks("tpm-quote", "The evidence holds no TPM quote");
  const appraised = await appraiseQuote(appraisal, quote, () => {});
  if (appraised) {
    appraisal.checkReportData(appraised.quote.body.report.reportData, undefined, "quote");
    skipGuest(appraisal);
  }
  const isSgx = appraised?.quote.header.tee === "sgx";
  return appraisal.verdict(isSgx ? "intel-sgx" : "intel-tdx", quote);
}

async function appraiseTdx(
  appraisal: Appraisal,
  attestation: Attestation,
  { quote, eventLog }: TdxEvidence,
): Promise<void> {
  const { checks, reference } = appraisal;
  checks.lacks("tpm-quote", "The evidence holds no TPM quote");
  const appraised = await appraiseQuote(appraisal, quote, tdReportOf);
  if (!appraised) return;
  const { stack } = attestation;
  const td = tdReportOf(appraised.quote);
  appraisal.checkReportData(td.reportData, stack, "quote");
  checkEventLog(appraisal, attestation, () => replayTdx(td, attestation));
  // Looking an image up may download it: evidence of strangers must not cause that.
  const { registersOf: _, ...withoutImages } = reference;
  const known = checks.hasPassed("signature-chain") ? reference : withoutImages;
  const proven = await checkOsImage(
    appraisal,
    "MRTD and RTMR0-2 are those",
    () => provenOsImage(td, eventLog, stack.config, known),
  );
  if (proven) await checkAcpiTables(appraisal, eventLog, stack.config);
  else checks.notChecked("acpi-tables", "Without a proven OS image nothing vouches for them");
  checkTdMrConfig(appraisal, attestation, td);
  checkLoggedIdentity(appraisal, attestation);
  setLoggedIdentity(appraisal, attestation, appraised.platformId);
}
