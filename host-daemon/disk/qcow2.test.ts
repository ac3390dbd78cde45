import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { missing, writeImage } from "./image-file.fixture.ts";
import { emptyQcow2, grownQcow2, QCOW2_HEADER_BYTES } from "./qcow2.ts";

const TOOLS = fileURLToPath(new URL("../../.cache/host-tools/bin/qemu-img", import.meta.url));
const QEMU_IMG = existsSync(TOOLS) ? TOOLS : "qemu-img";
const virtualSize = (path: string): unknown =>
  JSON.parse(
    execFileSync(QEMU_IMG, ["info", "--output=json", "-f", "qcow2", path]).toString(),
  )["virtual-size"];

test("a disk grows and keeps what was written", { skip: missing(QEMU_IMG) }, () => {
  const dir = mkdtempSync(join(tmpdir(), "qcow2-"));
  try {
    const path = join(dir, "hda.img");
    const raw = join(dir, "raw");
    const { parts, lengthBytes } = emptyQcow2(1n << 30n);
    writeImage(path, parts, lengthBytes);
    writeFileSync(raw, "what the app wrote".padEnd(4096));
    const dd = ["dd", "-f", "raw", "-O", "qcow2", `if=${raw}`, `of=${join(dir, "full.img")}`];
    execFileSync(QEMU_IMG, dd);
    execFileSync(QEMU_IMG, [
      "convert",
      "-n",
      "-f",
      "qcow2",
      "-O",
      "qcow2",
      join(dir, "full.img"),
      path,
    ]);
    const header = new Uint8Array(readFileSync(path)).slice(0, QCOW2_HEADER_BYTES);
    const fd = openSync(path, "r+");
    for (const part of grownQcow2(header, 4000n << 30n)) {
      writeSync(fd, part.bytes, 0, part.bytes.length, part.offset);
    }
    closeSync(fd);
    execFileSync(QEMU_IMG, ["check", "-f", "qcow2", path]);
    assert.equal(virtualSize(path), 4000 * 2 ** 30);
    execFileSync(QEMU_IMG, [
      "dd",
      "-f",
      "qcow2",
      "-O",
      "raw",
      "bs=4096",
      "count=1",
      `if=${path}`,
      `of=${raw}`,
    ]);
    assert.match(readFileSync(raw, "utf8"), /^what the app wrote/);
    assert.throws(() => grownQcow2(header, 5000n << 30n), { code: "input/unsupported" });
    assert.throws(() => grownQcow2(header, 1n << 20n), { message: "Cannot shrink disk size" });
    assert.throws(() => grownQcow2(new Uint8Array(104), 1n << 40n), { code: "input/unsupported" });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("qemu-img accepts an empty disk", { skip: missing(QEMU_IMG) }, () => {
  const dir = mkdtempSync(join(tmpdir(), "qcow2-"));
  try {
    for (const gib of [1n, 20n, 3000n]) {
      const path = join(dir, "hda.img");
      const { parts, lengthBytes } = emptyQcow2(gib << 30n);
      writeImage(path, parts, lengthBytes);
      execFileSync(QEMU_IMG, ["check", "-f", "qcow2", path]);
      assert.equal(virtualSize(path), Number(gib << 30n));
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("an empty disk's header carries the specification's numbers", () => {
  const { parts, lengthBytes } = emptyQcow2(1n << 30n);
  const header = new DataView(parts[0]!.bytes.buffer);
  assert.equal(header.getUint32(0), 0x514649fb);
  assert.equal(header.getUint32(4), 3);
  assert.equal(header.getBigUint64(24), 1n << 30n);
  assert.equal(header.getUint32(36), 2, "two level-1 entries of 512 MiB each");
  assert.equal(header.getUint32(100), 104);
  assert.equal(lengthBytes, 4 * 65536);
});
