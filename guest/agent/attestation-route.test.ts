import assert from "node:assert/strict";
import { test } from "node:test";
import { reportData } from "#core/attestation/report-data.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";
import type { Agent } from "./agent.ts";
import { attestationRoute } from "./attestation-route.ts";

const cvm = simulatedCvm();
const nonce = "5a".repeat(32);

function setup() {
  const asked: Uint8Array[] = [];
  const agent = {
    attest: (challenge: Uint8Array) => {
      asked.push(challenge);
      return Promise.resolve(cvm.attestation);
    },
  };
  const app = attestationRoute(agent as unknown as Agent);
  const post = async (body: string) =>
    await app.request("/v1/attestation", { method: "POST", body });
  return { app, asked, post };
}

test("POST /v1/attestation binds the caller's nonce", async () => {
  const { asked, post } = setup();
  const response = await post(JSON.stringify({ nonce }));
  assert.deepEqual(await response.json(), {
    attestation: toHex(encodeAttestation(cvm.attestation)),
  });
  assert.deepEqual(asked, [reportData("app-data", new Uint8Array(32).fill(0x5a))]);
});

test("pages of any origin may ask for evidence", async () => {
  const { app, post } = setup();
  const response = await post(JSON.stringify({ nonce }));
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  const preflight = await app.request("/v1/attestation", {
    method: "OPTIONS",
    headers: {
      origin: "https://verify.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "content-type",
    },
  });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), "*");
  assert.equal(preflight.headers.get("access-control-allow-headers"), "content-type");
});

for (
  const [what, body] of [
    ["no nonce", "{}"],
    ["a nonce that could be guessed", JSON.stringify({ nonce: "00".repeat(15) })],
    ["a nonce of more than 64 bytes", JSON.stringify({ nonce: "00".repeat(65) })],
    ["a nonce that is not hex", JSON.stringify({ nonce: "zz".repeat(32) })],
    ["no JSON", "nonce"],
  ] as const
) {
  test(`POST /v1/attestation refuses ${what}`, async () => {
    const { asked, post } = setup();
    assert.equal((await post(body)).status, 400);
    assert.deepEqual(asked, []);
  });
}

test("POST /v1/attestation stops reading a body that does not end", async () => {
  const { app, asked } = setup();
  let pulled = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled++;
      controller.enqueue(new Uint8Array(1024));
    },
  });
  const init: RequestInit & { duplex: "half" } = { method: "POST", body: endless, duplex: "half" };
  const response = await app.request("/v1/attestation", init);
  assert.equal(response.status, 413);
  assert.ok(pulled < 32);
  assert.deepEqual(asked, []);
});
