import { AppError } from "../../errors/app-error.ts";
import { qemuReleaseOf, usesPic, type VmConfig } from "../vm-config.ts";
import type { AcpiMachine } from "./machine.ts";

/** How the host's folder reaches the guest: a 9p device, or a disk. Either takes one slot. */
const SHARE_MODES = ["", "9p", "vhd", "vvfat"];
/** Root image, data disk, vsock, the host's share. */
const FIXED_ENDPOINTS = 4;

/**
 * The machine dstack starts for a configuration (spec/attestation.md 5.6). What kind of device stands
 * in a slot does not matter to its tables, only that one does.
 *
 * Throws `measurement/unsupported` for a configuration whose tables nobody predicts.
 */
export function acpiMachineOf(config: VmConfig): AcpiMachine {
  if (config.swtpm) {
    throw unsupported("a software TPM proves nothing, its tables are not predicted");
  }
  if (!SHARE_MODES.includes(config.hostShareMode)) {
    throw unsupported(`host_share_mode ${JSON.stringify(config.hostShareMode)}`);
  }
  return {
    qemu: qemuReleaseOf(config),
    cpuCount: config.cpuCount,
    memoryBytes: config.memoryBytes,
    pic: usesPic(config),
    smm: false, // a TD has none
    endpoints: FIXED_ENDPOINTS + config.numVerityVolumes + config.numNics,
    gpus: config.numGpus,
    // A VM without GPUs gets no NVSwitches either.
    nvswitches: config.numGpus > 0 ? config.numNvswitches : 0,
    pciHotplug: !config.hotplugOff,
    pciHole64Size: config.pciHole64Size,
    hugepages: config.hugepages,
  };
}

function unsupported(why: string): AppError {
  return new AppError("measurement/unsupported", `Cannot predict ACPI tables: ${why}`);
}
