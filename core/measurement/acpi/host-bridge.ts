import {
  type Aml,
  and,
  arg,
  buffer,
  declare,
  dereference,
  device,
  dwordField,
  eisaId,
  element,
  equal,
  giveBack,
  integer,
  less,
  list,
  local,
  method,
  name,
  not,
  ONE,
  or,
  otherwise,
  scope,
  store,
  string,
  uuid,
  when,
  ZERO,
} from "./aml.ts";
import { type AcpiMachine, CHIPSET, hole64SizeOf, memoryBelow4g } from "./machine.ts";
import { busNumbers, ioPorts, ioRange, memory32, memory64, resources } from "./resource.ts";

const HOST_BRIDGE_UUID = "33db4d5b-1ff7-401c-9657-7441c03dd766";
const DEVICE_LABEL_UUID = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";

/** `\_SB.PCI0` and the memory its configuration space takes. */
export function hostBridge(machine: AcpiMachine): Aml {
  const { base, size } = CHIPSET.mmconfig;
  return scope(
    "_SB",
    device(
      "PCI0",
      declare("_HID", eisaId("PNP0A08")),
      declare("_CID", eisaId("PNP0A03")),
      declare("_UID", ZERO),
      operatingSystemCapabilities({ nativeHotplug: !machine.pciHotplug }),
      edsm(),
    ),
    device(
      "DRAC",
      declare("_HID", string("PNP0C01")),
      declare("_CRS", resources(memory32(base, base + size - 1, "nonCacheable"))),
    ),
  );
}

/** Which features of PCI Express the guest may control itself. */
export function operatingSystemCapabilities(options: { readonly nativeHotplug: boolean }): Aml {
  const granted = integer(options.nativeHotplug ? 0x1f : 0x1e);
  const status = name("CDW1");
  const control = local(0);
  const report = (bit: number) => or(status, integer(bit), status);
  return method(
    "_OSC",
    4,
    "notSerialized",
    dwordField(arg(3), ZERO, "CDW1"),
    when(
      equal(arg(0), uuid(HOST_BRIDGE_UUID)),
      dwordField(arg(3), integer(4), "CDW2"),
      dwordField(arg(3), integer(8), "CDW3"),
      store(name("CDW3"), control),
      and(control, granted, control),
      when(not(equal(arg(1), ONE)), report(0x08)), // unknown revision
      when(not(equal(name("CDW3"), control)), report(0x10)), // capabilities were masked
      store(control, name("CDW3")),
    ),
    otherwise(report(0x04)), // unrecognised UUID
    giveBack(arg(3)),
  );
}

/** Start of a _DSM for function 0: nothing is supported unless UUID and revision are right. */
export function supportsNothingUnlessLabelled(result: Aml): Aml[] {
  return [
    store(buffer(Uint8Array.of(0)), result),
    when(not(equal(arg(0), uuid(DEVICE_LABEL_UUID))), giveBack(result)),
    when(less(arg(1), integer(2)), giveBack(result)),
  ];
}

/** _DSM of a device whose index never changes. */
function edsm(): Aml {
  const result = local(0);
  const index = local(1);
  return method(
    "EDSM",
    5,
    "serialized",
    when(
      equal(arg(2), ZERO),
      ...supportsNothingUnlessLabelled(result),
      store(integer(0x81), element(result, ZERO)), // functions 0 and 7
      giveBack(result),
    ),
    when(
      equal(arg(2), integer(7)),
      store(list([ZERO, string("")]), result),
      store(dereference(element(arg(4), ZERO)), index),
      store(index, element(result, ZERO)),
      giveBack(result),
    ),
  );
}

/** What PCI0 decodes, and the chipset's own ports. */
export function hostBridgeResources(machine: AcpiMachine, lastBus: number): Aml {
  const { mmconfig, hole64, pmBase, gpe0Offset, gpe0Length } = CHIPSET;
  const windows = [
    busNumbers(0, lastBus),
    ioPorts(0xcf8, 8),
    ioRange(0, 0xcf7),
    ioRange(0xd00, 0xffff),
    memory32(0xa_0000, 0xb_ffff, "cacheable"), // VGA
    memory32(memoryBelow4g(machine.memoryBytes), mmconfig.base - 1, "nonCacheable"),
    memory32(mmconfig.base + mmconfig.size, CHIPSET.ioApic - 1, "nonCacheable"),
    memory64(hole64.base, hole64.base + hole64SizeOf(machine) - 1, "cacheable"),
  ];
  const reserved = [reservedPorts("GPE0", "GPE0 resources", pmBase + gpe0Offset, gpe0Length)];
  if (machine.pciHotplug) {
    const { pciHotplugBase, pciHotplugLength } = CHIPSET;
    reserved.push(
      reservedPorts("PHPR", "PCI Hotplug resources", pciHotplugBase, pciHotplugLength),
    );
  }
  return scope("\\_SB.PCI0", declare("_CRS", resources(...windows)), ...reserved);
}

function reservedPorts(path: string, uid: string, base: number, length: number): Aml {
  return device(
    path,
    declare("_HID", string("PNP0A06")),
    declare("_UID", string(uid)),
    declare("_STA", integer(0x0b)), // present, functioning, decoding, not shown
    declare("_CRS", resources(ioPorts(base, length))),
  );
}
