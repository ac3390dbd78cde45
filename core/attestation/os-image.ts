import { equalBytes, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { type ReasonCode, refusal } from "../errors/refusal.ts";
import { acpiDigestsOf, type TdxEvent } from "../event-log/tdx-event.ts";
import { checkMeasurementBinding } from "../measurement/checksum-file.ts";
import { expectedTdxRegisters } from "../measurement/expected-registers.ts";
import {
  OVMF_VARIANT,
  parseTdxMeasurementDocument,
} from "../measurement/tdx-measurement-document.ts";
import {
  type MeasurementMaterial,
  qemuReleaseOf,
  usesTwoPass,
  type VmConfig,
} from "../measurement/vm-config.ts";
import type { TdReportBody } from "../tdx/td-report-body.ts";
import type { Reference, ReferenceRegisters } from "./reference.ts";
import { vmConfigOf } from "./vm-config-text.ts";

/** The line of sha256sum.txt that names the document. */
const DOCUMENT_NAME = "measurement.tdx.cbor";

/**
 * The image a TD runs: recomputes MRTD and RTMR0-2 and compares them with the quote's. The `lite`
 * variant brings its own measurement document, bound to the image hash; `legacy` needs the reference
 * to know the image, which is asked only for one that is allowed. Answers the proven hash; undefined
 * when there is nothing to compare with. Throws `attestation/refused`.
 */
export async function provenOsImage(
  td: TdReportBody,
  bootLog: readonly TdxEvent[],
  configText: string,
  reference: Reference,
): Promise<Uint8Array | undefined> {
  const config = namedImageOf(configText);
  const expected = await expectedRegistersOf(config, bootLog, reference);
  if (!expected) return undefined;
  requireRegisters(td, expected);
  return requireAllowedImage(config.osImageHash, reference);
}

/** What a VM's registers should be; undefined where nobody knows. Throws `attestation/refused`. */
export async function expectedRegistersOf(
  config: VmConfig,
  bootLog: readonly TdxEvent[],
  reference: Reference,
): Promise<ReferenceRegisters | undefined> {
  return config.tdxAttestationVariant === "lite"
    ? registersOfDocument(config, bootLog)
    : await registersOfImage(config, bootLog, reference);
}

/** The configuration of a VM, which must name an image. Throws `attestation/refused`. */
export function namedImageOf(configText: string): VmConfig {
  const config = refuseAs("os-image-document-malformed", () => vmConfigOf(configText));
  if (config.osImageHash.length === 32) return config;
  throw refusal("os-image-unknown", "The configuration names no OS image");
}

/** Answers the hash if the caller's reference allows that image. Throws `attestation/refused`. */
export function requireAllowedImage(
  osImageHash: Uint8Array,
  { osImageHashes }: Reference,
): Uint8Array {
  if (osImageHashes && !osImageHashes.some((one) => equalBytes(one, osImageHash))) {
    throw refusal("os-image-not-allowed", `OS image ${toHex(osImageHash)} is not an expected one`);
  }
  return osImageHash;
}

/** Parses an image's document of that name, which must be the image's. Throws `attestation/refused`. */
export function imageDocument<T>(
  osImageHash: Uint8Array,
  fileName: string,
  material: MeasurementMaterial | undefined,
  parse: (document: Uint8Array) => T,
): T {
  if (!material) {
    throw refusal("os-image-document-malformed", "The configuration has no measurement document");
  }
  refuseAs(
    "os-image-document-mismatch",
    () => checkMeasurementBinding(osImageHash, fileName, material),
  );
  return refuseAs("os-image-document-malformed", () => parse(material.measurement));
}

function registersOfDocument(config: VmConfig, bootLog: readonly TdxEvent[]): ReferenceRegisters {
  if (config.ovmfVariant !== undefined && config.ovmfVariant !== OVMF_VARIANT) {
    throw refusal(
      "os-image-document-mismatch",
      "The configuration and the measurement document name different firmware layouts",
    );
  }
  const document = imageDocument(
    config.osImageHash,
    DOCUMENT_NAME,
    config.tdxMeasurement,
    parseTdxMeasurementDocument,
  );
  return refuseAs("os-image-document-malformed", () =>
    expectedTdxRegisters({
      document,
      memoryBytes: config.memoryBytes,
      twoPass: usesTwoPass(config),
      acpiDigests: acpiDigestsOf(bootLog),
    }));
}

/** A configuration whose registers cannot be computed is the evidence's fault; a bad image is ours. */
async function registersOfImage(
  config: VmConfig,
  bootLog: readonly TdxEvent[],
  reference: Reference,
): Promise<ReferenceRegisters | undefined> {
  refuseAs("os-image-document-malformed", () => qemuReleaseOf(config));
  requireAllowedImage(config.osImageHash, reference);
  try {
    return await reference.registersOf?.(config, bootLog);
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "measurement/unsupported") throw error;
    throw refusal("os-image-document-malformed", error.message, error);
  }
}

function requireRegisters(td: TdReportBody, expected: ReferenceRegisters): void {
  const pairs = [
    ["MRTD", td.mrTd, expected.mrTd],
    ["RTMR0", td.rtmrs[0], expected.rtmrs[0]],
    ["RTMR1", td.rtmrs[1], expected.rtmrs[1]],
    ["RTMR2", td.rtmrs[2], expected.rtmrs[2]],
  ] as const;
  const differing = pairs.filter(([, actual, wanted]) => !equalBytes(actual, wanted))
    .map(([name]) => name);
  if (differing.length > 0) {
    throw refusal(
      "os-image-register-mismatch",
      `${differing.join(", ")} ${
        differing.length === 1 ? "is" : "are"
      } not what this image and VM shape yield`,
    );
  }
}

/** What parsers and binding checks say about untrusted configuration becomes a refusal. */
export function refuseAs<T>(code: ReasonCode, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof AppError) || error.code === "internal") throw error;
    if (error.code === "attestation/refused") throw error;
    throw refusal(code, error.message, error);
  }
}
