import { Hono } from "hono";
import { cors } from "hono/cors";
import { reportData } from "#core/attestation/report-data.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { problemResponse } from "#core/errors/problem.ts";
import { readBody } from "#core/rpc/server.ts";
import type { Agent } from "./agent.ts";

const MAX_BODY_BYTES = 4096;
/** Shorter nonces could be collected beforehand, longer ones prove no more. */
const NONCE_BYTES = { min: 16, max: 64 };

/**
 * `POST /v1/attestation {"nonce": hex}`: evidence over a relying party's own challenge, bound as
 * `app-data` report data, so that it cannot be a recording. Nothing in it is secret: a verify page on
 * any origin may ask.
 */
export function attestationRoute(agent: Agent): Hono {
  const app = new Hono();
  app.onError((error) => problemResponse(error));
  app.use("/v1/attestation", cors({ origin: "*", allowMethods: ["POST"], maxAge: 86_400 }));
  app.post("/v1/attestation", async (c) => {
    const attestation = await agent.attest(
      reportData("app-data", nonceIn(await readBody(c.req.raw, MAX_BODY_BYTES))),
    );
    return c.json({ attestation: toHex(encodeAttestation(attestation)) });
  });
  return app;
}

function nonceIn(body: Uint8Array): Uint8Array {
  const request = parseStrictJson(body, "attestation request", {
    maxSize: MAX_BODY_BYTES,
    maxDepth: 2,
  });
  const nonce = (request as { nonce?: unknown } | null)?.nonce;
  const bytes = typeof nonce === "string" ? fromHex(nonce, "nonce") : new Uint8Array();
  if (bytes.length < NONCE_BYTES.min || bytes.length > NONCE_BYTES.max) {
    throw new AppError(
      "input/malformed",
      `nonce must be ${NONCE_BYTES.min} to ${NONCE_BYTES.max} bytes of hex`,
    );
  }
  return bytes;
}
