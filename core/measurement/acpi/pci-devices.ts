import { type Aml, declare, device, integer, scope } from "./aml.ts";
import { isaBridge } from "./isa-devices.ts";
import type { AcpiDialect, PciTopology, RootPort } from "./machine.ts";
import { hotplugSlot } from "./pci-hotplug.ts";

const ICH9_SLOT = 31;

/** Every function on the root bus, in slot order; a device says no more of itself than its address. */
export function pciDevices(topology: PciTopology, dialect: AcpiDialect): Aml {
  const portAt = new Map(topology.rootPorts.map((port) => [port.slot, port]));
  const slots = [...topology.endpointSlots, ...portAt.keys()].toSorted((a, b) => a - b);
  const devices = slots.map((slot) => {
    const port = portAt.get(slot);
    return port === undefined ? pciFunction(slot, 0) : pciFunction(slot, 0, ...behind(port));
  });
  return scope(
    "\\_SB",
    scope(
      "PCI0",
      pciFunction(0, 0),
      ...devices,
      pciFunction(ICH9_SLOT, 0, ...isaBridge(dialect)),
      pciFunction(ICH9_SLOT, 2), // SATA
      pciFunction(ICH9_SLOT, 3), // SMBus
    ),
  );
}

function behind({ hotplugBus }: RootPort): Aml[] {
  const passedThrough = pciFunction(0, 0);
  return hotplugBus === undefined ? [passedThrough] : [passedThrough, ...hotplugSlot(hotplugBus)];
}

function pciFunction(slot: number, fn: number, ...terms: Aml[]): Aml {
  return device(slotName(slot, fn), declare("_ADR", integer(slot * 0x1_0000 + fn)), ...terms);
}

export function slotName(slot: number, fn = 0): string {
  return `S${(slot * 8 + fn).toString(16).toUpperCase().padStart(2, "0")}`;
}
