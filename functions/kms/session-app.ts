import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { ByteWriter } from "#core/bytes/byte-writer.ts";
import { concatBytes, equalBytes, fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { BoundedMap } from "#core/collections/bounded-map.ts";
import { k256PublicKey, signK256 } from "#core/crypto/k256.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { refusal } from "#core/errors/refusal.ts";
import { refuseInvalidInput } from "#core/http/problem.ts";
import {
  acceptSession,
  generateSessionKey,
  SESSION_KEY_LENGTH,
  SESSION_NONCE_LENGTH,
  type SessionKey,
  sessionKeyReportData,
  sessionReportData,
} from "#core/ra-tls/session.ts";
import { asQuote, type Caller, type KmsEnv } from "./caller.ts";
import { appKeysAnswer, appKeysRequestSchema } from "./epoch-app.ts";
import type { KmsPorts } from "./ports.ts";
import { SelfAuthorization } from "./self.ts";

const NONCE_LIFE_MS = 120_000;
/** Nonces that were used and have not expired; one that was pushed out may be used again. */
const MAX_USED = 100_000;
const MAX_EVIDENCE_HEX = 512 * 1024;
const MAX_REQUEST_HEX = 256 * 1024;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
const hexUpTo = (digits: number) => z.string().max(digits).regex(/^([0-9a-f]{2})*$/);

const offerSchema = z.object({
  nonce: hex(SESSION_NONCE_LENGTH),
  expires_at: z.iso.datetime(),
  public_key: hex(SESSION_KEY_LENGTH).openapi({ description: "HPKE, X25519" }),
  k256_public_key: z.string(),
  signature: z.string().openapi({
    description: "By the secp256k1 root over `dstack-edge-session-key:` and the public key",
  }),
  attestation: z.string().openapi({ description: "Of this KMS over the key; empty outside a CVM" }),
}).openapi("SessionOffer");

const offerRoute = createRoute({
  method: "get",
  path: "/v1/session",
  operationId: "offerSession",
  summary: "A nonce and the key that a session's request is sealed to",
  responses: {
    200: { description: "Offer", content: { "application/json": { schema: offerSchema } } },
  },
});

const sessionRoute = createRoute({
  method: "post",
  path: "/v1/session",
  operationId: "useSession",
  summary: "One sealed request of an attested caller: what POST /v1/app-keys takes and answers",
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.strictObject({
            nonce: hex(SESSION_NONCE_LENGTH),
            encapsulated: hex(SESSION_KEY_LENGTH),
            attestation: hexUpTo(MAX_EVIDENCE_HEX).openapi({
              description: "Versioned; binds nonce, the KMS's key and the encapsulated key",
            }),
            request: hexUpTo(MAX_REQUEST_HEX),
          }),
        },
      },
    },
  },
  responses: {
    200: {
      description: "The sealed answer",
      content: { "application/json": { schema: z.object({ answer: z.string() }) } },
    },
    400: { description: "Input that does not fit, or was not sealed to this KMS" },
    403: { description: "The keys are not for this caller; `reason` says which rule failed" },
    503: { description: "Nothing can be decided now; ask again or another KMS" },
  },
});

export const SESSION_ROUTES = [offerRoute, sessionRoute];

/** Attested sessions: the handler of `/v1/app-keys` for callers that have no TLS client certificate. */
export function sessionRoutes(ports: KmsPorts): OpenAPIHono<KmsEnv> {
  const self = new SelfAuthorization(ports);
  const nonces = new Nonces(ports.now);
  let key: Promise<SessionKey> | undefined;
  const sessionKey = () => key ??= generateSessionKey();
  const app = new OpenAPIHono<KmsEnv>({ defaultHook: refuseInvalidInput });

  app.openapi(offerRoute, async (c) => {
    const { publicKey } = await sessionKey();
    const { nonce, expiresAt } = nonces.make();
    const attestation = await ports.self?.attest(sessionKeyReportData(publicKey));
    const { k256Key } = ports.identity;
    const message = concatBytes(utf8("dstack-edge-session-key:"), publicKey);
    return c.json({
      nonce: toHex(nonce),
      expires_at: expiresAt.toISOString(),
      public_key: toHex(publicKey),
      k256_public_key: toHex(k256PublicKey(k256Key)),
      signature: toHex(signK256(k256Key, message)),
      attestation: toHex(attestation ?? new Uint8Array()),
    }, 200);
  });

  app.openapi(sessionRoute, async (c) => {
    const body = c.req.valid("json");
    const key = await sessionKey();
    const nonce = fromHex(body.nonce);
    const encapsulated = fromHex(body.encapsulated);
    const session = await acceptSession(key, encapsulated, fromHex(body.request));
    const expectedReportData = sessionReportData(nonce, key.publicKey, encapsulated);
    const caller: Caller = {
      requestId: crypto.randomUUID(),
      evidence: () =>
        asQuote(() => {
          nonces.use(nonce);
          const attestation = decodeAttestation(fromHex(body.attestation));
          if (!equalBytes(attestation.stack.reportData, expectedReportData)) {
            throw refusal("report-data-mismatch", "report data mismatch");
          }
          return { attestation, expectedReportData };
        }),
    };
    const request = appKeysRequestSchema.safeParse(parseStrictJson(session.request, "request"));
    if (!request.success) throw new AppError("input/malformed", "The sealed request does not fit");
    const answer = await appKeysAnswer(ports, self, caller, request.data);
    return c.json({ answer: toHex(await session.sealAnswer(utf8(JSON.stringify(answer)))) }, 200);
  });
  return app;
}

/** Nonces that this process made: they name their end and carry a MAC, so that only used ones are kept. */
class Nonces {
  readonly #key = crypto.getRandomValues(new Uint8Array(32));
  readonly #now: () => Date;
  readonly #used = new BoundedMap<string, true>(MAX_USED);

  constructor(now: () => Date) {
    this.#now = now;
  }

  make(): { nonce: Uint8Array; expiresAt: Date } {
    const expiresAt = new Date(this.#now().getTime() + NONCE_LIFE_MS);
    const head = new ByteWriter().u64be(BigInt(expiresAt.getTime()))
      .bytes(crypto.getRandomValues(new Uint8Array(8))).finish();
    return { nonce: concatBytes(head, this.#mac(head)), expiresAt };
  }

  /** Once. Throws `attestation/refused`, reason `report-data-mismatch`: evidence may be old. */
  use(nonce: Uint8Array): void {
    const head = nonce.subarray(0, 16);
    const expiresAt = Number(new DataView(head.slice().buffer).getBigUint64(0));
    const id = toHex(nonce);
    const good = equalBytes(this.#mac(head), nonce.subarray(16)) &&
      this.#now().getTime() <= expiresAt && this.#used.get(id) === undefined;
    if (!good) throw refusal("report-data-mismatch", "The nonce is not fresh");
    this.#used.set(id, true);
  }

  #mac(head: Uint8Array): Uint8Array {
    return hmac(sha256, this.#key, head).slice(0, 16);
  }
}
