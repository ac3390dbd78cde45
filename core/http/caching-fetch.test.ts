import assert from "node:assert/strict";
import { test } from "node:test";
import { cachingFetch } from "./caching-fetch.ts";

function setup(changes: { readonly status?: number; readonly maxEntries?: number } = {}) {
  const asked: string[] = [];
  let nowMs = 0;
  const send = cachingFetch({
    fetch: (url, { method }) => {
      asked.push(`${method} ${url}`);
      return Promise.resolve(new Response(`answer ${asked.length}`, changes));
    },
    now: () => new Date(nowMs),
    maxAgeMs: 1000,
    maxEntries: changes.maxEntries ?? 8,
    maxBytes: 100,
  });
  const get = async (path: string, method = "GET") =>
    await (await send(`https://vendor.test/${path}`, { method, headers: {} })).text();
  return { get, asked, wait: (ms: number) => nowMs += ms };
}

test("a document is asked for once, until it is too old", async () => {
  const { get, asked, wait } = setup();
  assert.deepEqual(await Promise.all([get("a"), get("b")]), ["answer 1", "answer 2"]);
  wait(999);
  assert.equal(await get("a"), "answer 1");
  wait(1);
  assert.equal(await get("a"), "answer 3");
  assert.equal(asked.length, 3);
});

test("failures and requests that change something are not kept", async () => {
  const failing = setup({ status: 404 });
  await failing.get("a");
  await failing.get("a");
  assert.equal(failing.asked.length, 2);
  const { get, asked } = setup();
  await get("a", "POST");
  await get("a");
  assert.deepEqual(asked, ["POST https://vendor.test/a", "GET https://vendor.test/a"]);
});

test("what was not used for longest is forgotten", async () => {
  const { get, asked } = setup({ maxEntries: 2 });
  for (const path of ["a", "b", "a", "c", "a", "b"]) await get(path);
  assert.equal(asked.length, 4);
});

test("an answer that is too long is refused", async () => {
  const send = cachingFetch({
    fetch: () => Promise.resolve(new Response("x".repeat(101))),
    now: () => new Date(0),
    maxAgeMs: 1,
    maxEntries: 1,
    maxBytes: 100,
  });
  const asking = send("https://vendor.test/", { method: "GET", headers: {} });
  await assert.rejects(asking, { code: "upstream/invalid" });
});
