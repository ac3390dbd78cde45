import {
  ACCESS,
  type Aml,
  declare,
  device,
  eisaId,
  field,
  integer,
  ONE,
  operationRegion,
  scope,
  SPACE,
  string,
  UPDATE,
} from "./aml.ts";
import { type AcpiDialect, CHIPSET } from "./machine.ts";
import { ioPorts, ISA_IRQ_SHARED_LEVEL_LOW, isaIrq, type Resource, resources } from "./resource.ts";

/** The ICH9's interrupt router and what stands on its ISA bus. */
export function isaBridge(dialect: AcpiDialect): Aml[] {
  const byte = (entry: string) => [entry, 8] as const;
  return [
    operationRegion("PIRQ", SPACE.pciConfig, 0x60, 0x0c),
    scope(
      "\\_SB",
      field("PCI0.SF8.PIRQ", ACCESS.byte, UPDATE.preserve, [
        ...["PRQA", "PRQB", "PRQC", "PRQD"].map(byte),
        32,
        ...["PRQE", "PRQF", "PRQG", "PRQH"].map(byte),
      ]),
    ),
    isaDevice("KBD", "PNP0303", [PRESENT], ioPorts(0x60, 1), ioPorts(0x64, 1), isaIrq(1)),
    isaDevice("MOU", "PNP0F13", [PRESENT], isaIrq(12)),
    isaDevice(
      "COM1",
      "PNP0501",
      [declare("_UID", ONE), PRESENT],
      ioPorts(0x3f8, 8, 0),
      dialect.sharedSerialIrq ? isaIrq(4, ISA_IRQ_SHARED_LEVEL_LOW) : isaIrq(4),
    ),
    isaDevice("RTC", "PNP0B00", [], ioPorts(0x70, 8), isaIrq(8)),
  ];
}

const PRESENT = declare("_STA", integer(0x0f));

function isaDevice(
  path: string,
  id: string,
  terms: readonly Aml[],
  ...descriptors: Resource[]
): Aml {
  return device(
    path,
    declare("_HID", eisaId(id)),
    ...terms,
    declare("_CRS", resources(...descriptors)),
  );
}

/** QEMU's firmware configuration device. */
export function fwCfgDevice(): Aml {
  return scope(
    "\\_SB.PCI0",
    device(
      "FWCF",
      declare("_HID", string("QEMU0002")),
      declare("_STA", integer(0x0b)),
      declare("_CRS", resources(ioPorts(CHIPSET.fwCfgBase, CHIPSET.fwCfgLength))),
    ),
  );
}
