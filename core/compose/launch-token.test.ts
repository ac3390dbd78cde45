import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { errorChain } from "../errors/app-error.ts";
import { checkLaunchToken, launchTokenHash } from "./launch-token.ts";

// spec/os.md 8.2
const TOKEN = "unit-test-launch-token-0000000001";
const HASH = "28faa1319055d733ad9651f5ab7689c15b04609846bcd27b3c5bc8df6246f5a3";

const config = (token: unknown) => utf8(JSON.stringify({ dstack: { launch_token: token } }));

test("the hash is domain separated", () => {
  assert.equal(toHex(launchTokenHash(TOKEN)), HASH);
});

test("the pinned token passes and any other is refused", () => {
  checkLaunchToken(HASH, config(TOKEN));
  assert.throws(() => checkLaunchToken(HASH, config(TOKEN + "x")), /launch token mismatch/);
});

test("a short token is refused even when its hash is pinned", () => {
  for (const short of ["", "x".repeat(31)]) {
    const pinned = toHex(launchTokenHash(short));
    assert.throws(() => checkLaunchToken(pinned, config(short)), /too short/);
  }
});

test("a pin that is not 32 bytes of hex is refused", () => {
  assert.throws(() => checkLaunchToken("zz", config(TOKEN)), /not a hex string/);
  assert.throws(() => checkLaunchToken("abcd", config(TOKEN)), /expected 32-byte sha256 hex/);
});

test("a user config without the token, with another type or not JSON is refused by name", () => {
  assert.throws(() => checkLaunchToken(HASH, undefined), /no user config/);
  assert.throws(() => checkLaunchToken(HASH, utf8("{}")), /no dstack.launch_token/);
  assert.throws(() => checkLaunchToken(HASH, config(7)), /must be a string/);
  assert.throws(() => checkLaunchToken(HASH, utf8("TOKEN=x")), /not strict JSON/);
});

test("a refusal never quotes the user config", () => {
  try {
    checkLaunchToken(HASH, utf8('{"dstack":{"launch_token": s3cret}}'));
    assert.fail("accepted");
  } catch (error) {
    assert.doesNotMatch(errorChain(error), /s3cret/);
  }
});
