import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { createAuthApp } from "./app.ts";
import type { AuthDecisionEvent } from "./ports.ts";
import { simpleBackend } from "./simple-backend.ts";

const byte = (n: string, length: number) => n.repeat(length);
const BOOT = {
  teeVariant: "dstack-tdx",
  mrAggregated: byte("aa", 32),
  mrSystem: byte("ab", 32),
  osImageHash: byte("bb", 32),
  appId: byte("cc", 20),
  composeHash: byte("dd", 32),
  instanceId: byte("ee", 20),
  deviceId: byte("ff", 32),
  keyProviderInfo: "",
  tcbStatus: "UpToDate",
  advisoryIds: [] as string[],
};
const ALLOWLIST = {
  gatewayAppId: "gateway",
  osImages: [`0x${byte("BB", 32)}`],
  kms: { mrAggregated: [byte("aa", 32)] },
  apps: { [`0x${byte("CC", 20)}`]: { composeHashes: [byte("dd", 32)] } },
};

function setup(allowlist: unknown = ALLOWLIST) {
  const file = { text: JSON.stringify(allowlist) as string | undefined };
  const decisions: AuthDecisionEvent[] = [];
  const errors: unknown[] = [];
  const app = createAuthApp({
    backend: simpleBackend({
      now: () => new Date("2026-06-01T12:00:00Z"),
      read: async () => {
        if (file.text === undefined) throw new Error("ENOENT");
        return { allowlist: utf8(file.text), signature: undefined };
      },
      signers: [],
    }),
    logDecision: (event) => decisions.push(event),
    logError: (error) => errors.push(error),
    metrics: noMetrics,
    version: { version: "0.1.0", rev: "unknown" },
  });
  const ask = async (role: string, boot: unknown) => {
    const response = await app.request(`/bootAuth/${role}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof boot === "string" ? boot : JSON.stringify(boot),
    });
    const { remedy: _, rule: __, code: ___, ...body } = await response.json();
    return { status: response.status, body };
  };
  return { app, ask, file, decisions, errors };
}

const allowed = { status: 200, body: { isAllowed: true, gatewayAppId: "gateway", reason: "" } };
const denied = (reason: string, gatewayAppId = "gateway") => ({
  status: 200,
  body: { isAllowed: false, gatewayAppId, reason },
});

test("a listed app and a listed KMS are allowed, whatever the case and prefix of hex", async () => {
  const { ask, decisions } = setup();
  assert.deepEqual(await ask("app", BOOT), allowed);
  assert.deepEqual(await ask("kms", BOOT), allowed);
  assert.deepEqual(await ask("app", { ...BOOT, appId: `0x${byte("Cc", 20)}`, extra: 1 }), allowed);
  assert.deepEqual(decisions.map(({ role, decision }) => [role, decision.isAllowed]), [
    ["app", true],
    ["kms", true],
    ["app", true],
  ]);
});

test("each rule has the reference's reason, in the reference's order", async () => {
  const { ask } = setup({
    ...ALLOWLIST,
    apps: {
      ...ALLOWLIST.apps,
      [byte("c1", 20)]: { composeHashes: [byte("dd", 32)], devices: [byte("f1", 32)] },
      [byte("c2", 20)]: {
        composeHashes: [byte("dd", 32)],
        devices: [byte("f1", 32)],
        allowAnyDevice: true,
      },
    },
    kms: { mrAggregated: [byte("aa", 32)], devices: [byte("f1", 32)] },
  });
  const cases: [string, Partial<typeof BOOT>, string][] = [
    ["app", { tcbStatus: "OutOfDate", advisoryIds: ["X"] }, "TCB status is not allowed"],
    ["app", { advisoryIds: ["INTEL-SA-1"], osImageHash: "" }, "advisory ID is not allowed"],
    ["app", { osImageHash: byte("00", 32), appId: byte("00", 20) }, "OS image is not allowed"],
    ["app", { appId: byte("00", 20), composeHash: byte("00", 32) }, "app not registered"],
    ["app", { composeHash: byte("00", 32) }, "compose hash not allowed"],
    ["app", { appId: byte("c1", 20) }, "app is not allowed to boot on this device"],
    ["kms", { mrAggregated: byte("00", 32) }, "aggregated MR not allowed"],
    ["kms", {}, "KMS is not allowed to boot on this device"],
  ];
  for (const [role, change, reason] of cases) {
    assert.deepEqual(await ask(role, { ...BOOT, ...change }), denied(reason), reason);
  }
  assert.deepEqual(await ask("app", { ...BOOT, appId: byte("c2", 20) }), allowed);
});

test("an absent TCB status is not UpToDate, and empty lists deny", async () => {
  const { tcbStatus: _, ...withoutStatus } = BOOT;
  assert.deepEqual(await setup().ask("app", withoutStatus), denied("TCB status is not allowed"));
  assert.deepEqual(await setup({}).ask("app", BOOT), denied("OS image is not allowed", ""));
});

test("a change of the file counts for the next request", async () => {
  const { ask, file } = setup();
  assert.deepEqual(await ask("app", BOOT), allowed);
  file.text = JSON.stringify({ ...ALLOWLIST, apps: {} });
  assert.deepEqual(await ask("app", BOOT), denied("app not registered"));
  file.text = JSON.stringify(ALLOWLIST);
  assert.deepEqual(await ask("app", BOOT), allowed);
});

test("a missing or invalid file denies everything and says why in the log only", async () => {
  const broken = [
    undefined,
    "",
    "{",
    "[]",
    '{"osImage":[]}',
    '{"osImages":["0x12"]}',
    '{"apps":{"12":{}}}',
    JSON.stringify({ apps: { [byte("cc", 20)]: {}, [`0x${byte("CC", 20)}`]: {} } }),
  ];
  for (const text of broken) {
    const { app, ask, file, errors } = setup();
    file.text = text;
    assert.deepEqual(await ask("app", BOOT), denied("authorization backend unavailable", ""), text);
    assert.equal((await app.request("/")).status, 500, text);
    assert.equal(errors.length, 2, text);
  }
});

test("a request that is no boot info gets 400 and a denial", async () => {
  const { ask } = setup();
  const { appId: _, ...withoutAppId } = BOOT;
  const invalid = {
    status: 400,
    body: { isAllowed: false, gatewayAppId: "", reason: "invalid authorization request" },
  };
  const bad = [
    withoutAppId,
    { ...BOOT, appId: "xyz" },
    { ...BOOT, appId: byte("cc", 21) },
    "{",
    "1",
  ];
  for (const boot of bad) assert.deepEqual(await ask("app", boot), invalid, JSON.stringify(boot));
  const huge = { ...BOOT, padding: "x".repeat(300 * 1024) };
  assert.equal((await ask("app", huge)).status, 413);
});

test("info has what a KMS needs for GetMeta", async () => {
  const { app } = setup({ ...ALLOWLIST, chainId: 5 });
  assert.deepEqual(await (await app.request("/")).json(), {
    status: "ok",
    kmsContractAddr: `0x${byte("00", 20)}`,
    ethRpcUrl: "",
    gatewayAppId: "gateway",
    chainId: 5,
    appImplementation: `0x${byte("00", 20)}`,
    appAuthImplementation: `0x${byte("00", 20)}`,
  });
});

test("readiness is that of the allowlist; the document names both questions", async () => {
  const { app, file } = setup();
  assert.equal((await app.request("/readyz")).status, 200);
  file.text = "{";
  assert.equal((await app.request("/readyz")).status, 503);
  assert.equal((await app.request("/healthz")).status, 200);
  const document = await (await app.request("/openapi.json")).json() as { paths: object };
  assert.deepEqual(Object.keys(document.paths).sort(), [
    "/",
    "/bootAuth/app",
    "/bootAuth/kms",
    "/healthz",
    "/metrics",
    "/readyz",
    "/version",
  ]);
});
