import assert from "node:assert/strict";
import { test } from "node:test";
import { type CpioEntry, encodeCpio } from "./cpio.ts";

const text = (value: string) => new TextEncoder().encode(value);
const FILE: CpioEntry = { path: "init", type: "file", mode: 0o755, content: text("#!/bin/sh\n") };

test("the bytes are those GNU cpio writes for the same tree", () => {
  // printf '#!/bin/sh\n' >init; chmod 755 init; ln -s init a
  // printf 'a\ninit\n' | cpio -o -H newc --reproducible --owner=0:0, times set to 0, 0x200-byte blocks
  const link: CpioEntry = { path: "a", type: "symlink", mode: 0o777, content: text("init") };
  const expected = "070701" + "00000001" + "0000A1FF" + "00000000" + "00000000" + "00000001" +
    "00000000" + "00000004" + "00000000".repeat(4) + "00000002" + "00000000" + "a\0" + "init" +
    "070701" + "00000002" + "000081ED" + "00000000" + "00000000" + "00000001" +
    "00000000" + "0000000A" + "00000000".repeat(4) + "00000005" + "00000000" + "init\0" + "\0" +
    "#!/bin/sh\n" + "\0\0" +
    "070701" + "00000000".repeat(4) + "00000001" + "00000000".repeat(6) + "0000000B" +
    "00000000" + "TRAILER!!!\0";
  const archive = encodeCpio([FILE, link]);
  assert.equal(archive.length, 512);
  assert.equal(new TextDecoder().decode(archive).replace(/\0+$/, ""), expected.replace(/\0+$/, ""));
});

test("the order in which members are given does not matter", () => {
  const folder: CpioEntry = {
    path: "bin",
    type: "directory",
    mode: 0o755,
    content: new Uint8Array(0),
  };
  assert.deepEqual(encodeCpio([FILE, folder]), encodeCpio([folder, FILE]));
});

test("a path given twice is refused", () => {
  assert.throws(() => encodeCpio([FILE, FILE]), { code: "os-build/image-invalid" });
});
