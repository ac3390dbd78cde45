import assert from "node:assert/strict";
import { test } from "node:test";
import { createKmsApp } from "./app.ts";
import { APP_ID, clientCertificate, fakePorts, GATEWAY_APP_ID, NOW } from "./fakes.ts";
import { Admission, peerKey, RateLimiter } from "./limits.ts";

function limiter(perSecond: number, burst: number) {
  const clock = { ms: 0 };
  return { clock, limiter: new RateLimiter({ perSecond, burst, now: () => new Date(clock.ms) }) };
}

test("a bucket gives its burst, then what time earns, to each key apart", () => {
  const { clock, limiter: rate } = limiter(2, 3);
  const taken = (key: string) => [1, 2, 3, 4].map(() => rate.take(key));
  assert.deepEqual(taken("a"), [true, true, true, false]);
  assert.deepEqual(taken("b"), [true, true, true, false]);
  clock.ms = 500;
  assert.deepEqual(taken("a"), [true, false, false, false]);
  clock.ms = 60_000;
  assert.deepEqual(taken("a"), [true, true, true, false], "never more than the burst");
  clock.ms = 0;
  assert.deepEqual(
    taken("a"),
    [false, false, false, false],
    "a clock that went back earns nothing",
  );
});

test("keys beyond the bound push out the oldest", () => {
  const { limiter: rate } = limiter(0, 1);
  assert.equal(rate.take("first"), true);
  for (let i = 0; i < 10_000; i++) rate.take(`other ${i}`);
  assert.equal(rate.take("other 9999"), false);
  assert.equal(rate.take("first"), true);
});

test("so many run, so many wait, the rest are refused, and a failure frees its place", async () => {
  const admission = new Admission(2, 1);
  const order: string[] = [];
  const gates = [0, 1, 2].map(() => Promise.withResolvers<void>());
  const runs = gates.map((gate, i) =>
    admission.run(async () => {
      order.push(`start ${i}`);
      await gate.promise;
      order.push(`end ${i}`);
    })
  );
  await assert.rejects(admission.run(() => Promise.resolve()), {
    code: "resource/exhausted",
    fields: { reason: "busy" },
  });
  assert.equal(admission.waiting, 1);
  gates[1]!.reject(new Error("failed"));
  await assert.rejects(runs[1]!, { message: "failed" });
  gates[2]!.resolve();
  await runs[2];
  gates[0]!.resolve();
  await runs[0];
  assert.deepEqual(order, ["start 0", "start 1", "start 2", "end 2", "end 0"]);
  for (let i = 0; i < 5; i++) await admission.run(() => Promise.resolve());
});

test("one peer is an IPv4 address or an IPv6 network", () => {
  for (
    const [address, key] of [
      ["10.0.0.1", "10.0.0.1"],
      ["::ffff:10.0.0.1", "10.0.0.1"],
      ["2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"],
      ["2001:db8:0:1::9", "2001:db8:0:1::/64"],
      ["2001:0db8::1", "2001:db8:0:0::/64"],
      ["::1", "0:0:0:0::/64"],
      ["fe80::1%eth0", "fe80:0:0:0::/64"],
      ["", ""],
    ] as const
  ) assert.equal(peerKey(address), key, address);
});

test("a peer that asks too often is refused in the words of its interface, others are not", async () => {
  const now = () => NOW;
  const limits = {
    perPeer: new RateLimiter({ perSecond: 1, burst: 2, now }),
    perApp: new RateLimiter({ perSecond: 1, burst: 100, now }),
    admission: new Admission(8, 8),
  };
  const { ports } = await fakePorts({ limits });
  const app = createKmsApp(ports);
  const ask = (path: string, remoteAddress: string) => app.request(path, {}, { remoteAddress });
  for (let i = 0; i < 2; i++) {
    assert.equal((await ask("/prpc/GetTempCaCert", "10.0.0.1")).status, 200);
  }
  const refused = await ask("/prpc/GetTempCaCert", "10.0.0.1");
  assert.equal(refused.status, 400);
  assert.equal(refused.headers.get("x-error-code"), "resource/exhausted");
  assert.equal(refused.headers.get("x-error-reason"), "rate-limited/peer");
  const problem = await ask("/v1/log/head", "10.0.0.1");
  assert.equal((await problem.json() as { reason: string }).reason, "rate-limited/peer");
  assert.equal((await ask("/prpc/GetTempCaCert", "10.0.0.2")).status, 200);
  assert.equal((await ask("/healthz", "10.0.0.1")).status, 200, "operations are not limited");
});

test("an app that asks too often is refused before anybody is asked about it", async () => {
  const now = () => NOW;
  const limits = {
    perPeer: new RateLimiter({ perSecond: 1, burst: 100, now }),
    perApp: new RateLimiter({ perSecond: 1, burst: 2, now }),
    admission: new Admission(8, 8),
  };
  const { ports, asked, rows } = await fakePorts({ limits });
  const app = createKmsApp(ports);
  const ask = () =>
    app.request("/prpc/GetAppKey?json", { method: "POST" }, {
      peerCertificate: clientCertificate(),
    });
  for (let i = 0; i < 2; i++) {
    assert.equal(
      (await (await ask()).json() as Record<string, string>)["gateway_app_id"],
      GATEWAY_APP_ID,
    );
  }
  assert.equal((await ask()).headers.get("x-error-reason"), "rate-limited/app");
  assert.equal(asked.length, 2);
  assert.deepEqual([rows[2]!.reason, rows[2]!.appId], ["rate-limited/app", APP_ID]);
});
