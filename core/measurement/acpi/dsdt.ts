import { encodeTable } from "./acpi-table.ts";
import {
  ACCESS,
  type Aml,
  amlBytes,
  arg,
  declare,
  dereference,
  device,
  eisaId,
  element,
  field,
  increment,
  integer,
  less,
  list,
  local,
  loop,
  method,
  name,
  ONE,
  operationRegion,
  scope,
  sizeOf,
  SPACE,
  store,
  string,
  subtract,
  toBuffer,
  toHexString,
  UPDATE,
  ZERO,
} from "./aml.ts";
import { hostBridge, hostBridgeResources, operatingSystemCapabilities } from "./host-bridge.ts";
import { expanderRoutes, interruptRouting } from "./interrupt-routing.ts";
import { fwCfgDevice } from "./isa-devices.ts";
import { type AcpiMachine, dialectOf, pciTopologyOf, PXB_BUS } from "./machine.ts";
import { pciDevices } from "./pci-devices.ts";
import { pciHotplugEvents, pciHotplugRegisters } from "./pci-hotplug.ts";
import { processors } from "./processors.ts";
import { busNumbers, resources } from "./resource.ts";

/** The machine's devices, in the order QEMU writes them (hw/i386/acpi-build.c). */
export function encodeDsdt(machine: AcpiMachine): Uint8Array {
  const dialect = dialectOf(machine.qemu);
  const topology = pciTopologyOf(machine);
  const lastBus = topology.hasExpander ? PXB_BUS - 1 : 255;
  return encodeTable(
    "DSDT",
    1,
    amlBytes(
      debugPort(),
      hostBridge(machine),
      ...(machine.pciHotplug ? [pciHotplugRegisters(dialect)] : []),
      ...interruptRouting(dialect),
      scope("_GPE", declare("_HID", string("ACPI0006"))),
      ...processors(machine, dialect),
      ...(topology.hasExpander ? [expanderBridge()] : []),
      hostBridgeResources(machine, lastBus),
      sleepStates(),
      fwCfgDevice(),
      pciDevices(topology, dialect),
      ...(machine.pciHotplug ? pciHotplugEvents(topology) : []),
    ),
  );
}

/** DBUG writes a value in hex to the debug port. */
function debugPort(): Aml {
  const [text, length, at] = [local(0), local(1), local(2)];
  return scope(
    "\\",
    operationRegion("DBG", SPACE.systemIo, 0x402, 1),
    field("DBG", ACCESS.byte, UPDATE.preserve, [["DBGB", 8]]),
    method(
      "DBUG",
      1,
      "notSerialized",
      toHexString(arg(0), text),
      toBuffer(text, text),
      subtract(sizeOf(text), ONE, length),
      store(ZERO, at),
      loop(
        less(at, length),
        store(dereference(element(text, at)), name("DBGB")),
        increment(at),
      ),
      store(integer(0x0a), name("DBGB")),
    ),
  );
}

/** The root bus of the expander bridge on NUMA node 0. */
function expanderBridge(): Aml {
  const bus = integer(PXB_BUS);
  return scope(
    "\\_SB",
    device(
      `PC${PXB_BUS.toString(16).toUpperCase().padStart(2, "0")}`,
      declare("_UID", bus),
      declare("_BBN", bus),
      declare("_HID", eisaId("PNP0A08")),
      declare("_CID", eisaId("PNP0A03")),
      operatingSystemCapabilities({ nativeHotplug: true }),
      declare("_PXM", ZERO),
      expanderRoutes(),
      declare("_CRS", resources(busNumbers(PXB_BUS, PXB_BUS))),
    ),
  );
}

function sleepStates(): Aml {
  const state = (path: string, type: Aml) => declare(path, list([type, type, ZERO, ZERO]));
  return scope("\\", state("_S3", ONE), state("_S4", integer(2)), state("_S5", ZERO));
}
