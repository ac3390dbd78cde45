import { ByteWriter } from "../../bytes/byte-writer.ts";
import { AppError } from "../../errors/app-error.ts";

/** Where one table stands in the blob QEMU hands over as `etc/acpi/tables`. Offset and length in bytes. */
export interface AcpiTable {
  readonly signature: string;
  readonly offset: number;
  readonly length: number;
}

const HEADER_LENGTH = 36;
const MAX_TABLES = 32;

/** A table under QEMU's header. Its checksum stays 0: firmware fills it in as the loader tells it to. */
export function encodeTable(signature: string, revision: number, body: Uint8Array): Uint8Array {
  return new ByteWriter().utf8(signature).u32le(HEADER_LENGTH + body.length).u8(revision).u8(0)
    .utf8("BOCHS ").utf8("BXPC    ").u32le(1).utf8("BXPC").u32le(1).bytes(body).finish();
}

/** Walks signature and length of each table up to the blob's zero padding. Throws `input/malformed`. */
export function parseAcpiTables(blob: Uint8Array): readonly AcpiTable[] {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const tables: AcpiTable[] = [];
  let offset = 0;
  while (offset + 8 <= blob.length && view.getUint32(offset, true) !== 0) {
    const signature = String.fromCharCode(...blob.subarray(offset, offset + 4));
    const length = view.getUint32(offset + 4, true);
    if (!/^[A-Z0-9_]{4}$/.test(signature)) throw malformed(`no table at offset ${offset}`);
    if (length < HEADER_LENGTH || offset + length > blob.length) {
      throw malformed(`${signature} has length ${length}`);
    }
    if (tables.length === MAX_TABLES) throw malformed(`more than ${MAX_TABLES} tables`);
    tables.push({ signature, offset, length });
    offset += length;
  }
  return tables;
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot parse ACPI tables: ${why}`);
}
