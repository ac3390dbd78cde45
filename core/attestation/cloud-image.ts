import { equalBytes, fromHex } from "../bytes/bytes.ts";
import { CborObject } from "../encoding/cbor-object.ts";
import { refusal } from "../errors/refusal.ts";
import type { NitroDocument } from "../nitro/attestation-document.ts";
import type { PcrBank } from "../tpm/pcr.ts";
import { BOOT_PCRS, ENCLAVE_PCRS, pcrAggregateOf } from "./app-info.ts";
import type { TpmQuote } from "./attestation.ts";
import { imageDocument, namedImageOf, requireAllowedImage } from "./os-image.ts";
import type { Reference } from "./reference.ts";

/** PCR0 of Google's confidential VM firmware, which measures the same on every machine. */
const GCP_FIRMWARE_PCR0 = fromHex(
  "0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802",
);
/** Which event of PCR2 measures the unified kernel image. */
const UKI_EVENT = 2;
const MAX_DOCUMENT_BYTES = 4096;

/**
 * The image of a Google Cloud VM: its firmware is Google's (PCR0), and the unified kernel image that PCR2
 * measures is the image's (spec attestation.md 6.2). Google's hosts choose MRTD, so it says nothing.
 * Throws `attestation/refused`.
 */
export function provenGcpImage(
  pcrs: PcrBank,
  { eventLog }: TpmQuote,
  configText: string,
  reference: Reference,
): Uint8Array {
  const { osImageHash, gcpMeasurement } = namedImageOf(configText);
  if (!equalBytes(pcrs.get(0)!, GCP_FIRMWARE_PCR0)) {
    throw refusal("os-image-register-mismatch", "PCR0 is not that of Google's firmware");
  }
  const uki = imageDocument(osImageHash, "measurement.gcp.cbor", gcpMeasurement, (bytes) => {
    const document = CborObject.decode(bytes, "GCP measurement", MAX_DOCUMENT_BYTES)
      .only(["version", "uki_auth"]);
    document.exactly("version", 1);
    return document.bytes("uki_auth", 32);
  });
  const measured = eventLog.filter(({ pcrIndex }) => pcrIndex === 2)[UKI_EVENT]?.digest;
  if (!measured || !equalBytes(measured, uki)) {
    throw refusal("os-image-register-mismatch", "PCR2 does not measure this image's kernel");
  }
  return requireAllowedImage(osImageHash, reference);
}

/** The image of an enclave: its hash is of PCR0 to PCR2. Throws `attestation/refused`. */
export function provenEnclaveImage(
  document: NitroDocument,
  configText: string,
  reference: Reference,
): Uint8Array {
  const { osImageHash } = namedImageOf(configText);
  if (!equalBytes(pcrAggregateOf(document, ENCLAVE_PCRS), osImageHash)) {
    throw refusal("os-image-register-mismatch", "PCR0 to PCR2 are not those of this image");
  }
  return requireAllowedImage(osImageHash, reference);
}

/** The image of an EC2 instance: its document has the hash of PCR4, 7 and 12. Throws `attestation/refused`. */
export function provenInstanceImage(
  document: NitroDocument,
  configText: string,
  reference: Reference,
): Uint8Array {
  const { osImageHash, awsMeasurement } = namedImageOf(configText);
  const boot = imageDocument(
    osImageHash,
    "measurement.aws.cbor",
    awsMeasurement,
    (bytes) =>
      CborObject.decode(bytes, "AWS measurement", MAX_DOCUMENT_BYTES)
        .only(["boot_pcr_digest"]).bytes("boot_pcr_digest", 32),
  );
  const hasAll = BOOT_PCRS.every((index) => document.pcrs.has(index));
  if (!hasAll || !equalBytes(pcrAggregateOf(document, BOOT_PCRS), boot)) {
    throw refusal("os-image-register-mismatch", "PCR4, PCR7 and PCR12 are not those of this image");
  }
  return requireAllowedImage(osImageHash, reference);
}
