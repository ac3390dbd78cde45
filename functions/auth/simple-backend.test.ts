import assert from "node:assert/strict";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import type { BootInfo } from "./boot-info.ts";
import { mockBackend } from "./mock-backend.ts";
import { runPolicyCases } from "./policy-test.ts";
import { type AllowlistFiles, allowlistReader, simpleBackend } from "./simple-backend.ts";

const SECRET = new Uint8Array(32).fill(7);
const SIGNER = ed25519.getPublicKey(SECRET);
const APP_ID = "cc".repeat(20);
const BOOT: BootInfo = {
  teeVariant: "dstack-tdx",
  mrAggregated: "aa".repeat(32),
  mrSystem: "",
  osImageHash: "bb".repeat(32),
  appId: APP_ID,
  composeHash: "dd".repeat(32),
  instanceId: "",
  deviceId: "ff".repeat(32),
  keyProviderInfo: "",
  tcbStatus: "UpToDate",
  advisoryIds: [],
};
const DOCUMENT = {
  sequence: 5,
  validUntil: "2026-07-01T00:00:00Z",
  osImages: [BOOT.osImageHash],
  apps: { [APP_ID]: { composeHashes: [BOOT.composeHash] } },
};

function signed(document: object, secret = SECRET): AllowlistFiles {
  const allowlist = utf8(JSON.stringify(document));
  return { allowlist, signature: ed25519.sign(allowlist, secret) };
}

function setup(signers = [SIGNER]) {
  const state = {
    files: signed(DOCUMENT),
    now: new Date("2026-06-01T00:00:00Z"),
    stored: 0,
    reads: 0,
  };
  const options = {
    read: () => Promise.resolve(state.files),
    now: () => state.now,
    signers,
    sequence: {
      read: () => Promise.resolve(state.stored),
      write: (sequence: number) => {
        state.stored = sequence;
        return Promise.resolve();
      },
    },
  };
  return { state, options, backend: simpleBackend(options) };
}

const refused = (message: RegExp) => ({ code: "config/invalid", message });

test("a signed allowlist decides and names its sequence number", async () => {
  const { state, backend } = setup();
  const decision = await backend.decide("app", BOOT);
  assert.deepEqual(decision, {
    isAllowed: true,
    gatewayAppId: "",
    reason: "",
    rule: "allowlist 5",
  });
  assert.equal(state.stored, 5);
  const { signature, allowlist } = state.files;
  state.files = { allowlist, signature: utf8(`${toHex(signature!)}\n`) };
  assert.equal((await backend.decide("app", BOOT)).isAllowed, true, "the signature as hex");
});

test("an allowlist that is not signed by a signer denies", async () => {
  const { state, backend } = setup();
  const { allowlist, signature } = signed(DOCUMENT);
  const others: [AllowlistFiles, RegExp][] = [
    [{ allowlist, signature: undefined }, /not signed: there is no .sig/],
    [signed(DOCUMENT, new Uint8Array(32).fill(8)), /by any of the signers/],
    [{ allowlist: utf8(JSON.stringify({ ...DOCUMENT, sequence: 6 })), signature }, /by any of/],
  ];
  for (const [files, message] of others) {
    state.files = files;
    await assert.rejects(backend.decide("app", BOOT), refused(message));
    await assert.rejects(backend.info(), refused(message));
  }
  state.files = { allowlist, signature: signature!.subarray(1) };
  await assert.rejects(backend.decide("app", BOOT), { code: "input/malformed" });
  state.files = { allowlist, signature };
  assert.equal((await backend.decide("app", BOOT)).isAllowed, true);
});

test("an old allowlist does not come back, also after a restart", async () => {
  const { state, options, backend } = setup();
  state.files = signed({ ...DOCUMENT, sequence: 9 });
  await backend.decide("app", BOOT);
  state.files = signed({ ...DOCUMENT, sequence: 8 });
  await assert.rejects(backend.decide("app", BOOT), refused(/8 is older than 9/));
  await assert.rejects(simpleBackend(options).decide("app", BOOT), refused(/8 is older than 9/));
});

test("an allowlist past its time denies, and a signed one must have one", async () => {
  const { state, backend } = setup();
  await backend.decide("app", BOOT);
  state.now = new Date("2026-07-01T00:00:01Z");
  await assert.rejects(backend.decide("app", BOOT), refused(/out of date/));
  for (const member of ["sequence", "validUntil"]) {
    state.files = signed({ ...DOCUMENT, [member]: undefined });
    await assert.rejects(backend.decide("app", BOOT), refused(/needs sequence and validUntil/));
  }
});

test("a denial says how to mend it", async () => {
  const { backend } = setup();
  const composeHash = "00".repeat(32);
  const { reason, remedy } = await backend.decide("app", { ...BOOT, composeHash });
  assert.equal(reason, "compose hash not allowed");
  assert.equal(remedy, `add ${composeHash} to apps.${APP_ID}.composeHashes`);
});

test("policy cases are decided, explained and compared", async () => {
  const allowlist = await allowlistReader(setup().options)();
  const cases = [
    { name: "listed", role: "app", boot: BOOT, expect: "allow" },
    { name: "old", role: "app", boot: { ...BOOT, tcbStatus: "OutOfDate" }, expect: "deny" },
    { name: "surprise", role: "kms", boot: BOOT, expect: "allow" },
    {
      name: "other reason",
      role: "kms",
      boot: BOOT,
      expect: "deny",
      reason: "OS image is not allowed",
    },
  ];
  const outcomes = runPolicyCases(JSON.stringify(cases), allowlist);
  assert.deepEqual(outcomes.map(({ name, ok }) => [name, ok]), [
    ["listed", true],
    ["old", true],
    ["surprise", false],
    ["other reason", false],
  ]);
  assert.equal(outcomes[0]!.text, "allowed: all 6 rules pass");
  assert.match(outcomes[1]!.text, /^denied: TCB status is not allowed; to allow it, update/);
  assert.match(outcomes[2]!.text, /aggregated MR not allowed.*; expected: allow$/);
  for (const text of ["{", "{}", '[{"name":"x"}]']) {
    assert.throws(() => runPolicyCases(text, allowlist), { code: "input/malformed" });
  }
});

test("the mock backend runs in development images only", async () => {
  assert.throws(() => mockBackend("any", false), refused(/development images only/));
  const mock = mockBackend("any", true);
  assert.equal((await mock.decide("app", BOOT)).reason, "mock app always allowed");
});
