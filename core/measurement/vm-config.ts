import { fromBase64, toBase64, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import type { QemuRelease } from "./acpi/machine.ts";

/** sha256sum.txt and one measurement file of an image, as they stand. */
export interface MeasurementMaterial {
  readonly checksumFile: Uint8Array;
  readonly measurement: Uint8Array;
}

/** What a VM looks like to whoever recomputes its registers (spec/attestation.md 3.5). */
export interface VmConfig {
  /** SHA-256 of the image's sha256sum.txt; empty when the image has none. */
  readonly osImageHash: Uint8Array;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  /** The wire calls it `qemu_single_pass_add_pages`, yet true means two passes. */
  readonly twoPassAddPages?: boolean;
  readonly pic?: boolean;
  readonly qemuVersion?: string;
  /** Bytes. */
  readonly pciHole64Size: number;
  readonly hugepages: boolean;
  readonly numGpus: number;
  readonly numNvswitches: number;
  readonly numNics: number;
  readonly numVerityVolumes: number;
  readonly swtpm: boolean;
  readonly hotplugOff: boolean;
  readonly image?: string;
  readonly hostShareMode: string;
  readonly ovmfVariant?: string;
  readonly tdxAttestationVariant: "legacy" | "lite";
  readonly tdxMeasurement?: MeasurementMaterial;
  readonly gcpMeasurement?: MeasurementMaterial;
  readonly awsMeasurement?: MeasurementMaterial;
}

const MAX_U32 = 0xffff_ffff;

/**
 * Parses VmConfig JSON. Members are optional and unknown ones ignored, as a VMM adds its own.
 * Throws `input/malformed`.
 */
export function parseVmConfig(text: string): VmConfig {
  const o = new JsonObject(parseStrictJson(text, "vm_config"), "vm_config").withoutNulls();
  return {
    osImageHash: o.hex("os_image_hash", undefined, new Uint8Array()),
    cpuCount: o.unsigned("cpu_count", MAX_U32, 0),
    memoryBytes: o.unsigned("memory_size", Number.MAX_SAFE_INTEGER, 0),
    ...defined("twoPassAddPages", o.boolean("qemu_single_pass_add_pages", undefined)),
    ...defined("pic", o.boolean("pic", undefined)),
    ...defined("qemuVersion", o.string("qemu_version", undefined)),
    pciHole64Size: o.unsigned("pci_hole64_size", Number.MAX_SAFE_INTEGER, 0),
    hugepages: o.boolean("hugepages", false),
    numGpus: o.unsigned("num_gpus", MAX_U32, 0),
    numNvswitches: o.unsigned("num_nvswitches", MAX_U32, 0),
    numNics: o.unsigned("num_nics", MAX_U32, 1),
    numVerityVolumes: o.unsigned("num_verity_volumes", MAX_U32, 0),
    swtpm: o.boolean("swtpm", false),
    hotplugOff: o.boolean("hotplug_off", false),
    ...defined("image", o.string("image", undefined)),
    hostShareMode: o.string("host_share_mode", ""),
    ...defined("ovmfVariant", o.string("ovmf_variant", undefined)),
    tdxAttestationVariant: o.oneOf("tdx_attestation_variant", ["legacy", "lite"], "legacy"),
    ...defined("tdxMeasurement", material(o, "tdx_measurement")),
    ...defined("gcpMeasurement", material(o, "gcp_measurement")),
    ...defined("awsMeasurement", material(o, "aws_measurement")),
  };
}

/**
 * The member order and omissions of the reference: hashes are taken of this text. Absent optional
 * members and defaults marked so in the specification are left out.
 */
export function encodeVmConfig(config: VmConfig): string {
  return JSON.stringify(vmConfigMembers(config));
}

/** The same as an object, for a VMM that adds `spec_version` and platform members of its own. */
export function vmConfigMembers(config: VmConfig): Record<string, unknown> {
  return {
    os_image_hash: toHex(config.osImageHash),
    cpu_count: config.cpuCount,
    memory_size: config.memoryBytes,
    ...defined("qemu_single_pass_add_pages", config.twoPassAddPages),
    ...defined("pic", config.pic),
    ...defined("qemu_version", config.qemuVersion),
    pci_hole64_size: config.pciHole64Size,
    hugepages: config.hugepages,
    num_gpus: config.numGpus,
    num_nvswitches: config.numNvswitches,
    ...unless(1, "num_nics", config.numNics),
    ...unless(0, "num_verity_volumes", config.numVerityVolumes),
    ...unless(false, "swtpm", config.swtpm),
    hotplug_off: config.hotplugOff,
    ...defined("image", config.image),
    host_share_mode: config.hostShareMode,
    ...defined("ovmf_variant", config.ovmfVariant),
    ...unless("legacy", "tdx_attestation_variant", config.tdxAttestationVariant),
    ...defined("tdx_measurement", encodeMaterial(config.tdxMeasurement)),
    ...defined("gcp_measurement", encodeMaterial(config.gcpMeasurement)),
    ...defined("aws_measurement", encodeMaterial(config.awsMeasurement)),
  };
}

/**
 * Whether this QEMU adds all pages before it measures any. An explicit member wins.
 * Throws `measurement/unsupported` for QEMU before 8.
 */
export function usesTwoPass(config: VmConfig): boolean {
  return config.twoPassAddPages ?? qemuReleaseOf(config)[0] === 8;
}

/** Whether this QEMU gives a TD a legacy interrupt controller. An explicit member wins. */
export function usesPic(config: VmConfig): boolean {
  return config.pic ?? qemuReleaseOf(config)[0] === 8;
}

/** Whether this QEMU writes into the header of the kernel of a TD; from 10.2 on it leaves it alone. */
export function patchesKernelHeader(config: VmConfig): boolean {
  const [major, minor] = qemuReleaseOf(config);
  return major < 10 || (major === 10 && minor < 2);
}

/** 9.1.0 unless the configuration says otherwise. Throws for a malformed or unsupported one. */
export function qemuReleaseOf({ qemuVersion = "9.1.0" }: VmConfig): QemuRelease {
  const parts = /^([0-9]{1,5})\.([0-9]{1,5})\.([0-9]{1,5})$/.exec(qemuVersion);
  if (parts === null) {
    throw new AppError(
      "input/malformed",
      `Cannot parse qemu_version ${JSON.stringify(qemuVersion)}`,
    );
  }
  const [major, minor, patch] = parts.slice(1).map(Number) as [number, number, number];
  if (major >= 8) return [major, minor, patch];
  throw new AppError(
    "measurement/unsupported",
    `QEMU ${qemuVersion} is not supported: 8.0.0 or newer`,
  );
}

function material(o: JsonObject, name: string): MeasurementMaterial | undefined {
  if (!o.has(name)) return undefined;
  const m = new JsonObject(o.raw(name), `vm_config: ${name}`);
  return {
    checksumFile: fromBase64(m.string("checksum_file"), `vm_config: ${name}.checksum_file`),
    measurement: fromBase64(m.string("measurement"), `vm_config: ${name}.measurement`),
  };
}

function encodeMaterial(value: MeasurementMaterial | undefined) {
  return value && {
    checksum_file: toBase64(value.checksumFile),
    measurement: toBase64(value.measurement),
  };
}

/** A member that is left out when it has no value. */
function defined<K extends string, T>(name: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { [P in K]?: T };
}

function unless<T>(omitted: T, name: string, value: T): Record<string, T> {
  return value === omitted ? {} : { [name]: value };
}
