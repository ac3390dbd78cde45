import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAcpiTables } from "#core/measurement/acpi/acpi-table.ts";
import { encodeRsdp, encodeTableLoader } from "#core/measurement/acpi/table-loader.ts";
import { FrozenMachine, qemuPath } from "./qemu-fw-cfg.ts";

const Q35 = ["-machine", "q35,kernel-irqchip=split,hpet=off,smm=off,pic=off", "-cpu", "qemu64"];

const SHAPES: Readonly<Record<string, readonly string[]>> = {
  "one processor, 2 GiB": ["-smp", "1", "-m", "2048M"],
  "eight processors, 16 GiB, two disks and a network card": [
    ...["-smp", "8", "-m", "16384M"],
    ...["-drive", "driver=null-co,if=none,id=hd1", "-device", "virtio-blk-pci,drive=hd1"],
    ...["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0"],
    ...["-drive", "driver=null-co,if=none,id=hd0", "-device", "virtio-blk-pci,drive=hd0"],
  ],
  "no PCI hot plug on bridges, a root port": [
    ...["-smp", "4", "-m", "4096M"],
    ...["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"],
    ...["-device", "pcie-root-port,id=pci.1,bus=pcie.0,chassis=1"],
  ],
};

const qemu = qemuPath();
for (const [shape, machineArguments] of Object.entries(SHAPES)) {
  const name = `RSDP and table loader equal QEMU's: ${shape}`;
  if (qemu === undefined) {
    test(name, { skip: "skipped: no QEMU >= 10 (scripts/host-tools provides it)" }, () => {});
    continue;
  }
  test(name, async () => {
    const machine = new FrozenMachine(qemu, [...Q35, ...machineArguments]);
    try {
      // PCIEXBAR as OVMF sets it; with it QEMU adds MCFG.
      await machine.writePciConfig(0, 0x60, 0xe000_0001);
      const tables = parseAcpiTables((await machine.readFile("etc/acpi/tables"))!);
      assert.deepEqual(
        tables.map(({ signature }) => signature),
        ["FACS", "DSDT", "FACP", "APIC", "MCFG", "WAET", "RSDT"],
      );
      assert.deepEqual(encodeRsdp(tables), await machine.readFile("etc/acpi/rsdp"));
      assert.deepEqual(encodeTableLoader(tables), await machine.readFile("etc/table-loader"));
    } finally {
      await machine.stop();
    }
  });
}
