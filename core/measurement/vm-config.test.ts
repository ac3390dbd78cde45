import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../errors/app-error.ts";
import { encodeVmConfig, parseVmConfig, patchesKernelHeader, usesTwoPass } from "./vm-config.ts";

// spec/attestation.md 3.5: the members that are always written, in their order
const DEFAULTS =
  '{"os_image_hash":"","cpu_count":0,"memory_size":0,"pci_hole64_size":0,"hugepages":false,' +
  '"num_gpus":0,"num_nvswitches":0,"hotplug_off":false,"host_share_mode":""}';

test("an empty config has every default and omits what may be omitted", () => {
  const config = parseVmConfig("{}");
  assert.equal(config.numNics, 1);
  assert.equal(config.tdxAttestationVariant, "legacy");
  assert.equal(encodeVmConfig(config), DEFAULTS);
});

test("every member is written where the reference has it", () => {
  const text = '{"os_image_hash":"ab","cpu_count":2,"memory_size":2147483648,' +
    '"qemu_single_pass_add_pages":true,"pic":false,"qemu_version":"9.2.1","pci_hole64_size":1,' +
    '"hugepages":true,"num_gpus":1,"num_nvswitches":2,"num_nics":2,"num_verity_volumes":3,' +
    '"swtpm":true,"hotplug_off":true,"image":"dstack-0.6.0","host_share_mode":"vhd",' +
    '"ovmf_variant":"pre202505","tdx_attestation_variant":"lite",' +
    '"tdx_measurement":{"checksum_file":"YQ==","measurement":"Yg=="},' +
    '"gcp_measurement":{"checksum_file":"YQ==","measurement":"Yg=="},' +
    '"aws_measurement":{"checksum_file":"YQ==","measurement":"Yg=="}}';
  assert.equal(encodeVmConfig(parseVmConfig(text)), text);
});

test("members a VMM adds are ignored, malformed ones refused", () => {
  parseVmConfig('{"spec_version":1,"mr_config":"{}","sev_snp_measurement":"{}","pic":null}');
  for (
    const bad of [
      '{"cpu_count":-1}',
      '{"memory_size":"2G"}',
      '{"os_image_hash":"zz"}',
      '{"tdx_attestation_variant":"other"}',
      '{"tdx_measurement":{"checksum_file":"YQ=="}}',
      '{"num_nics":1,"num_nics":2}',
      "[]",
    ]
  ) assert.throws(() => parseVmConfig(bad), AppError, bad);
});

test("the order of page measurement follows QEMU's version unless it is given", () => {
  const twoPass = (members: Record<string, unknown>) =>
    usesTwoPass(parseVmConfig(JSON.stringify(members)));
  assert.equal(twoPass({}), false);
  assert.equal(twoPass({ qemu_version: "8.2.2" }), true);
  assert.equal(twoPass({ qemu_version: "9.0.0" }), false);
  assert.equal(twoPass({ qemu_version: "11.1.3" }), false);
  // The name says single pass, yet true means two.
  assert.equal(twoPass({ qemu_single_pass_add_pages: true, qemu_version: "9.2.1" }), true);
  assert.equal(twoPass({ qemu_single_pass_add_pages: false, qemu_version: "8.2.2" }), false);
  assert.throws(() => twoPass({ qemu_version: "7.2.0" }), /not supported/);
  for (const bad of ["9.1", "9.1.0-rc1", "x", ""]) {
    assert.throws(() => twoPass({ qemu_version: bad }), AppError);
  }
});

test("QEMU stopped patching a TD's kernel with 10.2", () => {
  const patches = (version: string) =>
    patchesKernelHeader(parseVmConfig(`{"qemu_version":"${version}"}`));
  assert.deepEqual(["9.2.1", "10.1.9", "10.2.0", "11.1.3"].map(patches), [
    true,
    true,
    false,
    false,
  ]);
});
