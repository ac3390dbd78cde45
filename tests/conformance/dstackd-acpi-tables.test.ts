import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { encodeAcpiBlobs } from "#core/measurement/acpi/blobs.ts";
import { acpiMachineOf } from "#core/measurement/acpi/vm-machine.ts";
import { parseVmConfig, type VmConfig } from "#core/measurement/vm-config.ts";
import { writeImage } from "#host-daemon/disk/image-file.fixture.ts";
import { emptyQcow2 } from "#host-daemon/disk/qcow2.ts";
import { qemuArgv } from "#host-daemon/qemu/argv.ts";
import { bootableKernel } from "../fixtures/tdx-image.ts";
import { FrozenMachine, playFirmware, qemus } from "./qemu-fw-cfg.ts";

const MIB = 2 ** 20;

/** The arguments dstackd gives QEMU for a shape, but for the accelerator and processor model. */
function argumentsOf(folder: string, shape: VmConfig): string[] {
  const argv = qemuArgv({
    qemuPath: "qemu",
    accelerator: "tcg",
    tee: { kind: "none" },
    workDir: folder,
    kernel: `${folder}/kernel`,
    initrd: `${folder}/initrd`,
    commandLine: "console=ttyS0",
    rootfs: `${folder}/rootfs`,
    volumes: Array.from({ length: shape.numVerityVolumes }, () => `${folder}/rootfs`),
    nics: Array.from({ length: shape.numNics }, (_, i) => ({
      mode: "user" as const,
      mac: `02:00:00:00:00:0${i}`,
      net: "10.0.2.0/24",
      dhcpStart: "10.0.2.10",
      restrict: false,
    })),
    forwards: [],
    smbios: new Map([[1, new Map([["product", "dstack"]])]]),
    hostShare: "vhd",
    sharedReadOnly: true,
    hotplugOff: shape.hotplugOff,
    pciHole64Size: BigInt(shape.pciHole64Size),
    vcpus: shape.cpuCount,
    memoryMib: shape.memoryBytes / MIB,
  });
  // A pty would be announced on stdout, where qtest answers.
  return argv.slice(argv.indexOf("-nographic") + 1)
    .map((word) => word.startsWith("pty,id=com0") ? "null,id=com0" : word);
}

const SHAPES: readonly Record<string, unknown>[] = [
  { cpu_count: 1, memory_size: 2048 * MIB },
  { cpu_count: 4, memory_size: 4096 * MIB },
  { cpu_count: 2, memory_size: 2048 * MIB, num_nics: 2, hotplug_off: true },
  { cpu_count: 2, memory_size: 2048 * MIB, num_verity_volumes: 3, pci_hole64_size: 2 ** 40 },
];

for (const { path, release } of qemus()) {
  for (const members of SHAPES) {
    const shape = parseVmConfig(JSON.stringify(members));
    const of = `QEMU ${release.join(".")}, ${JSON.stringify(members)}`;
    test(`what dstackd starts has the tables its vm_config predicts: ${of}`, async () => {
      const folder = mkdtempSync(`${tmpdir()}/dstackd-acpi-`);
      mkdirSync(`${folder}/shared`);
      for (const file of ["initrd", "rootfs", "shared.img"]) {
        writeFileSync(`${folder}/${file}`, new Uint8Array(512));
      }
      writeFileSync(`${folder}/kernel`, bootableKernel(0x8000));
      const { parts, lengthBytes } = emptyQcow2(2n ** 30n);
      writeImage(`${folder}/hda.img`, parts, lengthBytes);
      // There may be no vhost-vsock here: another device takes its slot.
      const standIn = ["-device", "virtio-rng-pci"];
      const cpu = ["-cpu", "qemu64,vendor=GenuineIntel,phys-bits=52"];
      const machine = new FrozenMachine(path, [...argumentsOf(folder, shape), ...standIn, ...cpu]);
      try {
        await playFirmware(machine);
        // A VM that is no TD has an interrupt controller and system management mode.
        const predicted = { ...acpiMachineOf(shape), qemu: release, pic: true, smm: true };
        assert.deepEqual(encodeAcpiBlobs(predicted), {
          tables: await machine.readFile("etc/acpi/tables"),
          loader: await machine.readFile("etc/table-loader"),
          rsdp: await machine.readFile("etc/acpi/rsdp"),
        });
      } finally {
        await machine.stop();
        rmSync(folder, { recursive: true });
      }
    });
  }
}
