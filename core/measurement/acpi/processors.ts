import type { Aml } from "./aml.ts";
import {
  ACCESS,
  acquire,
  arg,
  BREAK,
  buffer,
  call,
  DEBUG,
  declare,
  dereference,
  device,
  eisaId,
  element,
  equal,
  field,
  giveBack,
  increment,
  integer,
  less,
  list,
  local,
  logicalAnd,
  logicalOr,
  loop,
  method,
  mutex,
  name,
  notify,
  ONE,
  operationRegion,
  otherwise,
  processor,
  release,
  scope,
  SPACE,
  store,
  string,
  UPDATE,
  when,
  ZERO,
} from "./aml.ts";
import { localApic } from "./madt.ts";
import { type AcpiDialect, type AcpiMachine, CHIPSET, MAX_XAPIC_ID } from "./machine.ts";
import { ioPorts, resources } from "./resource.ts";

const CONTROLLER = "\\_SB.PCI0.PRES";
const LOCK = `${CONTROLLER}.CPLK`;
const register = (path: string) => name(`${CONTROLLER}.${path}`);
const SELECTOR = register("CSEL");
const ENABLED = register("CPEN");
const COMMAND = register("CCMD");
const DATA = register("CDAT");
const INSERTED = register("CINS");
const REMOVED = register("CRMV");
const EJECT = register("CEJ0");

const COMMANDS = { nextWithEvent: ZERO, ostEvent: ONE, ostStatus: integer(2) } as const;
const DEVICE_CHECK = ONE;
const EJECT_REQUEST = integer(3);
/** A PackageOp holds no more elements. */
const BATCH = integer(255);

/** QEMU's CPU hot-plug interface (QEMU docs/specs/acpi_cpu_hotplug.rst) and one object a processor. */
export function processors(machine: AcpiMachine, dialect: AcpiDialect): Aml[] {
  const indices = Array.from({ length: machine.cpuCount }, (_, i) => i);
  return [
    scope(
      "_SB",
      hotplugController(dialect),
      device(
        "\\_SB.CPUS",
        declare("_HID", string("ACPI0010")),
        declare("_CID", eisaId("PNP0A05")),
        method(
          "CTFY",
          2,
          "notSerialized",
          ...indices.map((i) =>
            when(equal(arg(0), integer(i)), notify(name(processorName(i)), arg(1)))
          ),
        ),
        statusMethod(),
        ejectMethod(),
        scanMethod(machine.cpuCount, dialect),
        ostMethod(),
        ...indices.map((i) => processorObject(i, machine.hugepages)),
      ),
    ),
    method("\\_GPE._E02", 0, "notSerialized", call("\\_SB.CPUS.CSCN")),
  ];
}

function hotplugController(dialect: AcpiDialect): Aml {
  const { cpuHotplugBase, cpuHotplugLength } = CHIPSET;
  const flags = ["CPEN", "CINS", "CRMV", "CEJ0", "CEJF"].map((flag) => [flag, 1] as const);
  return device(
    CONTROLLER,
    declare("_HID", eisaId("PNP0A06")),
    declare("_UID", string("CPU Hotplug resources")),
    mutex("CPLK"),
    declare("_CRS", resources(ioPorts(cpuHotplugBase, cpuHotplugLength))),
    operationRegion("PRST", SPACE.systemIo, cpuHotplugBase, cpuHotplugLength),
    field("PRST", ACCESS.byte, UPDATE.writeAsZeros, [32, ...flags, 3, ["CCMD", 8]]),
    field("PRST", ACCESS.dword, UPDATE.preserve, [["CSEL", 32], 32, ["CDAT", 32]]),
    ...(dialect.legacyCpuHotplug
      ? [method("_INI", 0, "serialized", store(ZERO, name("CSEL")))]
      : []),
  );
}

function statusMethod(): Aml {
  const status = local(0);
  return method(
    "CSTA",
    1,
    "serialized",
    acquire(LOCK),
    store(arg(0), SELECTOR),
    store(ZERO, status),
    when(equal(ENABLED, ONE), store(integer(0x0f), status)),
    release(LOCK),
    giveBack(status),
  );
}

function ejectMethod(): Aml {
  return method(
    "CEJ0",
    1,
    "serialized",
    acquire(LOCK),
    store(arg(0), SELECTOR),
    store(ONE, EJECT),
    release(LOCK),
  );
}

/** Finds processors with an event and notifies of them, in batches as large as a package. */
function scanMethod(cpuCount: number, dialect: AcpiDialect): Aml {
  const hasEvent = local(0);
  const addedCount = local(1);
  const at = local(2);
  const uid = local(3);
  const hasJob = local(4);
  const removedCount = local(5);
  const added = name("CNEW");
  const removed = name("CEJL");
  const batched = dialect.batchedCpuRemoval;

  const remember = (event: Aml, batch: Aml, count: Aml) =>
    when(
      equal(event, ONE),
      store(uid, element(batch, count)),
      increment(count),
      store(ONE, hasEvent),
    );
  const noteRemoval = batched ? remember(REMOVED, removed, removedCount) : otherwise(
    when(
      equal(REMOVED, ONE),
      call("CTFY", uid, EJECT_REQUEST),
      store(ONE, REMOVED),
      store(ONE, hasEvent),
    ),
  );
  const isFull = equal(addedCount, BATCH);
  const collect = loop(
    logicalAnd(equal(hasEvent, ONE), less(uid, integer(cpuCount))),
    store(ZERO, hasEvent),
    store(uid, SELECTOR),
    store(COMMANDS.nextWithEvent, COMMAND),
    when(less(DATA, uid), BREAK), // wrapped around: every event was seen
    when(
      batched ? logicalOr(isFull, equal(removedCount, BATCH)) : isFull,
      store(ONE, hasJob),
      BREAK,
    ),
    store(DATA, uid),
    remember(INSERTED, added, addedCount),
    noteRemoval,
    increment(uid),
  );
  const tell = (batch: Aml, count: Aml, event: Aml, clear: Aml, ...log: Aml[]) => [
    store(ZERO, at),
    loop(
      less(at, count),
      store(dereference(element(batch, at)), uid),
      call("CTFY", uid, event),
      ...log,
      store(uid, SELECTOR),
      store(ONE, clear),
      increment(at),
    ),
  ];
  return method(
    "CSCN",
    0,
    "serialized",
    acquire(LOCK),
    declare("CNEW", list([], 255)),
    ...(batched ? [declare("CEJL", list([], 255))] : []),
    store(ZERO, uid),
    store(ONE, hasJob),
    loop(
      equal(hasJob, ONE),
      store(ZERO, hasJob),
      store(ONE, hasEvent),
      store(ZERO, addedCount),
      ...(batched ? [store(ZERO, removedCount)] : []),
      collect,
      ...tell(added, addedCount, DEVICE_CHECK, INSERTED, store(uid, DEBUG)),
      ...(batched ? tell(removed, removedCount, EJECT_REQUEST, REMOVED) : []),
    ),
    release(LOCK),
  );
}

function ostMethod(): Aml {
  return method(
    "COST",
    4,
    "serialized",
    acquire(LOCK),
    store(arg(0), SELECTOR),
    store(COMMANDS.ostEvent, COMMAND),
    store(arg(1), DATA),
    store(COMMANDS.ostStatus, COMMAND),
    store(arg(2), DATA),
    release(LOCK),
  );
}

function processorObject(index: number, hasNode: boolean): Aml {
  const uid = integer(index);
  const terms = [
    method("_STA", 0, "serialized", giveBack(call("CSTA", uid))),
    declare("_MAT", buffer(localApic(index))),
    // The first processor cannot be removed.
    ...(index === 0 ? [] : [method("_EJ0", 1, "notSerialized", call("CEJ0", uid))]),
    method("_OST", 3, "serialized", call("COST", uid, arg(0), arg(1), arg(2))),
    ...(hasNode ? [declare("_PXM", ZERO)] : []),
  ];
  if (index <= MAX_XAPIC_ID) return processor(processorName(index), index, ...terms);
  return device(
    processorName(index),
    declare("_HID", string("ACPI0007")),
    declare("_UID", uid),
    ...terms,
  );
}

function processorName(index: number): string {
  return `C${index.toString(16).toUpperCase().padStart(3, "0")}`;
}
