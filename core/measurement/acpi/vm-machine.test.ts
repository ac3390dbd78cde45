import assert from "node:assert/strict";
import { test } from "node:test";
import { parseVmConfig } from "../vm-config.ts";
import { acpiMachineOf } from "./vm-machine.ts";

const machine = (members: Record<string, unknown>) =>
  acpiMachineOf(parseVmConfig(JSON.stringify({ cpu_count: 1, memory_size: 2 ** 31, ...members })));

test("root image, data disk, NIC, vsock and share make five devices; more are added", () => {
  assert.equal(machine({}).endpoints, 5);
  assert.equal(machine({ num_nics: 3 }).endpoints, 7);
  assert.equal(machine({ num_nics: 0 }).endpoints, 4);
  assert.equal(machine({ num_verity_volumes: 2 }).endpoints, 7);
  for (const mode of ["", "9p", "vhd", "vvfat"]) {
    assert.equal(machine({ host_share_mode: mode }).endpoints, 5);
  }
});

test("the interrupt controller follows the release unless it is given", () => {
  assert.equal(machine({ qemu_version: "8.2.2" }).pic, true);
  assert.equal(machine({}).pic, false);
  assert.equal(machine({ qemu_version: "8.2.2", pic: false }).pic, false);
  assert.equal(machine({ qemu_version: "11.1.3", pic: true }).pic, true);
});

test("NVSwitches come with GPUs only", () => {
  assert.equal(machine({ num_nvswitches: 4 }).nvswitches, 0);
  assert.equal(machine({ num_nvswitches: 4, num_gpus: 8 }).nvswitches, 4);
});
