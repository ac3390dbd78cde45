import { AppError } from "#core/errors/app-error.ts";
import { utf8 } from "#core/bytes/bytes.ts";
import { type VmConfig, vmConfigMembers } from "#core/measurement/vm-config.ts";
import type { GuestImage } from "../images/guest-image.ts";

/** What a guest's `.sys-config.json` says beyond its image and shape. */
export interface SysConfigInput {
  readonly image: GuestImage;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly nicCount: number;
  readonly qemuVersion: string;
  readonly pciHole64Size: number;
  readonly hotplugOff: boolean;
  readonly noTee: boolean;
  readonly kmsUrls: readonly string[];
  readonly gatewayUrls: readonly string[];
  readonly pccsUrl: string;
  readonly nvidiaAttestationProxyUrl: string | undefined;
  readonly dockerRegistry: string;
  readonly hostApiUrl: string;
  readonly hostApiToken: string;
}

/** The guest copies at most this much of the file (spec/vmm.md section 4.1). */
const MAX_SYS_CONFIG_BYTES = 32 * 1024;

/** `.sys-config.json` (spec/vmm.md section 4.5). It never carries a trust anchor. */
export function encodeSysConfig(input: SysConfigInput): string {
  const text = JSON.stringify({
    kms_urls: input.kmsUrls,
    gateway_urls: input.gatewayUrls,
    pccs_url: input.pccsUrl,
    collateral_urls: { pccs: input.pccsUrl },
    nvidia_attestation_proxy_url: input.nvidiaAttestationProxyUrl ?? null,
    docker_registry: input.dockerRegistry,
    host_api_url: input.hostApiUrl,
    host_api_token: input.hostApiToken,
    vm_config: JSON.stringify({
      ...vmConfigMembers(vmConfigOf(input)),
      spec_version: 1,
    }),
  });
  if (utf8(text).length > MAX_SYS_CONFIG_BYTES) {
    throw new AppError("input/too-large", "The guest's system configuration exceeds 32 KiB");
  }
  return text;
}

/** What a verifier is told of the VM. */
export function vmConfigOf(input: SysConfigInput): VmConfig {
  const { image } = input;
  return {
    osImageHash: image.osImageHash,
    cpuCount: input.vcpus,
    memoryBytes: input.memoryMib * 2 ** 20,
    qemuVersion: input.qemuVersion,
    pciHole64Size: input.pciHole64Size,
    hugepages: false,
    numGpus: 0,
    numNvswitches: 0,
    numNics: input.nicCount,
    numVerityVolumes: 0,
    swtpm: false,
    hotplugOff: input.hotplugOff,
    image: image.name,
    hostShareMode: "vhd",
    ...(image.ovmfVariant === undefined ? {} : { ovmfVariant: image.ovmfVariant }),
    tdxAttestationVariant: input.noTee ? "legacy" : "lite",
    ...(input.noTee || image.tdxMeasurement === undefined ? {} : {
      tdxMeasurement: { checksumFile: image.checksumFile, measurement: image.tdxMeasurement },
    }),
  };
}
