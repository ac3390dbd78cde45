import { ByteWriter } from "../../bytes/byte-writer.ts";
import { AppError } from "../../errors/app-error.ts";
import type { AcpiTable } from "./acpi-table.ts";

const TABLES_FILE = "etc/acpi/tables";
const RSDP_FILE = "etc/acpi/rsdp";

const COMMAND = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;
const FILE_NAME = 56;
const COMMAND_LENGTH = 128;
const LOADER_LENGTH = 4096;
const ZONE = { high: 1, fseg: 2 } as const;
const CHECKSUM_AT = 9;
const RSDP_LENGTH = 20;

/** `etc/acpi/rsdp` as QEMU serves it: revision 0, its pointer not relocated, its checksum not filled in. */
export function encodeRsdp(tables: readonly AcpiTable[]): Uint8Array {
  const rsdt = find(tables, "RSDT");
  return new ByteWriter().utf8("RSD PTR ").u8(0).utf8("BOCHS ").u8(0).u32le(rsdt.offset).finish();
}

/**
 * `etc/table-loader`: the commands with which firmware places the tables (QEMU hw/acpi/bios-linker-loader.c).
 * They follow from where the tables stand, in the order QEMU builds them (spec/attestation.md 5.6).
 */
export function encodeTableLoader(tables: readonly AcpiTable[]): Uint8Array {
  const loader = new Loader();
  loader.allocate(RSDP_FILE, 16, ZONE.fseg);
  loader.allocate(TABLES_FILE, 64, ZONE.high);
  for (const table of tables) {
    if (table.signature === "FACS") continue; // it has no checksum
    for (const [at, size] of pointersOf(table, tables)) {
      loader.addPointer(TABLES_FILE, TABLES_FILE, table.offset + at, size);
    }
    loader.addChecksum(TABLES_FILE, table.offset + CHECKSUM_AT, table.offset, table.length);
  }
  loader.addPointer(RSDP_FILE, TABLES_FILE, 16, 4);
  loader.addChecksum(RSDP_FILE, 8, 0, RSDP_LENGTH);
  return loader.finish();
}

/** Offsets inside a table, and sizes, of the pointers firmware relocates. */
function pointersOf(table: AcpiTable, tables: readonly AcpiTable[]): readonly [number, number][] {
  switch (table.signature) {
    case "FACP":
      return [[36, 4], [40, 4], [140, 8]]; // FIRMWARE_CTRL, DSDT, X_DSDT
    case "RSDT":
      return tables
        .filter(({ signature }) => !["FACS", "DSDT", "RSDT"].includes(signature))
        .map((_, i) => [36 + 4 * i, 4]);
    default:
      return [];
  }
}

class Loader {
  readonly #commands = new ByteWriter();

  allocate(file: string, alignment: number, zone: number): void {
    this.#command((w) => {
      w.u32le(COMMAND.allocate);
      writeName(w, file).u32le(alignment).u8(zone);
    });
  }

  addPointer(destination: string, source: string, offset: number, size: number): void {
    this.#command((w) => {
      w.u32le(COMMAND.addPointer);
      writeName(writeName(w, destination), source).u32le(offset).u8(size);
    });
  }

  addChecksum(file: string, result: number, start: number, length: number): void {
    this.#command((w) => {
      w.u32le(COMMAND.addChecksum);
      writeName(w, file).u32le(result).u32le(start).u32le(length);
    });
  }

  finish(): Uint8Array {
    const { length } = this.#commands;
    const end = Math.ceil(length / LOADER_LENGTH) * LOADER_LENGTH;
    return this.#commands.zeros(end - length).finish();
  }

  #command(write: (w: ByteWriter) => void): void {
    const start = this.#commands.length;
    write(this.#commands);
    this.#commands.zeros(COMMAND_LENGTH - (this.#commands.length - start));
  }
}

function writeName(w: ByteWriter, name: string): ByteWriter {
  return w.utf8(name).zeros(FILE_NAME - name.length);
}

function find(tables: readonly AcpiTable[], signature: string): AcpiTable {
  const table = tables.find((candidate) => candidate.signature === signature);
  if (table !== undefined) return table;
  throw new AppError("input/malformed", `Cannot place ACPI tables: there is no ${signature}`);
}
