import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { composeHash, defaultAppId, instanceId } from "./identity.ts";

// spec/vmm.md 4.3
test("the app id of an empty compose is the start of its hash", () => {
  assert.equal(
    toHex(defaultAppId(composeHash(utf8("{}")))),
    "44136fa355b3678a1146ad16f7e8649e94fb4fc2",
  );
});

test("the instance id hashes seed and app id", () => {
  const id = instanceId(new Uint8Array(20).fill(0x4b), new Uint8Array(20).fill(0x11));
  assert.equal(toHex(id), "0abff47951d7c6ac7799805128381a34d812fad4");
});

test("a seed or app id of another length is refused", () => {
  const short = new Uint8Array(19);
  const good = new Uint8Array(20);
  assert.throws(() => instanceId(short, good), AppError);
  assert.throws(() => instanceId(good, short), /app id must be 20 bytes/);
});
