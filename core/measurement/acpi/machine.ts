import { AppError } from "../../errors/app-error.ts";

/** What decides the ACPI tables of a q35 machine started as dstack starts it (spec/attestation.md 5.6). */
export interface AcpiMachine {
  readonly qemu: QemuRelease;
  /** 1 to 4096. */
  readonly cpuCount: number;
  readonly memoryBytes: number;
  /** A legacy interrupt controller: QEMU gives a TD none from 9.0 on. */
  readonly pic: boolean;
  readonly smm: boolean;
  /** Devices on the root bus that take the first free slots: disks, NICs, vsock, the host's share. */
  readonly endpoints: number;
  /** Passed-through devices, each behind a root port of its own. */
  readonly gpus: number;
  readonly nvswitches: number;
  /** Hot plug of devices behind bridges through ACPI. */
  readonly pciHotplug: boolean;
  /** Bytes of the 64-bit window for PCI memory; 0 leaves QEMU's 32 GiB. */
  readonly pciHole64Size: number;
  /** One NUMA node over all processors and memory, and the GPUs on an expander bridge of it. */
  readonly hugepages: boolean;
}

export type QemuRelease = readonly [major: number, minor: number, patch: number];

/** What differs between releases in the tables of such a machine. */
export interface AcpiDialect {
  /**
   * Interrupts are reported as edge triggered. The QEMU 8 and 9.1 that run TDs carry Intel's patch
   * "force edge trigger in acpi tables", which upstream's TDX support (10.1) and 9.2's port do without.
   */
  readonly interrupts: "edge" | "level";
  /** PDSM returns an uninitialised package for a device without an index (from 9.2). */
  readonly indexLabelWithheld: boolean;
  /** CSCN collects removals before it notifies of them (from 10.0). */
  readonly batchedCpuRemoval: boolean;
  /** The CPU hot-plug device switches off the legacy interface first (until 10.2). */
  readonly legacyCpuHotplug: boolean;
  /** The serial port's interrupt is level triggered and shared (from 11.1). */
  readonly sharedSerialIrq: boolean;
}

export function dialectOf(release: QemuRelease): AcpiDialect {
  const from = (major: number, minor: number) =>
    release[0] > major || (release[0] === major && release[1] >= minor);
  return {
    interrupts: from(9, 2) ? "level" : "edge",
    indexLabelWithheld: from(9, 2),
    batchedCpuRemoval: from(10, 0),
    legacyCpuHotplug: !from(11, 0),
    sharedSerialIrq: from(11, 1),
  };
}

/** Where firmware and chipset put things; the same in every such machine. */
export const CHIPSET = {
  /** Power management block, as OVMF sets it. */
  pmBase: 0x600,
  gpe0Offset: 0x20,
  gpe0Length: 16,
  sci: 9,
  smiCommand: 0xb2,
  resetPort: 0xcf9,
  pciHotplugBase: 0xcc0,
  pciHotplugLength: 0x18,
  cpuHotplugBase: 0xcd8,
  cpuHotplugLength: 12,
  fwCfgBase: 0x510,
  fwCfgLength: 12,
  localApic: 0xfee0_0000,
  ioApic: 0xfec0_0000,
  /** PCIEXBAR as OVMF sets it. */
  mmconfig: { base: 0xe000_0000, size: 0x1000_0000 },
  /** Where OVMF puts the 64-bit window of a guest with 46 address bits. */
  hole64: { base: 0x3800_0000_0000, defaultSize: 32 * 2 ** 30, alignment: 2 ** 30 },
  above4g: 0x1_0000_0000,
} as const;

/** The highest APIC id that the 8-bit structures can hold. */
export const MAX_XAPIC_ID = 254;

const MAX_CPUS = 4096;
/** Processors address no more. */
const MAX_ADDRESS = 2 ** 52;
/** Slots 1 to 30 of the root bus: 0 is the host bridge, 31 the ICH9. */
const MAX_SLOTS = 30;
const PXB_SLOT = 16;
export const PXB_BUS = 5;

/** Bytes of memory below 4 GiB: q35 leaves room for MMIO. */
export function memoryBelow4g(memoryBytes: number): number {
  return memoryBytes >= 0xb000_0000 ? 0x8000_0000 : memoryBytes;
}

/** A root port and the slot it stands in. */
export interface RootPort {
  readonly slot: number;
  /** Number of its bus for ACPI hot plug; undefined when that is off. */
  readonly hotplugBus: number | undefined;
}

export interface PciTopology {
  /** Slots of devices on the root bus with nothing behind them, in order. */
  readonly endpointSlots: readonly number[];
  readonly rootPorts: readonly RootPort[];
  readonly hasExpander: boolean;
}

/** How QEMU places the devices. Throws `measurement/unsupported` when there are more than slots. */
export function pciTopologyOf(machine: AcpiMachine): PciTopology {
  const { endpoints, gpus, nvswitches, pciHotplug } = machine;
  const hasExpander = machine.hugepages && gpus > 0;
  const portCount = nvswitches + (hasExpander ? 0 : gpus);
  const taken = hasExpander ? [PXB_SLOT] : [];
  const free = Array.from({ length: MAX_SLOTS }, (_, i) => i + 1)
    .filter((slot) => !taken.includes(slot));
  if (hasExpander && endpoints >= PXB_SLOT) {
    throw unsupported(`${endpoints} devices leave the NUMA expander bridge no slot`);
  }
  if (endpoints + portCount > free.length) {
    throw unsupported(`${endpoints + portCount} devices need more slots than the root bus has`);
  }
  if (hasExpander && gpus > 32) throw unsupported(`${gpus} GPUs on one expander bridge`);
  const portSlots = free.slice(endpoints, endpoints + portCount);
  return {
    endpointSlots: [...free.slice(0, endpoints), ...taken].toSorted((a, b) => a - b),
    rootPorts: portSlots.map((slot, i) => ({
      slot,
      // QEMU numbers buses from the one made last.
      hotplugBus: pciHotplug ? portCount - 1 - i : undefined,
    })),
    hasExpander,
  };
}

/** Bytes of the 64-bit window; QEMU rounds its end up. */
export function hole64SizeOf({ pciHole64Size }: AcpiMachine): number {
  const { alignment, defaultSize } = CHIPSET.hole64;
  return Math.ceil((pciHole64Size || defaultSize) / alignment) * alignment;
}

/** Throws `measurement/unsupported` for numbers no QEMU takes. */
export function checkMachine(machine: AcpiMachine): void {
  const { cpuCount, memoryBytes } = machine;
  if (!Number.isSafeInteger(cpuCount) || cpuCount < 1 || cpuCount > MAX_CPUS) {
    throw unsupported(`${cpuCount} processors, 1 to ${MAX_CPUS} are possible`);
  }
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < 1 || memoryBytes > MAX_ADDRESS) {
    throw unsupported(`${memoryBytes} bytes of memory`);
  }
  if (CHIPSET.hole64.base + hole64SizeOf(machine) > MAX_ADDRESS) {
    throw unsupported(`a 64-bit PCI window of ${machine.pciHole64Size} bytes`);
  }
}

function unsupported(why: string): AppError {
  return new AppError("measurement/unsupported", `Cannot predict ACPI tables: ${why}`);
}
