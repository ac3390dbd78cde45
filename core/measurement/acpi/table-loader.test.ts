import assert from "node:assert/strict";
import { test } from "node:test";
import { sha384 } from "@noble/hashes/sha2.js";
import { fromHex, toHex } from "../../bytes/bytes.ts";
import { AppError } from "../../errors/app-error.ts";
import { decodeAttestation } from "../../attestation/versioned-attestation.ts";
import { acpiDigestsOf, labelAcpiEvents, parseEventLogJson } from "../../event-log/tdx-event.ts";
import { vectorTest, vectorText } from "../../../tests/vectors.ts";
import { type AcpiTable, parseAcpiTables } from "./acpi-table.ts";
import { encodeRsdp, encodeTableLoader } from "./table-loader.ts";

/** Tables as QEMU lays them out; only DSDT and APIC change their size with the machine. */
function layout(dsdt: number, apic: number): AcpiTable[] {
  const lengths: [string, number][] = [
    ["FACS", 64],
    ["DSDT", dsdt],
    ["FACP", 244],
    ["APIC", apic],
    ["MCFG", 60],
    ["WAET", 40],
    ["RSDT", 52],
  ];
  let offset = 0;
  return lengths.map(([signature, length]) => {
    const table = { signature, offset, length };
    offset += length;
    return table;
  });
}

// The captures hold digests of the blobs, not the blobs. Their sizes are the only ones that fit: the RSDP
// fixes where RSDT starts, 16 processors of 8 bytes and five overrides make the APIC of the second.
vectorTest("RSDP and table loader are those Intel-signed registers were extended with", () => {
  const { attestation } = JSON.parse(vectorText("dstack/tdx-lite-attestation.json"));
  const { platform } = decodeAttestation(fromHex(attestation));
  if (platform.kind !== "tdx") throw new TypeError("not TDX evidence");
  const log = labelAcpiEvents(
    parseEventLogJson(JSON.parse(vectorText("dstack/quote-report.json")).event_log),
  );
  const captures = [
    { digests: acpiDigestsOf(platform.eventLog), tables: layout(8285, 238) }, // QEMU 8.2.2
    { digests: acpiDigestsOf(log), tables: layout(9098, 240) }, // QEMU 9.2.1
  ];
  for (const { digests, tables } of captures) {
    assert.equal(toHex(sha384(encodeRsdp(tables))), toHex(digests.rsdp));
    assert.equal(toHex(sha384(encodeTableLoader(tables))), toHex(digests.loader));
  }
});

test("a blob is walked table by table up to its padding", () => {
  const blob = new Uint8Array(1024);
  const view = new DataView(blob.buffer);
  const expected = [
    { signature: "FACS", offset: 0, length: 64 },
    { signature: "DSDT", offset: 64, length: 100 },
    { signature: "RSDT", offset: 164, length: 36 },
  ];
  for (const { signature, offset, length } of expected) {
    blob.set(new TextEncoder().encode(signature), offset);
    view.setUint32(offset + 4, length, true);
  }
  assert.deepEqual(parseAcpiTables(blob), expected);
  view.setUint32(68, 2000, true);
  assert.throws(() => parseAcpiTables(blob), AppError);
  view.setUint32(68, 8, true);
  assert.throws(() => parseAcpiTables(blob), AppError);
});
