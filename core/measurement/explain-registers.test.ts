import assert from "node:assert/strict";
import { test } from "node:test";
import { IMAGE_FILES } from "../../tests/fixtures/image-folder.ts";
import { AppError } from "../errors/app-error.ts";
import { explainRegisters, type MeasuredVm } from "./explain-registers.ts";
import { parseVmConfig, type VmConfig } from "./vm-config.ts";

const BASE: MeasuredVm = {
  files: IMAGE_FILES,
  config: parseVmConfig(JSON.stringify({ cpu_count: 2, memory_size: 2 ** 31 })),
};
const withConfig = (change: Partial<VmConfig>): MeasuredVm => ({
  ...BASE,
  config: { ...BASE.config, ...change },
});

test("equal VMs have nothing to explain", async () => {
  assert.deepEqual(await explainRegisters(BASE, withConfig({})), []);
});

test("each input moves the registers that hold it", async () => {
  const cases: [Partial<VmConfig>, string, string[], string[]][] = [
    [{ cpuCount: 4 }, "cpu", ["rtmr0"], [
      "acpi_loader",
      "acpi_rsdp",
      "acpi_tables (DSDT, APIC, RSDT)",
    ]],
    [{ memoryBytes: 2 ** 30 }, "memory", ["rtmr0", "rtmr1"], [
      "td_hob",
      "acpi_tables (DSDT)",
      "kernel",
    ]],
    [{ memoryBytes: 2 ** 32 }, "memory", ["rtmr0"], ["td_hob"]],
    [{ pic: true }, "pic", ["rtmr0"], ["acpi_tables (APIC)"]],
    [{ twoPassAddPages: true }, "two-pass", ["mrtd"], []],
    [{ hostShareMode: "vhd" }, "share", [], []],
    [{ pciHole64Size: 2 ** 40 }, "pci-hole64-size", ["rtmr0"], ["acpi_tables (DSDT)"]],
    [{ hugepages: true }, "hugepages", ["rtmr0"], [
      "acpi_loader",
      "acpi_rsdp",
      "acpi_tables (DSDT, SRAT, RSDT)",
    ]],
  ];
  for (const [change, input, registers, events] of cases) {
    const [move, ...more] = await explainRegisters(BASE, withConfig(change));
    assert.deepEqual([move!.inputs.map((one) => one.input), move!.registers, more], [
      [input],
      registers,
      [],
    ]);
    assert.deepEqual(move!.events, events);
  }
});

test("parts of the image are inputs too, and all of them are told in order", async () => {
  const initrd = IMAGE_FILES.initrd.slice();
  initrd[9]! ^= 1;
  const cmdline = `${IMAGE_FILES.cmdline} quiet`;
  const after = {
    files: { ...IMAGE_FILES, initrd, cmdline },
    config: { ...BASE.config, numGpus: 1, numNvswitches: 2 },
  };
  const moves = await explainRegisters(BASE, after);
  assert.deepEqual(
    moves.map(({ inputs, registers }) => [inputs.map((one) => one.input), registers]),
    [
      [["initrd"], ["rtmr2"]],
      [["cmdline"], ["rtmr2"]],
      [["gpus"], ["rtmr0"]],
      [["nvswitches"], ["rtmr0"]],
    ],
  );
  assert.deepEqual(moves[2]!.inputs, [{ input: "gpus", before: "0", after: "1" }]);
  assert.match(moves[0]!.inputs[0]!.before, /^sha256:[0-9a-f]{16}$/);
});

test("inputs that no VM has apart are told together", async () => {
  const crowded = withConfig({ numNics: 14, numGpus: 1 });
  const expanded = withConfig({ numNics: 2, numGpus: 1, hugepages: true });
  const moves = await explainRegisters(crowded, expanded);
  assert.deepEqual(moves.map(({ inputs }) => inputs.map((one) => one.input)), [
    ["hugepages", "nics"],
  ]);
});

test("a VM that cannot be measured is refused", async () => {
  for (const change of [{ swtpm: true }, { cpuCount: 0 }, { hostShareMode: "nfs" }]) {
    await assert.rejects(
      explainRegisters(BASE, withConfig(change)),
      (error) => error instanceof AppError && error.code === "measurement/unsupported",
    );
  }
});
