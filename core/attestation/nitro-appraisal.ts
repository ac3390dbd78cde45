import { equalBytes, toHex, utf8 } from "../bytes/bytes.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import { replayRuntimeEvents } from "../event-log/replay.ts";
import { type NitroDocument, parseNitroDocument } from "../nitro/attestation-document.ts";
import {
  nitroChainOf,
  requireFreshNitro,
  requireNoNitroDebug,
  verifyNitroSignature,
} from "../nitro/verify.ts";
import { appInfoOf } from "./app-info.ts";
import type { Appraisal } from "./appraisal.ts";
import type { Attestation, AwsNitroTpmEvidence, NitroEnclaveEvidence } from "./attestation.ts";
import { provenEnclaveImage, provenInstanceImage } from "./cloud-image.ts";
import {
  checkEventLog,
  checkLoggedIdentity,
  checkOsImage,
  setIdentity,
  setLoggedIdentity,
} from "./guest-appraisal.ts";

const NONE = new Uint8Array(0);
/** The register that runtime events extend. */
const RUNTIME_PCR = 14;

/** Appraises a Nitro enclave: its image is all it proves, and the image holds the app. */
export async function appraiseEnclave(
  appraisal: Appraisal,
  attestation: Attestation,
  { nsmQuote }: NitroEnclaveEvidence,
): Promise<void> {
  const { checks, reference } = appraisal;
  const { stack } = attestation;
  const appraised = await appraiseDocument(appraisal, attestation, nsmQuote, "enclave");
  if (!appraised) return;
  const { document, isGenuine } = appraised;
  if (checks.attempt(() => (requireNoNitroDebug(document), true))) {
    checks.pass("debug-disabled", "The enclave is not in debug mode");
  }
  checks.lacks("tpm-quote", "The evidence holds no TPM quote");
  checks.lacks("event-log-replay", "An enclave has no register that its log extends");
  checks.lacks("launch-events", "The image names the app, not a log");
  checks.notApplicable("gpu-attestation", "Enclaves have no GPUs");
  await checkOsImage(
    appraisal,
    "PCR0 to PCR2 are those",
    () => Promise.resolve(provenEnclaveImage(document, stack.config, reference)),
  );
  const info = appInfoOf(attestation, { rawDeviceId: utf8(enclaveDeviceOf(document)) });
  // The log is nobody's word here: what it names is left out.
  const proven = { ...info, appId: NONE, instanceId: NONE, initScriptHashes: [] };
  appraisal.checkExpectedIdentity(proven);
  if (reference.keyProvider) {
    checks.attempt(() => {
      throw refusal("key-provider-mismatch", "An enclave does not prove whose keys it has");
    });
  } else checks.notChecked("key-provider", "An enclave does not prove whose keys it has");
  setIdentity(appraisal, proven, isGenuine, null);
}

/**
 * What the reference takes for an enclave's machine: the module id before its first dash, which is the
 * letter `i` for every one of them (spec attestation.md 3.7). It names nothing.
 */
function enclaveDeviceOf({ moduleId }: NitroDocument): string {
  return moduleId.split("-", 1)[0]!;
}

/** Appraises an EC2 instance by its NitroTPM: PCR4, 7 and 12 are its boot, PCR14 is the guest's log. */
export async function appraiseInstance(
  appraisal: Appraisal,
  attestation: Attestation,
  { attestationDoc }: AwsNitroTpmEvidence,
): Promise<void> {
  const { checks, reference } = appraisal;
  const { stack } = attestation;
  const appraised = await appraiseDocument(appraisal, attestation, attestationDoc, "tpm");
  if (!appraised) return;
  const { document, isGenuine } = appraised;
  checks.lacks("debug-disabled", "An instance has no debug mode");
  checks.lacks("tpm-quote", "AWS signs the registers: there is no quote of the TPM's own");
  checkEventLog(appraisal, attestation, () => {
    const replayed = replayRuntimeEvents(stack.runtimeEvents);
    if (!equalBytes(replayed, document.pcrs.get(RUNTIME_PCR) ?? NONE)) {
      throw refusal("event-log-mismatch", "The runtime events do not replay to PCR14");
    }
    return ["PCR14"];
  });
  await checkOsImage(
    appraisal,
    "PCR4, PCR7 and PCR12 are those",
    () => Promise.resolve(provenInstanceImage(document, stack.config, reference)),
  );
  checkLoggedIdentity(appraisal, attestation);
  setLoggedIdentity(appraisal, attestation, isGenuine ? utf8(document.moduleId) : undefined);
}

interface AppraisedDocument {
  readonly document: NitroDocument;
  readonly isGenuine: boolean;
}

/** The part enclaves and instances share: a document of that kind, its chain, signature and time. */
async function appraiseDocument(
  appraisal: Appraisal,
  { stack }: Attestation,
  bytes: Uint8Array,
  kind: NitroDocument["kind"],
): Promise<AppraisedDocument | undefined> {
  const { checks } = appraisal;
  const document = checks.attempt(() => {
    const parsed = refusing(
      "evidence-malformed",
      () => parseNitroDocument(bytes),
      "evidence-unsupported",
    );
    if (parsed.kind === kind) return parsed;
    throw refusal("evidence-unsupported", `The document is of another kind than ${kind}`);
  });
  if (!document) return undefined;
  checks.pass("evidence-format", `A Nitro document of ${document.moduleId.slice(0, 80)}`);
  appraisal.measurements = Object.fromEntries(
    [...document.pcrs].map(([index, value]) => [`pcr${index}`, toHex(value)]),
  );
  const genuine = await checks.attemptAsync(async () => {
    const anchor = appraisal.anchor(nitroChainOf(document), `aws-nitro-${kind}`);
    await verifyNitroSignature(document, appraisal.trustIn(anchor));
    appraisal.passChain(`The document is signed under ${anchor.name}`);
    return true;
  });
  if (checks.attempt(() => (requireFreshNitro(document, appraisal.now), true))) {
    const made = new Date(document.timestampMs).toISOString();
    checks.pass("evidence-freshness", `The document was made at ${made}`);
  }
  checks.lacks("platform-match", "AWS certifies the document's key, not a platform");
  checks.lacks("tcb-status", "AWS publishes no TCB levels of Nitro");
  checks.lacks("tcb-advisories", "AWS publishes no TCB levels of Nitro");
  checks.lacks("tee-attributes", "Nitro documents name no attributes");
  checks.lacks("mr-config-id", "Nitro hosts bind no configuration at launch");
  const bound = document.userData;
  if (!bound) {
    checks.attempt(() => {
      throw refusal("report-data-mismatch", "The document binds no report data");
    });
  } else appraisal.checkReportData(bound, stack, "document");
  return { document, isGenuine: genuine === true };
}
