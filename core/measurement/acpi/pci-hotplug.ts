import type { Aml } from "./aml.ts";
import {
  ACCESS,
  acquire,
  and,
  arg,
  call,
  declare,
  dereference,
  element,
  equal,
  field,
  giveBack,
  integer,
  list,
  local,
  logicalOr,
  method,
  mutex,
  name,
  not,
  notify,
  ONE,
  operationRegion,
  or,
  release,
  scope,
  shiftLeft,
  SPACE,
  store,
  string,
  UPDATE,
  when,
  ZERO,
} from "./aml.ts";
import { supportsNothingUnlessLabelled } from "./host-bridge.ts";
import { type AcpiDialect, CHIPSET, type PciTopology } from "./machine.ts";
import { slotName } from "./pci-devices.ts";

/** Registers and methods of QEMU's PCI hot-plug interface (QEMU docs/specs/acpi_pci_hotplug.rst). */
export function pciHotplugRegisters(dialect: AcpiDialect): Aml {
  const base = CHIPSET.pciHotplugBase;
  const registers = (path: string, at: number, fields: readonly string[]) => [
    operationRegion(path, SPACE.systemIo, base + at, 4 * fields.length),
    field(path, ACCESS.dword, UPDATE.writeAsZeros, fields.map((entry) => [entry, 32] as const)),
  ];
  const selectBus = store(arg(0), name("BNUM"));
  const slotBit = shiftLeft(ONE, arg(1));
  return scope(
    "_SB.PCI0",
    ...registers("PCST", 0x00, ["PCIU", "PCID"]),
    ...registers("SEJ", 0x08, ["B0EJ"]),
    ...registers("BNMR", 0x10, ["BNUM", "PIDX"]),
    mutex("BLCK"),
    method(
      "PCEJ",
      2,
      "notSerialized",
      acquire("BLCK"),
      selectBus,
      store(slotBit, name("B0EJ")),
      release("BLCK"),
      giveBack(ZERO),
    ),
    method(
      "AIDX",
      2,
      "notSerialized",
      acquire("BLCK"),
      selectBus,
      store(slotBit, name("PIDX")),
      store(name("PIDX"), local(0)),
      release("BLCK"),
      giveBack(local(0)),
    ),
    pdsm(dialect),
  );
}

/** _DSM of a device in a slot: asks QEMU for the index behind bus and slot number. */
function pdsm(dialect: AcpiDialect): Aml {
  const result = local(0);
  const functions = local(1);
  const index = local(2);
  const part = (i: number) => dereference(element(arg(4), integer(i)));
  const ask = store(call("AIDX", part(0), part(1)), index);
  const isAbsent = [equal(index, ZERO), equal(index, integer(0xffff_ffff))] as const;
  const label = dialect.indexLabelWithheld
    ? [
      ask,
      store(list([], 2), result),
      when(
        not(logicalOr(...isAbsent)),
        store(index, element(result, ZERO)),
        store(string(""), element(result, ONE)),
      ),
    ]
    : [store(list([ZERO, string("")]), result), ask, store(index, element(result, ZERO))];
  return method(
    "PDSM",
    5,
    "serialized",
    when(
      equal(arg(2), ZERO),
      ...supportsNothingUnlessLabelled(result),
      store(ZERO, functions),
      ask,
      when(
        not(or(...isAbsent)),
        or(functions, ONE, functions),
        or(functions, shiftLeft(ONE, integer(7)), functions),
      ),
      store(functions, element(result, ZERO)),
      giveBack(result),
    ),
    when(equal(arg(2), integer(7)), ...label, giveBack(result)),
  );
}

/** The one slot behind a root port, its device already declared. */
export function hotplugSlot(bus: number): Aml[] {
  const parameters = local(0);
  return [
    declare("BSEL", integer(bus)),
    scope(
      slotName(0),
      declare("ASUN", ZERO),
      method(
        "_DSM",
        4,
        "serialized",
        store(list([ZERO, ZERO]), parameters),
        store(name("BSEL"), element(parameters, ZERO)),
        store(name("ASUN"), element(parameters, ONE)),
        giveBack(call("PDSM", arg(0), arg(1), arg(2), arg(3), parameters)),
      ),
      declare("_SUN", ZERO),
      method("_EJ0", 1, "notSerialized", call("PCEJ", name("BSEL"), name("_SUN"))),
    ),
    method(
      "DVNT",
      2,
      "notSerialized",
      when(and(arg(0), ONE), notify(name(slotName(0)), arg(1))),
    ),
  ];
}

const DEVICE_CHECK = integer(1);
const EJECT_REQUEST = integer(3);

/** The event that tells of plugged and unplugged devices, and the methods it calls. */
export function pciHotplugEvents(topology: PciTopology): Aml[] {
  // QEMU lists buses from the one made last.
  const ports = topology.rootPorts.toReversed();
  const onPorts = ports.map(({ slot, hotplugBus }) =>
    scope(
      slotName(slot),
      method(
        "PCNT",
        0,
        "notSerialized",
        store(integer(hotplugBus!), name("BNUM")),
        call("DVNT", name("PCIU"), DEVICE_CHECK),
        call("DVNT", name("PCID"), EJECT_REQUEST),
      ),
    )
  );
  const onRoot = method(
    "PCNT",
    0,
    "notSerialized",
    ...ports.map(({ slot }) => name(`^${slotName(slot)}.PCNT`)),
  );
  const event = ports.length === 0 ? [] : [
    acquire("\\_SB.PCI0.BLCK"),
    call("\\_SB.PCI0.PCNT"),
    release("\\_SB.PCI0.BLCK"),
  ];
  return [
    ...(ports.length === 0 ? [] : [scope("\\_SB.PCI0", ...onPorts, onRoot)]),
    scope("_GPE", method("_E01", 0, "notSerialized", ...event)),
  ];
}
