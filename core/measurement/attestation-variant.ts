import { AppError } from "../errors/app-error.ts";
import { supportsLiteMeasurement } from "./expected-registers.ts";
import type { VmConfig } from "./vm-config.ts";

export type AttestationVariant = VmConfig["tdxAttestationVariant"];

export const VARIANT_POLICIES = ["auto", "legacy", "lite"] as const;
export type VariantPolicy = (typeof VARIANT_POLICIES)[number];

/** `auto` stays with the image itself up to here, but for exactly 2 GiB (spec/vmm.md section 4.5). */
const AUTO_LITE_FROM = 3 * 2 ** 30;

/**
 * Which variant a TD attests with. Throws `measurement/unsupported` for `lite` without a measurement
 * document or with a memory size no document covers.
 */
export function attestationVariantOf(
  policy: VariantPolicy,
  memoryBytes: number,
  hasDocument: boolean,
): AttestationVariant {
  if (policy === "legacy") return "legacy";
  if (policy === "auto") {
    const covered = memoryBytes === 2 * 2 ** 30 || memoryBytes >= AUTO_LITE_FROM;
    return covered && hasDocument ? "lite" : "legacy";
  }
  if (!hasDocument) throw unsupported("the image has no measurement document");
  if (!supportsLiteMeasurement(memoryBytes)) {
    throw unsupported("a document covers exactly 2 GiB of memory or 2816 MiB and more");
  }
  return "lite";
}

function unsupported(why: string): AppError {
  return new AppError("measurement/unsupported", `The lite variant cannot be used: ${why}`);
}
