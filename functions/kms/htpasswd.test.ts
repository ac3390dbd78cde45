import assert from "node:assert/strict";
import { test } from "node:test";
import { apiAuth } from "#core/http/api-auth.ts";
import { Hono } from "hono";
import { parseHtpasswd } from "./htpasswd.ts";

// Test vectors of crypt_blowfish: password U*U, and an empty one.
const HASH = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const EMPTY = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy";

test("users are known by bcrypt, comments and blank lines are skipped", async () => {
  const known = parseHtpasswd(`# operators\n\nann:${HASH}\r\n  bob:${EMPTY}\n`);
  assert.equal(await known("ann", "U*U"), true);
  assert.equal(await known("ann", "U*V"), false);
  assert.equal(await known("bob", ""), true);
  assert.equal(await known("carl", "U*U"), false);
  assert.equal(await known("", ""), false);
});

test("a file that is not what it should be is refused", () => {
  for (
    const text of [
      "",
      "# nobody\n",
      `:${HASH}`,
      "ann",
      "ann:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=",
      "ann:$apr1$x$y",
      `ann:${HASH.slice(0, -1)}`,
      `ann:${HASH.replace("$05$", "$31$")}`,
      `ann:${HASH}\nann:${EMPTY}`,
    ]
  ) assert.throws(() => parseHtpasswd(text), { code: "config/invalid" }, text);
});

test("Basic takes a user of the file as well as a token", async () => {
  const password = parseHtpasswd(`ann:${HASH}`);
  const app = new Hono()
    .use(apiAuth({ tokens: ["token"], realm: "dstack-kms admin", queryToken: false, password }))
    .get("/", (c) => c.text("in"));
  const status = async (credentials: string) => {
    const headers = { authorization: `Basic ${btoa(credentials)}` };
    return (await app.request("/", { headers })).status;
  };
  assert.equal(await status("ann:U*U"), 200);
  assert.equal(await status("ann:token"), 200);
  assert.equal(await status("ann:wrong"), 401);
  assert.equal(await status("bob:U*U"), 401);
});
