import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { parseCcel } from "#core/event-log/ccel.ts";
import { replayEventLog } from "#core/event-log/replay.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { fakeHost, request } from "../vmm/fake-host.fixture.ts";
import { createHostApi } from "./app.ts";

const TOKEN = "01".repeat(32);

async function guest() {
  const host = await fakeHost();
  const id = await host.vmm.create(request());
  const errors: unknown[] = [];
  const app = createHostApi({
    version: "0.1.0",
    findByToken: (token) => host.inventory.findByHostApiToken(token),
    notify: (entry, event, payload) => host.vmm.notify(entry, event, payload),
    simulatedTee: { tds: host.tds, platform: host.platform },
    now: () => new Date(host.clock.now),
    logError: (error) => errors.push(error),
  });
  const call = (path: string, body?: unknown, token: string | undefined = TOKEN) =>
    app.request(path, {
      method: body === undefined ? "GET" : "POST",
      headers: token === "" ? {} : { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const notify = (event: string, payload: string) => call("/api/Notify?json", { event, payload });
  return { host, id, entry: host.inventory.require(id), call, notify, errors };
}

test("a guest without its token learns and changes nothing", async () => {
  const { host, call, entry } = await guest();
  using _ = host;
  for (const token of ["", "00".repeat(32), TOKEN.slice(2), `${TOKEN}00`]) {
    const notified = await call(
      "/api/Notify?json",
      { event: "boot.progress", payload: "x" },
      token,
    );
    assert.equal(notified.status, 400, "pRPC answers every refusal with 400");
    assert.equal(notified.headers.get("x-error-code"), "auth/unauthenticated");
    assert.equal((await call("/v1/tee/ccel", undefined, token)).status, 401);
    const quote = await call("/v1/tee/quote", { report_data: "00".repeat(64) }, token);
    assert.equal(quote.status, 401);
  }
  assert.equal(entry.cvm.bootProgress, "booting");
});

test("notifications have the effects of spec/vmm.md section 5.1", async () => {
  const { host, id, entry, notify } = await guest();
  using _ = host;
  const answer = await notify("boot.progress", "requesting app keys");
  assert.equal(answer.status, 200);
  assert.equal(await answer.text(), "null");
  assert.equal(entry.cvm.bootProgress, "requesting app keys");

  await notify("boot.error", "no KMS");
  assert.equal(entry.cvm.bootError, "no KMS");
  await notify("boot.error", "");
  assert.equal(entry.cvm.bootError, "");

  const info = JSON.stringify({
    instance_id_seed: "4b".repeat(20),
    instance_id: "0abff47951d7c6ac7799805128381a34d812fad4",
    app_id: "11".repeat(20),
  });
  await notify("instance.info", info);
  assert.equal(entry.cvm.instanceId, "0abff47951d7c6ac7799805128381a34d812fad4");
  const stored = host.content.get(`/run/vm/${id}/shared/.instance_info`);
  assert.equal(new TextDecoder().decode(stored), info);

  await notify("anything.else", "kept");
  assert.equal(entry.cvm.started, true);
  await notify("shutdown.progress", "powering off");
  assert.equal(entry.cvm.started, false, "a guest that powers off is not started again");
  const events = await host.store.eventsOf([id]);
  assert.deepEqual(events.map(({ event }) => event), [
    "vmm.start",
    "boot.progress",
    "boot.error",
    "boot.error",
    "instance.info",
    "anything.else",
    "shutdown.progress",
  ]);
});

test("what a guest says about itself is checked before it is kept", async () => {
  const { host, id, entry, notify } = await guest();
  using _ = host;
  for (const info of ["[]", "{", '{"instance_id":"../../x"}', '{"app_id":"00"}']) {
    assert.equal((await notify("instance.info", info)).status, 400, info);
  }
  assert.equal(entry.cvm.instanceId, "");
  const dropped = await notify("boot.progress", "x".repeat(4097));
  assert.equal(dropped.status, 200, "too large: dropped, yet a success");
  assert.equal(entry.cvm.bootProgress, "booting");
  assert.equal((await host.store.eventsOf([id])).length, 1);
});

test("the simulated TEE's quote carries registers that its own log replays to", async () => {
  const { host, entry, call } = await guest();
  using _ = host;
  const first = "aa".repeat(48);
  assert.equal((await call("/v1/tee/extend", { index: 3, digest: first })).status, 200);
  const answer = await call("/v1/tee/quote", { report_data: "42".repeat(64) });
  const { quote } = await answer.json() as { quote: string };
  const { body } = parseQuote(fromHex(quote));
  assert.ok(body.kind === "td10");
  const tdReport = body.report;
  assert.equal(toHex(tdReport.reportData), "42".repeat(64));
  // V1: a one, the compose hash, zeros (spec/vmm.md section 4.6).
  assert.equal(toHex(tdReport.mrConfigId), `01${entry.cvm.composeHash}${"00".repeat(15)}`);

  const ccel = await call("/v1/tee/ccel");
  const events = parseCcel(new Uint8Array(await ccel.arrayBuffer()));
  const rtmrs = replayEventLog(events);
  for (const i of [0, 1, 2]) assert.deepEqual(tdReport.rtmrs[i], rtmrs[i], `RTMR${i}`);
  assert.equal(events.filter(({ event }) => event.startsWith("acpi-")).length, 3);
  assert.equal(toHex(tdReport.rtmrs[3]), EXTENDED_ONCE);
});

/** sha384sum of 48 bytes 00 and 48 bytes AA. */
const EXTENDED_ONCE =
  "7bb2c5d8ea033e351e3bbcd999104ba4a95c440e7930e17becc2effd55069425f50dd6852cfd3b664453b66c6cb673ea";

test("a VM that does not run has no TEE", async () => {
  const { host, id, call } = await guest();
  using _ = host;
  await host.vmm.stop(id);
  assert.equal((await call("/v1/tee/quote", { report_data: "42".repeat(64) })).status, 409);
});

test("registers a guest must not extend, and bytes of wrong length, are refused", async () => {
  const { host, call } = await guest();
  using _ = host;
  const digest = "aa".repeat(48);
  for (const body of [{ index: 0, digest }, { index: 1, digest }, { index: 4, digest }]) {
    assert.equal((await call("/v1/tee/extend", body)).status, 400, JSON.stringify(body));
  }
  assert.equal((await call("/v1/tee/extend", { index: 3, digest: "aa" })).status, 400);
  assert.equal((await call("/v1/tee/quote", { report_data: "aa" })).status, 400);
});

test("collateral and root need no token, as any PCCS", async () => {
  const { host, call } = await guest();
  using _ = host;
  const root = await call("/v1/tee/root.pem", undefined, "");
  assert.equal(await root.text(), host.platform.rootCertificatePem);
  const crl = await call("/sgx/certification/v4/rootcacrl", undefined, "");
  assert.equal(crl.status, 200);
  assert.equal((await call("/sgx/certification/v4/nothing", undefined, "")).status, 404);
  for (const response of [root, crl]) {
    assert.equal(response.headers.get("access-control-allow-origin"), "*");
    assert.equal(response.headers.get("access-control-expose-headers"), "*");
  }
  const ccel = await call("/v1/tee/ccel");
  assert.equal(ccel.headers.get("access-control-allow-origin"), null, "guests are no web pages");
});
