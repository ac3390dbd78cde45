import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fromHex, toHex } from "../../bytes/bytes.ts";
import { AppError } from "../../errors/app-error.ts";
import { decodeAttestation } from "../../attestation/versioned-attestation.ts";
import { acpiDigestsOf, labelAcpiEvents, parseEventLogJson } from "../../event-log/tdx-event.ts";
import { vectorTest, vectorText } from "../../../tests/vectors.ts";
import { parseAcpiTables } from "./acpi-table.ts";
import { acpiDigestsFor, encodeAcpiBlobs } from "./blobs.ts";
import type { AcpiMachine } from "./machine.ts";

const GIB = 2 ** 30;

/** Both captures: root disk, data disk, NIC, vsock and the 9p share. */
const CAPTURED: AcpiMachine = {
  qemu: [8, 2, 2],
  cpuCount: 2,
  memoryBytes: 2 * GIB,
  pic: true,
  smm: false,
  endpoints: 5,
  gpus: 0,
  nvswitches: 0,
  pciHotplug: true,
  pciHole64Size: 0,
  hugepages: false,
};

async function hexDigestsFor(machine: AcpiMachine) {
  const { loader, rsdp, tables } = await acpiDigestsFor(machine);
  return [loader, rsdp, tables].map(toHex);
}

vectorTest("tables of a real TD under QEMU 8.2.2", async () => {
  const { attestation } = JSON.parse(vectorText("dstack/tdx-lite-attestation.json"));
  const { platform } = decodeAttestation(fromHex(attestation));
  if (platform.kind !== "tdx") throw new TypeError("not TDX evidence");
  const { loader, rsdp, tables } = acpiDigestsOf(platform.eventLog);
  assert.deepEqual(await hexDigestsFor(CAPTURED), [loader, rsdp, tables].map(toHex));
});

vectorTest("tables of a real TD with a GPU under QEMU 9.2.1", async () => {
  const log = parseEventLogJson(JSON.parse(vectorText("dstack/quote-report.json")).event_log);
  const { loader, rsdp, tables } = acpiDigestsOf(labelAcpiEvents(log));
  const machine: AcpiMachine = {
    ...CAPTURED,
    qemu: [9, 2, 1],
    cpuCount: 16,
    memoryBytes: 64 * GIB,
    pic: false,
    gpus: 1,
    pciHotplug: false,
    pciHole64Size: 16 * 1024 * GIB,
  };
  assert.deepEqual(await hexDigestsFor(machine), [loader, rsdp, tables].map(toHex));
});

const machines: fc.Arbitrary<AcpiMachine> = fc.record({
  qemu: fc.constantFrom([8, 2, 2], [9, 1, 0], [9, 2, 1], [10, 0, 0], [11, 0, 0], [11, 1, 3]),
  cpuCount: fc.integer({ min: 1, max: 300 }),
  memoryBytes: fc.integer({ min: 256, max: 2 ** 22 }).map((mib) => mib * 2 ** 20),
  pic: fc.boolean(),
  smm: fc.boolean(),
  endpoints: fc.integer({ min: 0, max: 14 }),
  gpus: fc.integer({ min: 0, max: 10 }),
  nvswitches: fc.integer({ min: 0, max: 4 }),
  pciHotplug: fc.boolean(),
  pciHole64Size: fc.integer({ min: 0, max: 2 ** 14 }).map((gib) => gib * GIB),
  hugepages: fc.boolean(),
});

test("every machine's tables parse, and what points at a table hits it", () => {
  fc.assert(fc.property(machines, (machine) => {
    const { tables: blob, rsdp } = encodeAcpiBlobs(machine);
    const tables = parseAcpiTables(blob);
    const view = new DataView(blob.buffer);
    const at = (signature: string) => tables.find((table) => table.signature === signature)!.offset;
    const rsdt = tables.at(-1)!;
    assert.equal(rsdt.signature, "RSDT");
    assert.equal(new DataView(rsdp.buffer).getUint32(16, true), rsdt.offset);
    const listed = tables.filter(({ signature }) => !["FACS", "DSDT", "RSDT"].includes(signature));
    assert.equal(rsdt.length, 36 + 4 * listed.length);
    listed.forEach(({ offset }, i) =>
      assert.equal(view.getUint32(rsdt.offset + 36 + 4 * i, true), offset)
    );
    const fadt = at("FACP");
    assert.equal(view.getUint32(fadt + 36, true), at("FACS"));
    assert.equal(view.getUint32(fadt + 40, true), at("DSDT"));
    assert.equal(view.getBigUint64(fadt + 140, true), BigInt(at("DSDT")));
  }));
});

test("every input moves a digest", async () => {
  const changes: Partial<AcpiMachine>[] = [
    { qemu: [9, 2, 1] },
    { cpuCount: 3 },
    { memoryBytes: GIB },
    { pic: false },
    { smm: true },
    { endpoints: 6 },
    { gpus: 1 },
    { gpus: 1, nvswitches: 1 },
    { pciHotplug: false },
    { pciHole64Size: GIB },
    { hugepages: true },
  ];
  const digests = await Promise.all(
    [{}, ...changes].map(async (change) => {
      const { tables } = await acpiDigestsFor({ ...CAPTURED, ...change });
      return toHex(tables);
    }),
  );
  assert.equal(new Set(digests).size, digests.length);
});

test("machines QEMU could not start are refused", () => {
  const changes: Partial<AcpiMachine>[] = [
    { cpuCount: 0 },
    { cpuCount: 1.5 },
    { cpuCount: 4097 },
    { memoryBytes: 0 },
    { memoryBytes: 2 ** 53 - 1 },
    { pciHole64Size: 2 ** 53 - 1 },
    { endpoints: 31 },
    { endpoints: 20, gpus: 11 },
    { endpoints: 16, gpus: 1, hugepages: true },
    { gpus: 33, hugepages: true },
  ];
  for (const change of changes) {
    assert.throws(
      () => encodeAcpiBlobs({ ...CAPTURED, ...change }),
      (error) => error instanceof AppError && error.code === "measurement/unsupported",
      JSON.stringify(change),
    );
  }
});
