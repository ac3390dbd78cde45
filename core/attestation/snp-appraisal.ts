import { equalBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { KEY_PROVIDER_EVENT_NAME } from "../compose/key-provider.ts";
import { type MrConfigV3, mrConfigV3Hash, parseMrConfigV3 } from "../compose/mr-config.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { snpCertificatesOf } from "../sev-snp/certificates.ts";
import type { SnpEndorsementKey } from "../sev-snp/endorsement-key.ts";
import { snpLaunchDigest } from "../sev-snp/launch-digest.ts";
import {
  parseSnpLaunchMaterial,
  parseSnpMeasurementDocument,
  SNP_DOCUMENT_NAME,
} from "../sev-snp/measurement-document.ts";
import { readSnpTcb } from "../sev-snp/product.ts";
import { parseSnpReport, type SnpReport } from "../sev-snp/report.ts";
import {
  requireNoSnpDebug,
  requireSnpAttributes,
  requireSnpPlatform,
  snpChainOf,
  snpTcbStatus,
  verifySnpSignature,
} from "../sev-snp/verify.ts";
import { appInfoOf } from "./app-info.ts";
import type { Appraisal } from "./appraisal.ts";
import type { Attestation, SevSnpEvidence } from "./attestation.ts";
import { checkOsImage, setIdentity } from "./guest-appraisal.ts";
import type { KeyProviderInfo } from "./launch-events.ts";
import { imageDocument, namedImageOf, refuseAs, requireAllowedImage } from "./os-image.ts";
import type { Reference } from "./reference.ts";
import { productOfAnchor } from "./trust-anchor.ts";
import type { AmdTcb } from "./verdict.ts";
import { mrConfigDocumentOf, snpMeasurementOf } from "./vm-config-text.ts";

const NONE = new Uint8Array(0);

/** Appraises an SEV-SNP guest: its identity is the launch configuration that HOST_DATA binds. */
export async function appraiseSnp(
  appraisal: Appraisal,
  attestation: Attestation,
  evidence: SevSnpEvidence,
): Promise<void> {
  const { checks, reference } = appraisal;
  const { stack } = attestation;
  const report = checks.attempt(() =>
    refusing("evidence-malformed", () => parseSnpReport(evidence.report), "evidence-unsupported")
  );
  if (!report) return;
  checks.pass("evidence-format", `A version ${report.version} report`);
  checks.lacks("evidence-freshness", "A report does not say when it was made");
  checks.lacks("tcb-advisories", "AMD's certificates name no advisories");
  checks.lacks("tpm-quote", "The evidence holds no TPM quote");
  checks.lacks("event-log-replay", "SEV-SNP has no registers to extend at run time");
  checks.lacks("launch-events", "The launch configuration names the app, not a log");
  checks.notApplicable("gpu-attestation", "SEV-SNP has no register to measure GPUs into");
  appraisal.measurements = snpRegistersOf(report);

  const key = await checkSignature(appraisal, report, evidence);
  if (key) checkPlatform(appraisal, report, key);
  checkAttributes(appraisal, report);
  appraisal.checkReportData(report.reportData, stack, "report");

  await checkOsImage(
    appraisal,
    "MEASUREMENT is that",
    () => Promise.resolve(provenSnpImage(report, stack.config, reference)),
  );
  const config = checks.attempt(() => boundConfig(report, evidence.mrConfig, stack.config));
  if (!config) return;
  checks.pass("mr-config-id", "HOST_DATA binds the launch configuration");
  appraisal.checkExpectedIdentity({
    composeHash: config.composeHash,
    appId: config.appId ?? NONE,
    instanceId: config.instanceId ?? NONE,
  });
  const keyProvider = keyProviderIn(config);
  appraisal.checkKeyProvider(() => keyProvider);
  const info = appInfoOf(attestation, { rawDeviceId: report.chipId });
  setIdentity(appraisal, info, key !== undefined, keyProvider);
}

async function checkSignature(
  appraisal: Appraisal,
  report: SnpReport,
  evidence: SevSnpEvidence,
): Promise<SnpEndorsementKey | undefined> {
  return await appraisal.checks.attemptAsync(async () => {
    const brought = refusing(
      "certificate-malformed",
      () => snpCertificatesOf(evidence.certChain),
    );
    const certificates = [...brought, ...appraisal.vendorCertificates()];
    const chain = snpChainOf(report, certificates);
    const anchor = appraisal.anchor(chain, "amd");
    const trust = { ...appraisal.trustIn(anchor), product: productOfAnchor(anchor) };
    const key = await verifySnpSignature(report, chain, trust);
    appraisal.passChain(`The report is signed under ${anchor.name}`);
    const platform = appraisal.checks.attempt(() => {
      requireSnpPlatform(report, key, trust.product);
      return true;
    });
    if (platform) {
      appraisal.checks.pass("platform-match", `The certificate is this ${key.productName}'s`);
    }
    return key;
  });
}

function checkPlatform(appraisal: Appraisal, report: SnpReport, key: SnpEndorsementKey): void {
  const status = snpTcbStatus(report);
  const tcb = (version: Uint8Array) => readSnpTcb(version, key.product);
  appraisal.tcb = {
    status,
    advisoryIds: [],
    product: key.productName,
    signingKey: key.kind,
    reported: tcb(report.reportedTcb),
    current: tcb(report.currentTcb),
    committed: tcb(report.committedTcb),
    launch: tcb(report.launchTcb),
  } satisfies AmdTcb;
  const allowed = appraisal.checks.attempt(() => appraisal.requireTcbStatus(status));
  if (allowed) appraisal.checks.pass("tcb-status", allowed);
}

function checkAttributes({ checks, policy }: Appraisal, report: SnpReport): void {
  if (checks.attempt(() => (requireNoSnpDebug(report), true))) {
    checks.pass("debug-disabled", "The guest's policy forbids debugging");
  }
  const strong = checks.attempt(() => {
    requireSnpAttributes(report);
    if (report.signingKey === "vlek" && !policy.allowVlek) {
      throw refusal(
        "attributes-not-allowed",
        "The report is signed with a key lent to the cloud (VLEK), not the chip's",
      );
    }
    return true;
  });
  if (strong) checks.pass("tee-attributes", "No attribute weakens the TEE");
}

/** Recomputes the launch digest from the image's document and the VM's processors (spec 5.7). */
function provenSnpImage(report: SnpReport, configText: string, reference: Reference): Uint8Array {
  const { osImageHash } = namedImageOf(configText);
  const text = refuseAs("os-image-document-malformed", () => snpMeasurementOf(configText));
  if (text === undefined) {
    throw refusal("os-image-document-malformed", "The configuration has no measurement document");
  }
  const { material, ...processors } = refuseAs(
    "os-image-document-malformed",
    () => parseSnpLaunchMaterial(text),
  );
  const document = imageDocument(
    osImageHash,
    SNP_DOCUMENT_NAME,
    material,
    parseSnpMeasurementDocument,
  );
  const digest = refuseAs(
    "os-image-document-malformed",
    () => snpLaunchDigest({ ...document, ...processors }),
  );
  if (!equalBytes(digest, report.measurement)) {
    throw refusal(
      "os-image-register-mismatch",
      "MEASUREMENT is not what this image and VM shape yield",
    );
  }
  return requireAllowedImage(osImageHash, reference);
}

/** The document whose hash the host bound; the VM's configuration may repeat it and not contradict it. */
function boundConfig(report: SnpReport, document: string, configText: string): MrConfigV3 {
  if (document === "") {
    throw refusal("mr-config-id-missing", "The evidence has no launch configuration");
  }
  if (!equalBytes(mrConfigV3Hash(utf8(document)), report.hostData)) {
    throw refusal("mr-config-id-mismatch", "HOST_DATA binds another launch configuration");
  }
  const repeated = refusing("mr-config-id-mismatch", () => mrConfigDocumentOf(configText));
  if (repeated !== undefined && repeated !== document) {
    throw refusal("mr-config-id-mismatch", "The VM's configuration names another launch");
  }
  return refusing("mr-config-id-mismatch", () => parseMrConfigV3(document));
}

function keyProviderIn({ keyProvider, keyProviderId = NONE }: MrConfigV3): KeyProviderInfo {
  return { name: KEY_PROVIDER_EVENT_NAME[keyProvider], id: toHex(keyProviderId) };
}

/** The report's registers by name, hex, in its order. */
function snpRegistersOf(report: SnpReport): Readonly<Record<string, string>> {
  return {
    policy: report.policyBits.toString(16).padStart(16, "0"),
    vmpl: String(report.vmpl),
    guest_svn: String(report.guestSvn),
    family_id: toHex(report.familyId),
    image_id: toHex(report.imageId),
    platform_info: report.platformBits.toString(16).padStart(16, "0"),
    measurement: toHex(report.measurement),
    host_data: toHex(report.hostData),
    id_key_digest: toHex(report.idKeyDigest),
    author_key_digest: toHex(report.authorKeyDigest),
    report_id: toHex(report.reportId),
    chip_id: toHex(report.chipId),
    current_tcb: toHex(report.currentTcb),
    reported_tcb: toHex(report.reportedTcb),
    committed_tcb: toHex(report.committedTcb),
    launch_tcb: toHex(report.launchTcb),
  };
}
