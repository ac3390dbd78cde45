import { ByteWriter } from "../../bytes/byte-writer.ts";
import { concatBytes } from "../../bytes/bytes.ts";
import { encodeTable } from "./acpi-table.ts";
import { type AcpiMachine, CHIPSET, dialectOf, MAX_XAPIC_ID } from "./machine.ts";

const PCAT_COMPAT = 1;
const IRQS = 16;
/** Those PCI interrupts are routed to: level triggered. */
const PCI_IRQS = [5, 9, 10, 11];
const POLARITY_TRIGGER = { conforming: 0x0, edgeHigh: 0x5, levelHigh: 0xd } as const;
const TIMER_GSI = 2;
const LINT1 = 1;

/** Multiple APIC Description Table, revision 3. */
export function encodeMadt(machine: AcpiMachine): Uint8Array {
  const w = new ByteWriter().u32le(CHIPSET.localApic).u32le(machine.pic ? PCAT_COMPAT : 0);
  for (let i = 0; i < machine.cpuCount; i++) w.bytes(localApic(i));
  w.u8(1).u8(12).u8(0).u8(0).u32le(CHIPSET.ioApic).u32le(0);
  w.bytes(concatBytes(...overrides(dialectOf(machine.qemu).interrupts)));
  if (machine.cpuCount - 1 > MAX_XAPIC_ID) {
    w.u8(0x0a).u8(12).u16le(0).u32le(0xffff_ffff).u8(LINT1).zeros(3);
  } else {
    w.u8(4).u8(6).u8(0xff).u16le(0).u8(LINT1);
  }
  return encodeTable("APIC", 3, w.finish());
}

/** The entry of one enabled processor; APIC ids count up from 0, as all are cores of one socket. */
export function localApic(index: number): Uint8Array {
  const w = new ByteWriter();
  if (index <= MAX_XAPIC_ID) return w.u8(0).u8(8).u8(index).u8(index).u32le(1).finish();
  return w.u8(9).u8(16).u16le(0).u32le(index).u32le(1).u32le(index).finish();
}

function overrides(interrupts: "edge" | "level"): Uint8Array[] {
  const { conforming, edgeHigh, levelHigh } = POLARITY_TRIGGER;
  const isEdge = interrupts === "edge";
  const timer = override(0, TIMER_GSI, isEdge ? edgeHigh : conforming);
  const irqs = isEdge ? Array.from({ length: IRQS - 1 }, (_, i) => i + 1) : PCI_IRQS;
  return [timer, ...irqs.map((irq) => override(irq, irq, isEdge ? edgeHigh : levelHigh))];
}

function override(irq: number, gsi: number, flags: number): Uint8Array {
  return new ByteWriter().u8(2).u8(10).u8(0).u8(irq).u32le(gsi).u16le(flags).finish();
}
