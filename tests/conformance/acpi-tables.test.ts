import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAcpiTables } from "#core/measurement/acpi/acpi-table.ts";
import { encodeAcpiBlobs } from "#core/measurement/acpi/blobs.ts";
import type { AcpiMachine, QemuRelease } from "#core/measurement/acpi/machine.ts";
import { FrozenMachine, playFirmware, qemus } from "./qemu-fw-cfg.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
type Shape = Omit<AcpiMachine, "qemu" | "smm"> & { readonly smm?: boolean };

const PLAIN: Shape = {
  cpuCount: 2,
  memoryBytes: 2 * GIB,
  pic: false,
  endpoints: 5,
  gpus: 0,
  nvswitches: 0,
  pciHotplug: true,
  pciHole64Size: 0,
  hugepages: false,
};

function shapes(): Shape[] {
  const memories = [512 * MIB, GIB, 2815 * MIB, 2816 * MIB, 3 * GIB, 4 * GIB, 64 * GIB, 2048 * GIB];
  const processors = [1, 3, 8, 9, 16, 17, 64, 255, 256, 257, 288];
  const gpus = [1, 2, 3, 4, 8];
  return [
    ...memories.map((memoryBytes) => ({ ...PLAIN, memoryBytes })),
    ...processors.map((cpuCount) => ({ ...PLAIN, cpuCount })),
    ...[1, 2, 4, 6, 7, 15, 16, 20, 30].map((endpoints) => ({ ...PLAIN, endpoints })),
    ...gpus.map((count) => ({ ...PLAIN, gpus: count })),
    ...gpus.map((count) => ({ ...PLAIN, gpus: count, pciHotplug: false })),
    { ...PLAIN, pciHotplug: false },
    { ...PLAIN, gpus: 8, nvswitches: 4, cpuCount: 64, memoryBytes: 512 * GIB },
    { ...PLAIN, gpus: 8, nvswitches: 4, pciHotplug: false, pciHole64Size: 16 * 1024 * GIB },
    { ...PLAIN, gpus: 1, nvswitches: 1, endpoints: 9 },
    { ...PLAIN, pciHole64Size: GIB },
    { ...PLAIN, pciHole64Size: 2500 * MIB },
    { ...PLAIN, pciHole64Size: 512 * GIB, memoryBytes: 8 * GIB },
    { ...PLAIN, hugepages: true },
    { ...PLAIN, hugepages: true, cpuCount: 12, memoryBytes: 16 * GIB },
    { ...PLAIN, hugepages: true, memoryBytes: 2816 * MIB, pciHole64Size: 2048 * GIB },
    { ...PLAIN, hugepages: true, memoryBytes: 1100 * GIB },
    { ...PLAIN, hugepages: true, gpus: 1, memoryBytes: 32 * GIB },
    { ...PLAIN, hugepages: true, gpus: 8, nvswitches: 4, memoryBytes: 32 * GIB },
    { ...PLAIN, hugepages: true, gpus: 4, nvswitches: 2, pciHotplug: false },
    { ...PLAIN, hugepages: true, gpus: 2, endpoints: 12, memoryBytes: 3 * GIB },
    { ...PLAIN, pic: true },
    { ...PLAIN, pic: true, smm: true, cpuCount: 4 },
  ];
}

function nameOf(shape: Shape): string {
  const words = [
    `${shape.cpuCount} cpu`,
    `${shape.memoryBytes / MIB} MiB`,
    `${shape.endpoints} devices`,
  ];
  if (shape.gpus > 0) words.push(`${shape.gpus} GPUs`);
  if (shape.nvswitches > 0) words.push(`${shape.nvswitches} NVSwitches`);
  if (!shape.pciHotplug) words.push("no hot plug");
  if (shape.pciHole64Size > 0) words.push(`hole of ${shape.pciHole64Size / GIB} GiB`);
  if (shape.hugepages) words.push("hugepages");
  if (shape.pic) words.push("PIC");
  if (shape.smm) words.push("SMM");
  return words.join(", ");
}

/** As spec/attestation.md 5.6 orders them; devices that need a host of their own have stand-ins. */
function argumentsOf(shape: Shape): string[] {
  const { cpuCount, memoryBytes } = shape;
  const onOff = (on: boolean | undefined) => on ? "on" : "off";
  const argv = [
    "-cpu",
    TDX_LIKE_CPU,
    "-smp",
    `${cpuCount}`,
    "-m",
    `${memoryBytes / MIB}M`,
  ];
  argv.push("-chardev", "null,id=com0", "-serial", "chardev:com0");
  if (!shape.pciHotplug) {
    argv.push("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
  }
  if (shape.pciHole64Size > 0) {
    argv.push("-global", `q35-pcihost.pci-hole64-size=0x${shape.pciHole64Size.toString(16)}`);
  }
  for (let i = 0; i < shape.endpoints; i++) {
    argv.push(...(i % 2 === 0 ? disk(`hd${i}`) : networkCard(`net${i}`)));
  }
  const machine = "q35,kernel-irqchip=split,hpet=off,memory-backend=mem0" +
    `,smm=${onOff(shape.smm)},pic=${onOff(shape.pic)}`;
  argv.push("-object", `memory-backend-ram,id=mem0,size=${memoryBytes},reserve=off`);
  if (shape.hugepages) {
    argv.push("-machine", machine.replace(",memory-backend=mem0", ""));
    argv.push("-numa", `node,nodeid=0,cpus=0-${cpuCount - 1},memdev=mem0`);
  } else {
    argv.push("-machine", machine);
  }
  const isExpanded = shape.hugepages && shape.gpus > 0;
  if (isExpanded) {
    argv.push(
      "-device",
      "pxb-pcie,id=pcie.node0,bus=pcie.0,addr=10,numa_node=0,bus_nr=5",
    );
  }
  for (let k = 1; k <= shape.gpus + shape.nvswitches; k++) {
    const parent = isExpanded && k <= shape.gpus ? "pcie.node0" : "pcie.0";
    argv.push("-device", `pcie-root-port,id=pci.${k},bus=${parent},chassis=${k}`);
    argv.push("-device", `virtio-rng-pci,bus=pci.${k}`);
  }
  return argv;
}

/** Intel's, as a TD's are: with AMD's, QEMU may move memory above 1 TiB. */
const TDX_LIKE_CPU = "qemu64,vendor=GenuineIntel,phys-bits=52,x2apic=on";

function disk(id: string): string[] {
  return ["-drive", `driver=null-co,if=none,id=${id}`, "-device", `virtio-blk-pci,drive=${id}`];
}

function networkCard(id: string): string[] {
  return ["-netdev", `user,id=${id}`, "-device", `virtio-net-pci,netdev=${id},romfile=`];
}

const found = qemus();
if (found.length === 0) {
  test("ACPI tables equal those of QEMU", {
    skip: "skipped: no QEMU >= 10 (scripts/host-tools provides it)",
  }, () => {});
}
/** Memory and processors stay small enough for a machine that only stands there. */
const anyShape: fc.Arbitrary<Shape> = fc.record({
  cpuCount: fc.integer({ min: 1, max: 40 }),
  memoryBytes: fc.integer({ min: 256, max: 100_000 }).map((mib) => mib * MIB),
  pic: fc.boolean(),
  smm: fc.boolean(),
  endpoints: fc.integer({ min: 1, max: 15 }),
  gpus: fc.integer({ min: 0, max: 8 }),
  nvswitches: fc.integer({ min: 0, max: 4 }),
  pciHotplug: fc.boolean(),
  pciHole64Size: fc.integer({ min: 0, max: 40_000 }).map((count) => count * 256 * MIB),
  hugepages: fc.boolean(),
});

for (const { path, release } of found) {
  const title = `ACPI tables equal those of QEMU ${release.join(".")}`;
  for (const shape of shapes()) {
    test(`${title}: ${nameOf(shape)}`, () => compare(path, release, shape));
  }
  test(`${title}: any shape`, async () => {
    const property = fc.asyncProperty(anyShape, (shape) => compare(path, release, shape));
    await fc.assert(property, { numRuns: 10 });
  });
}

async function compare(path: string, release: QemuRelease, shape: Shape): Promise<void> {
  const machine = new FrozenMachine(path, argumentsOf(shape));
  try {
    await playFirmware(machine);
    const theirs = {
      tables: (await machine.readFile("etc/acpi/tables"))!,
      loader: await machine.readFile("etc/table-loader"),
      rsdp: await machine.readFile("etc/acpi/rsdp"),
    };
    const ours = encodeAcpiBlobs({ qemu: release, smm: false, ...shape });
    assert.deepEqual(splitTables(ours.tables), splitTables(theirs.tables));
    assert.deepEqual(ours, theirs);
  } finally {
    await machine.stop();
  }
}

/** For a difference that names its table. */
function splitTables(blob: Uint8Array): Record<string, string> {
  return Object.fromEntries(
    parseAcpiTables(blob).map(({ signature, offset, length }) => [
      signature,
      Buffer.from(blob.subarray(offset, offset + length)).toString("hex"),
    ]),
  );
}
