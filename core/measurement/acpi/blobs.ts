import { concatBytes } from "../../bytes/bytes.ts";
import type { AcpiDigests } from "../../event-log/tdx-event.ts";
import { sha384Of } from "../digest.ts";
import type { AcpiTable } from "./acpi-table.ts";
import { encodeDsdt } from "./dsdt.ts";
import { encodeFacs } from "./facs.ts";
import { encodeFadt } from "./fadt.ts";
import { type AcpiMachine, checkMachine } from "./machine.ts";
import { encodeMadt } from "./madt.ts";
import { encodeMcfg } from "./mcfg.ts";
import { encodeRsdt } from "./rsdt.ts";
import { encodeSrat } from "./srat.ts";
import { encodeRsdp, encodeTableLoader } from "./table-loader.ts";
import { encodeWaet } from "./waet.ts";

/** QEMU rounds the tables up so that their size rarely changes. */
const TABLES_ALIGNMENT = 0x2_0000;

/** The three fw_cfg files through which QEMU hands ACPI tables to firmware. */
export interface AcpiBlobs {
  /** `etc/acpi/tables` */
  readonly tables: Uint8Array;
  /** `etc/table-loader` */
  readonly loader: Uint8Array;
  /** `etc/acpi/rsdp` */
  readonly rsdp: Uint8Array;
}

/** What QEMU hands over for this machine. Throws `measurement/unsupported` for one it cannot describe. */
export function encodeAcpiBlobs(machine: AcpiMachine): AcpiBlobs {
  checkMachine(machine);
  const blob = new TableBlob();
  const facs = blob.append("FACS", encodeFacs());
  const dsdt = blob.append("DSDT", encodeDsdt(machine));
  const listed = [
    blob.append("FACP", encodeFadt(machine, { facs, dsdt })),
    blob.append("APIC", encodeMadt(machine)),
    ...(machine.hugepages ? [blob.append("SRAT", encodeSrat(machine))] : []),
    blob.append("MCFG", encodeMcfg()),
    blob.append("WAET", encodeWaet()),
  ];
  blob.append("RSDT", encodeRsdt(listed));
  return {
    tables: blob.finish(),
    loader: encodeTableLoader(blob.tables),
    rsdp: encodeRsdp(blob.tables),
  };
}

/** Digests of the three, as firmware measures them into RTMR0. */
export async function acpiDigestsFor(machine: AcpiMachine): Promise<AcpiDigests> {
  const blobs = encodeAcpiBlobs(machine);
  const [loader, rsdp, tables] = await Promise.all(
    [blobs.loader, blobs.rsdp, blobs.tables].map(sha384Of),
  );
  return { loader: loader!, rsdp: rsdp!, tables: tables! };
}

class TableBlob {
  readonly tables: AcpiTable[] = [];
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  /** Returns where the table stands. */
  append(signature: string, bytes: Uint8Array): number {
    const offset = this.#length;
    this.tables.push({ signature, offset, length: bytes.length });
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return offset;
  }

  finish(): Uint8Array {
    const end = Math.ceil(this.#length / TABLES_ALIGNMENT) * TABLES_ALIGNMENT;
    return concatBytes(...this.#parts, new Uint8Array(end - this.#length));
  }
}
