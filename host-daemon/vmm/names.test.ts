import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex } from "#core/bytes/bytes.ts";
import { formatDuration } from "./duration.ts";
import { macAddress } from "./mac-address.ts";
import { requireCvmName, requireImageName, requireVmId } from "./vm-id.ts";

test("MAC addresses match the reference's vectors", () => {
  // spec/vmm.md section 7.2.
  const none = new Uint8Array();
  assert.equal(macAddress("vm-123", 0, none), "96:b1:d8:b9:08:e6");
  assert.equal(macAddress("vm-123", 1, none), "c6:74:2c:65:14:b9");
  assert.equal(macAddress("vm-123", 0, fromHex("525400")), "52:54:00:97:b1:d8");
});

test("VM ids that could leave the run directory are refused", () => {
  // spec/vmm.md section 12.1.
  for (const id of ["6f6d2b1e-8a3c-4a1f-9e07-0d8e3f1c2b4a", "vm_1-A"]) requireVmId(id);
  const bad = ["", "..", "../../etc", "/etc/passwd", "a/b", "a\\b", " ", ".", "a\0", "é"];
  for (const id of [...bad, "a".repeat(65)]) {
    assert.throws(() => requireVmId(id), { message: "invalid VM id" }, JSON.stringify(id));
  }
});

test("names and image names keep to their alphabets", () => {
  requireCvmName("");
  requireCvmName("My app-1_@~!$^()");
  assert.throws(() => requireCvmName("a/b"), { message: "Invalid name: a/b" });
  requireImageName("dstack-dev-0.6.0");
  for (const name of ["..", "a/b", "", "a..b", ".hidden", "é"]) {
    assert.throws(() => requireImageName(name), { message: "Invalid image name" });
  }
});

test("durations read as the reference prints them", () => {
  const second = 1000;
  assert.equal(formatDuration(0), "0s");
  assert.equal(formatDuration(999), "0s");
  assert.equal(formatDuration(((24 + 2) * 3600 + 3 * 60 + 4) * second), "1day 2h 3m 4s");
  assert.equal(formatDuration(2 * 86_400 * second), "2days");
});
