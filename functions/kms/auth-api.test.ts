import assert from "node:assert/strict";
import { test } from "node:test";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { CircuitBreaker } from "#functions/circuit-breaker.ts";
import { webhookAuthApi } from "./auth-api.ts";
import type { BootInfo } from "./boot-info.ts";
import { authFailureCode } from "./reasons.ts";

const BOOT = { teeVariant: "dstack-tdx", appId: "11".repeat(20) } as BootInfo;
const ALLOWED = { isAllowed: true, gatewayAppId: "g", reason: "" };

function setup(url: string, ...answers: (() => Response | Promise<Response>)[]) {
  const calls: { url: string; method: string; headers: object; body: unknown }[] = [];
  const fetch: FetchLike = async (url, { method, headers, body }) => {
    calls.push({ url, method, headers, body: typeof body === "string" ? JSON.parse(body) : body });
    return await answers[Math.min(calls.length, answers.length) - 1]!();
  };
  const breaker = new CircuitBreaker({ name: "auth api", now: () => new Date(0) });
  const api = webhookAuthApi({ url, fetch, timeoutMs: 50, userAgent: "dstack-kms/0.1.0", breaker });
  return { api, calls };
}

const json = (body: unknown, status = 200) => () => Response.json(body, { status });

test("boots are posted below the base, with or without a slash at its end", async () => {
  for (const url of ["http://auth:8000", "http://auth:8000/"]) {
    const { api, calls } = setup(url, json({ ...ALLOWED, extra: 1 }));
    assert.deepEqual(await api.authorize("app", BOOT), ALLOWED);
    await api.authorize("kms", BOOT);
    assert.deepEqual(calls.map(({ url, method, body }) => ({ url, method, body })), [
      { url: "http://auth:8000/bootAuth/app", method: "POST", body: BOOT },
      { url: "http://auth:8000/bootAuth/kms", method: "POST", body: BOOT },
    ]);
    assert.deepEqual(calls[0]!.headers, {
      "user-agent": "dstack-kms/0.1.0",
      "content-type": "application/json",
    });
  }
});

test("info is asked at exactly the configured URL", async () => {
  const { api, calls } = setup(
    "http://auth:8000",
    json({
      status: "ok",
      kmsContractAddr: "0x1",
      gatewayAppId: "g",
      chainId: 7,
      appImplementation: "0x2",
      ethRpcUrl: "",
    }),
  );
  assert.deepEqual(await api.info(), {
    gatewayAppId: "g",
    kmsContractAddress: "0x1",
    chainId: 7n,
    appImplementation: "0x2",
    ethRpcUrl: null,
  });
  assert.deepEqual([calls[0]!.url, calls[0]!.method], ["http://auth:8000", "GET"]);
});

test("a member that is missing or not JSON at all is an invalid answer, asked once", async () => {
  for (const answer of [{ isAllowed: true }, { ...ALLOWED, isAllowed: "true" }, null]) {
    const { api, calls } = setup("http://a", json(answer));
    await assert.rejects(api.authorize("app", BOOT), { code: "upstream/invalid" });
    assert.equal(calls.length, 1);
  }
  const { api } = setup("http://a", () => new Response("<html>"));
  await assert.rejects(api.authorize("app", BOOT), {
    code: "upstream/invalid",
    message: "failed to decode response from auth api",
  });
});

test("a failure of the backend is asked again once, a refusal is not", async () => {
  const recovers = setup("http://a", json({}, 503), json(ALLOWED));
  assert.deepEqual(await recovers.api.authorize("app", BOOT), ALLOWED);
  const down = setup("http://a", () => Promise.reject(new Error("ECONNREFUSED")));
  await assert.rejects(down.api.authorize("app", BOOT), {
    code: "upstream/unavailable",
    message: "auth api is unavailable",
  });
  assert.equal(down.calls.length, 2);
  const refuses = setup("http://a", json({ isAllowed: false }, 400));
  await assert.rejects(refuses.api.authorize("app", BOOT), {
    code: "upstream/invalid",
    message: "auth api returned 400",
  });
  assert.equal(refuses.calls.length, 1);
});

test("a redirect is not followed into an answer", async () => {
  const { api } = setup("http://a", () => new Response(null, { status: 302 }));
  await assert.rejects(api.authorize("app", BOOT), { message: "auth api returned 302" });
});

test("a backend that keeps failing is not asked for a while, and the caller learns which it is", async () => {
  const { api, calls } = setup("http://auth:8000", json({}, 503));
  for (let i = 0; i < 5; i++) {
    await assert.rejects(api.authorize("app", BOOT), { code: "upstream/unavailable" });
  }
  assert.equal(calls.length, 10);
  await assert.rejects(api.authorize("app", BOOT), (error) => {
    assert.equal(authFailureCode(error), "auth/circuit-open");
    return true;
  });
  assert.equal(calls.length, 10);
});

test("a backend that hangs is given up after the timeout", async () => {
  const hanging = webhookAuthApi({
    url: "http://a",
    fetch: (_, { signal }) =>
      new Promise((_, reject) => signal!.addEventListener("abort", () => reject(signal!.reason))),
    timeoutMs: 20,
    userAgent: "t",
    breaker: new CircuitBreaker({ name: "auth api", now: () => new Date(0) }),
  });
  await assert.rejects(hanging.authorize("app", BOOT), {
    code: "upstream/unavailable",
    fields: { reason: "timeout" },
  });
});
