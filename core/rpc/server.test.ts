import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Hono } from "hono";
import { fromUtf8, toHex } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { refusal } from "../errors/refusal.ts";
import { DstackGuest, type GetTlsKeyArgs } from "./gen/agent_pb.ts";
import { AppIdSchema, KMS, PublicKeyResponseSchema } from "./gen/kms_pb.ts";
import { RegisterCvmRequestSchema } from "./gen/gateway_pb.ts";
import { PrpcErrorSchema } from "./gen/prpc_pb.ts";
import { decodeQuery } from "./query.ts";
import { prpcRoutes } from "./server.ts";

let lastTlsArgs: GetTlsKeyArgs | undefined;

const app = new Hono().route(
  "/prpc",
  prpcRoutes(KMS, {
    getAppEnvEncryptPubKey: ({ appId }, caller: string) => {
      if (appId.length !== 20) throw new AppError("input/malformed", "app_id must be 20 bytes");
      return { publicKey: appId, timestamp: BigInt(caller.length) };
    },
    getMeta: () => {
      throw new Error("database password wrong");
    },
    getAppKey: () => {
      const cause = refusal("tcb-revoked", "Boot denied", new Error("row 17"));
      throw new AppError("auth/forbidden", "App not allowed", {
        cause,
        fields: { reason: "tcb-revoked" },
      });
    },
  }, { trim: "KMS.", context: (c) => c.req.header("x-caller") ?? "" }),
).route(
  "/agent",
  prpcRoutes(DstackGuest, {
    getTlsKey: (args) => {
      lastTlsArgs = args;
      return { key: "naïve" };
    },
    emitEvent: () => ({}),
  }, { context: () => undefined, asciiOnly: true, bodyLimits: { EmitEvent: 15 } }),
);

const APP_ID = "11".repeat(20);
const JSON_BODY = { method: "POST", body: JSON.stringify({ app_id: APP_ID }) };
const textOf = async (response: Response | Promise<Response>) => (await response).text();

test("a JSON flag, a JSON content type and GET all select JSON", async () => {
  const expected = `{"public_key":"${APP_ID}","signature":"","timestamp":2,"signature_v1":""}`;
  const headers = { "x-caller": "me" };
  for (
    const [path, init] of [
      ["/prpc/GetAppEnvEncryptPubKey?json", JSON_BODY],
      ["/prpc/GetAppEnvEncryptPubKey?json=1", JSON_BODY],
      ["/prpc/GetAppEnvEncryptPubKey?x=1&json=true&json=0", JSON_BODY],
      ["/prpc/KMS.GetAppEnvEncryptPubKey?json", JSON_BODY],
      ["/prpc/KMS.KMS.GetAppEnvEncryptPubKey?json", JSON_BODY],
      [`/prpc/GetAppEnvEncryptPubKey?app_id=${APP_ID}`, {}],
      [`/prpc/GetAppEnvEncryptPubKey?json&app_id=0x${APP_ID}`, {}],
    ] as const
  ) {
    const response = await app.request(path, { ...init, headers });
    assert.equal(response.status, 200, path);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal(response.headers.get("content-length"), String(expected.length));
    assert.equal(await response.text(), expected, path);
  }
  const typed = await app.request("/prpc/GetAppEnvEncryptPubKey?json=0", {
    ...JSON_BODY,
    headers: { ...headers, "content-type": "Application/JSON; charset=utf-8" },
  });
  assert.equal(await typed.text(), expected);
});

test("any other POST is protobuf both ways", async () => {
  for (const query of ["", "?json=0", "?json=no"]) {
    const response = await app.request(`/prpc/GetAppEnvEncryptPubKey${query}`, {
      method: "POST",
      body: toBinary(AppIdSchema, create(AppIdSchema, { appId: new Uint8Array(20).fill(9) })),
    });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "application/octet-stream");
    const message = fromBinary(
      PublicKeyResponseSchema,
      new Uint8Array(await response.arrayBuffer()),
    );
    assert.equal(toHex(message.publicKey), "09".repeat(20));
  }
});

test("errors are 400, in JSON pretty-printed with one key", async () => {
  const response = await app.request("/prpc/GetAppEnvEncryptPubKey?app_id=11");
  assert.equal(response.status, 400);
  assert.equal(await response.text(), '{\n  "error": "app_id must be 20 bytes"\n}');
  assert.equal(response.headers.get("x-error-code"), "input/malformed");
});

test("errors are PrpcError in protobuf", async () => {
  const response = await app.request("/prpc/GetAppEnvEncryptPubKey", { method: "POST" });
  assert.equal(response.status, 400);
  const body = new Uint8Array(await response.arrayBuffer());
  assert.equal(toHex(body), "0a17" + toHex(new TextEncoder().encode("app_id must be 20 bytes")));
  assert.equal(fromBinary(PrpcErrorSchema, body).message, "app_id must be 20 bytes");
});

test("the error text is the chain of what may be shown, with its reason in a header", async () => {
  const response = await app.request("/prpc/GetAppKey");
  assert.equal(await response.text(), '{\n  "error": "App not allowed: Boot denied"\n}');
  assert.equal(response.headers.get("x-error-reason"), "tcb-revoked");
});

test("an unexpected failure hides what it said", async () => {
  const response = await app.request("/prpc/GetMeta");
  assert.equal(response.status, 400);
  assert.equal(await response.text(), '{\n  "error": "Unexpected failure"\n}');
});

test("unknown methods are 400, methods are case sensitive, other paths are 404", async () => {
  for (const path of ["/prpc/Nope?json", "/prpc/getMeta?json", "/prpc/SignCert?json"]) {
    const response = await app.request(path, { method: "POST" });
    assert.equal(response.status, 400, path);
    assert.match(await response.text(), /"error": "Method not found: /);
  }
  assert.equal((await app.request("/prpc/GetMeta/x")).status, 404);
  assert.equal((await app.request("/prpc/GetMeta", { method: "PUT" })).status, 404);
});

test("a body over 10 MiB is refused while it arrives", async () => {
  let pulled = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled++;
      controller.enqueue(new Uint8Array(1024 * 1024));
    },
  });
  const init: RequestInit & { duplex: "half" } = { method: "POST", body: endless, duplex: "half" };
  const response = await app.request("/prpc/GetMeta?json", init);
  assert.equal(response.status, 400);
  assert.match(await response.text(), /payload too large/);
  assert.ok(pulled < 14, `read ${pulled} MiB`);
});

test("a method may have its own body limit", async () => {
  const post = (body: string) => app.request("/agent/EmitEvent?json", { method: "POST", body });
  assert.equal((await post('{"event":"abc"}')).status, 200);
  assert.match(await textOf(post('{"event":"abcd"}')), /payload too large: at most 15 bytes/);
});

test("Empty is null in JSON and nothing in protobuf", async () => {
  assert.equal(await textOf(app.request("/agent/EmitEvent")), "null");
  const binary = await app.request("/agent/EmitEvent", { method: "POST" });
  assert.equal((await binary.arrayBuffer()).byteLength, 0);
  assert.equal(binary.headers.get("content-length"), "0");
});

test("asciiOnly escapes answers", async () => {
  const response = await app.request("/agent/GetTlsKey");
  const bytes = new Uint8Array(await response.arrayBuffer());
  assert.equal(fromUtf8(bytes), '{"key":"na\\u00efve","certificate_chain":[]}');
});

test("GET reads lists, booleans and percent-encoded text", async () => {
  await app.request(
    "/agent/GetTlsKey?subject=a%2Fb+c&alt_names[1]=two&alt_names[0]=one&usage_ra_tls=true&not_after=5&x[y]=1",
  );
  assert.deepEqual(lastTlsArgs?.altNames, ["one", "two"]);
  assert.equal(lastTlsArgs?.subject, "a/b c");
  assert.equal(lastTlsArgs?.usageRaTls, true);
  assert.equal(lastTlsArgs?.notAfter, 5n);
});

test("HEAD is answered like GET without a body", async () => {
  const response = await app.request("/agent/EmitEvent", { method: "HEAD" });
  assert.equal(response.status, 200);
  assert.equal(await response.text(), "");
});

test("decodeQuery() reads nested messages and refuses what is ambiguous", () => {
  const query =
    "client_public_key=k&port_policy[ports][0][port]=443&port_policy[ports][0][pp]=true";
  const request = decodeQuery(RegisterCvmRequestSchema, query);
  assert.equal(request.clientPublicKey, "k");
  assert.equal(request.portPolicy?.ports[0]?.port, 443);
  assert.equal(request.portPolicy?.ports[0]?.pp, true);
  for (const bad of ["client_public_key=a&client_public_key=b", "port_policy[a][b][c][d][e]=1"]) {
    assert.throws(() => decodeQuery(RegisterCvmRequestSchema, bad), { code: "input/malformed" });
  }
});
