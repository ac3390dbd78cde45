import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";
import { parseVmConfig, type VmConfig } from "../measurement/vm-config.ts";

/**
 * The `config` of an attestation is the VmConfig JSON, or a whole sys-config with VmConfig as a string
 * member `vm_config` (guests of both kinds exist). The text says nothing trustworthy before the
 * registers recompute from it. Throws `input/malformed`.
 */
export function vmConfigTextOf(config: string): string {
  const json = new JsonObject(parseStrictJson(config, "vm_config"), "vm_config");
  const nested = json.has("os_image_hash") ? undefined : json.raw("vm_config");
  return typeof nested === "string" ? nested : config;
}

/** Parses VmConfig in either shape. Throws `input/malformed`. */
export function vmConfigOf(config: string): VmConfig {
  return parseVmConfig(vmConfigTextOf(config));
}

/** The MrConfigV3 document a VMM sends along, as received; undefined without one. */
export function mrConfigDocumentOf(config: string): string | undefined {
  const text = vmConfigTextOf(config);
  const json = new JsonObject(parseStrictJson(text, "vm_config"), "vm_config");
  const document = json.raw("mr_config");
  return typeof document === "string" ? document : undefined;
}

/** The image the guest claims to run; empty when the configuration does not say or cannot be read. */
export function osImageHashOf(config: string): Uint8Array {
  try {
    return vmConfigOf(config).osImageHash;
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) return new Uint8Array(0);
    throw error;
  }
}

/** How many GPUs the configuration names; undefined when it cannot be read. */
export function numGpusOf(config: string): number | undefined {
  try {
    return vmConfigOf(config).numGpus;
  } catch (error) {
    if (error instanceof AppError && error.code.startsWith("input/")) return undefined;
    throw error;
  }
}

/** `sev_snp_measurement` of a VM's configuration, as received; undefined without one. Throws `input/malformed`. */
export function snpMeasurementOf(config: string): string | undefined {
  const text = vmConfigTextOf(config);
  const json = new JsonObject(parseStrictJson(text, "vm_config"), "vm_config");
  const material = json.raw("sev_snp_measurement");
  return typeof material === "string" ? material : undefined;
}
