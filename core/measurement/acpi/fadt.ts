import { ByteWriter } from "../../bytes/byte-writer.ts";
import { encodeTable } from "./acpi-table.ts";
import { SPACE } from "./aml.ts";
import { type AcpiMachine, CHIPSET } from "./machine.ts";

const FLAG = {
  wbinvd: 1 << 0,
  procC1: 1 << 2,
  sleepButton: 1 << 5,
  rtcS4: 1 << 7,
  resetRegister: 1 << 10,
  usePlatformClock: 1 << 15,
  clusteredApic: 1 << 18,
} as const;
const HAS_8042 = 2;
const RESET_VALUE = 0x0f;
const UNSUPPORTED_LATENCY = 0xfff;
const RTC_CENTURY = 0x32;
const MULTIPLE_APIC = 1;
/** Flat logical APIC mode reaches no more processors. */
const MAX_FLAT_CPUS = 8;
const SMI = { enable: 2, disable: 3 } as const;

interface Register {
  readonly address: number;
  readonly bytes: number;
}

/** Fixed ACPI Description Table, revision 3. Offsets are those of FACS and DSDT in the blob. */
export function encodeFadt(
  machine: AcpiMachine,
  offsets: { readonly facs: number; readonly dsdt: number },
): Uint8Array {
  const { pmBase, gpe0Offset, gpe0Length } = CHIPSET;
  const event: Register = { address: pmBase, bytes: 4 };
  const control: Register = { address: pmBase + 4, bytes: 2 };
  const timer: Register = { address: pmBase + 8, bytes: 4 };
  const gpe0: Register = { address: pmBase + gpe0Offset, bytes: gpe0Length };
  const w = new ByteWriter();
  w.u32le(offsets.facs).u32le(offsets.dsdt).u8(MULTIPLE_APIC).u8(0).u16le(CHIPSET.sci);
  w.u32le(machine.smm ? CHIPSET.smiCommand : 0);
  w.u8(machine.smm ? SMI.enable : 0).u8(machine.smm ? SMI.disable : 0).zeros(2);
  w.u32le(event.address).zeros(4).u32le(control.address).zeros(8).u32le(timer.address);
  w.u32le(gpe0.address).zeros(4);
  w.u8(event.bytes).u8(control.bytes).u8(0).u8(timer.bytes).u8(gpe0.bytes).zeros(3);
  w.u16le(UNSUPPORTED_LATENCY).u16le(UNSUPPORTED_LATENCY).zeros(8);
  w.u8(RTC_CENTURY).u16le(HAS_8042).u8(0).u32le(flagsOf(machine));
  writeRegister(w, { address: CHIPSET.resetPort, bytes: 1 }).u8(RESET_VALUE).zeros(3);
  w.zeros(8).u64le(BigInt(offsets.dsdt)); // no X_FIRMWARE_CTRL, X_DSDT
  writeRegister(w, event).zeros(NO_REGISTER);
  writeRegister(w, control).zeros(2 * NO_REGISTER);
  writeRegister(w, timer);
  writeRegister(w, gpe0).zeros(NO_REGISTER);
  return encodeTable("FACP", 3, w.finish());
}

function flagsOf({ cpuCount }: AcpiMachine): number {
  return FLAG.wbinvd | FLAG.procC1 | FLAG.sleepButton | FLAG.rtcS4 | FLAG.resetRegister |
    FLAG.usePlatformClock | (cpuCount > MAX_FLAT_CPUS ? FLAG.clusteredApic : 0);
}

const NO_REGISTER = 12;

/** Generic Address Structure of a port. */
function writeRegister(w: ByteWriter, { address, bytes }: Register): ByteWriter {
  return w.u8(SPACE.systemIo).u8(8 * bytes).u8(0).u8(0).u64le(BigInt(address));
}
