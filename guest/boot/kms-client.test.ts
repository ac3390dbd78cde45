import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { serveHttps } from "#adapters/https-server.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { utf8 } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8, p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { ConnectionBindings } from "#core/http/bindings.ts";
import {
  buildCertificate,
  defaultNotAfter,
  type Issuer,
  selfIssuer,
} from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, parseCertificate, privateKeyPem } from "#core/ra-tls/certificate.ts";
import { readEvidence } from "#core/ra-tls/claims.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { type KmsPorts, requestAppKeys } from "./kms-client.ts";

const now = new Date();
const root = {
  subject: { organization: "Dstack", commonName: "Dstack KMS CA" },
  key: randomP256Scalar(),
};
const temporary = { subject: { commonName: "Dstack Client Temp CA" }, key: randomP256Scalar() };
const serverKey = randomP256Scalar();

function certificate(
  subject: { commonName: string },
  key: Uint8Array,
  issuer: Issuer,
  rest: object = {},
): string {
  return certificatePem(buildCertificate({
    subject,
    publicKey: p256Spki(key),
    issuer,
    notAfter: defaultNotAfter(now),
    ...rest,
  }));
}
const keyPem = (key: Uint8Array) => privateKeyPem(encodeP256Pkcs8(key));
const rootIssuer = selfIssuer(root.subject, root.key);
const rootPem = certificate(root.subject, root.key, rootIssuer, { ca: { pathLength: 1 } });
const temporaryPem = certificate(
  temporary.subject,
  temporary.key,
  selfIssuer(temporary.subject, temporary.key),
  { ca: { pathLength: 0 } },
);
const serverPem = (specialUsage: string, altNames = ["127.0.0.1"]) =>
  certificate({ commonName: "kms" }, serverKey, rootIssuer, { specialUsage, altNames });

describe("keys from a KMS over RA-TLS", () => {
  let server: Awaited<ReturnType<typeof serveHttps>>;
  let url: string;
  let calls: string[];
  let answer: () => void;

  before(async () => {
    const routes = prpcRoutes(KMS, {
      getTempCaCert() {
        calls.push("GetTempCaCert");
        return {
          tempCaCert: temporaryPem,
          tempCaKey: keyPem(temporary.key),
          caCert: rootPem,
        };
      },
      getAppKey({ apiVersion, vmConfig }, peer: Uint8Array | undefined) {
        calls.push("GetAppKey");
        assert.equal(apiVersion, 1);
        assert.equal(vmConfig, `{"untouched": true}`);
        const evidence = readEvidence(parseCertificate(peer!));
        assert.deepEqual(evidence, { form: "versioned", attestation: utf8("evidence") });
        answer();
        return {
          diskCryptKey: new Uint8Array(32).fill(1),
          envCryptKey: new Uint8Array(32).fill(2),
          k256Key: new Uint8Array(32).fill(3),
          k256Signature: new Uint8Array(65).fill(4),
          gatewayAppId: "any",
          osImageHash: new Uint8Array(32).fill(5),
        };
      },
    }, { context: (c): Uint8Array | undefined => (c.env as ConnectionBindings).peerCertificate });
    server = await serveHttps((request, env) => routes.fetch(stripped(request), env), {
      host: "127.0.0.1",
      port: 0,
      certPem: serverPem("kms:rpc"),
      keyPem: keyPem(serverKey),
      clientCaPem: temporaryPem,
    });
    url = `https://127.0.0.1:${server.port}`;
  });
  after(() => server.close(0));
  beforeEach(() => {
    calls = [];
    answer = () => {};
    server.replaceIdentity({ certPem: serverPem("kms:rpc"), keyPem: keyPem(serverKey) });
  });

  const waits: number[] = [];
  const events: string[] = [];
  const ports: KmsPorts = {
    makeTlsFetch,
    attestPublicKey: () => Promise.resolve(utf8("evidence")),
    verifyKmsEvidence: () => Promise.reject(new TypeError("this KMS shows none")),
    now: () => now,
    sleep(ms) {
      waits.push(ms);
      return Promise.resolve();
    },
  };
  const waiting = {
    unavailable: (error: AppError) => events.push(error.code),
    recovered: () => events.push("recovered"),
  };
  const request = (urls: readonly string[], changed: Partial<KmsPorts> = {}) =>
    requestAppKeys({ urls, vmConfig: `{"untouched": true}` }, { ...ports, ...changed }, waiting);

  test("attests itself, and keeps the CA the first call named", async () => {
    const { keys, osImageHash } = await request([url]);
    assert.deepEqual(calls, ["GetTempCaCert", "GetAppKey"]);
    assert.equal(keys.diskCryptKey[0], 1);
    assert.equal(osImageHash[0], 5);
    assert.equal(keys.caCertPem, rootPem);
    assert.equal(keys.provider.kind, "kms");
    assert.ok(keys.provider.kind === "kms");
    assert.equal(keys.provider.url, `${url}/prpc`);
    assert.deepEqual(keys.provider.publicKey, p256Spki(root.key));
  });

  test("waits for a KMS that is down, and says when it is back", async () => {
    events.length = waits.length = 0;
    const dead = "https://127.0.0.1:1";
    const urls = [dead];
    await request(urls, {
      sleep(ms) {
        waits.push(ms);
        if (waits.length === 6) urls.push(url);
        return Promise.resolve();
      },
    });
    assert.deepEqual(waits, [1000, 2000, 4000, 8000, 15000, 15000]);
    assert.deepEqual(events, [...Array(6).fill("guest/kms-unavailable"), "recovered"]);
  });

  test("a refusal is final and carries the KMS's words and reason", async () => {
    answer = () => {
      throw new AppError("kms/denied", "App not allowed: Boot denied: unknown compose hash", {
        fields: { reason: "compose-not-allowed" },
      });
    };
    await assert.rejects(request([url]), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.code, "guest/kms-refused");
      assert.match(String((error.cause as Error).message), /Boot denied: unknown compose hash/);
      assert.equal(error.fields["reason"], "compose-not-allowed");
      return true;
    });
    assert.equal(calls.filter((call) => call === "GetAppKey").length, 1);
  });

  test("a KMS that cannot decide now is asked again", async () => {
    let failures = 2;
    answer = () => {
      if (failures-- > 0) throw new AppError("upstream/unavailable", "auth API is down");
    };
    await request([url]);
    assert.equal(calls.filter((call) => call === "GetAppKey").length, 3);
  });

  test("another replica answers for one that is down", async () => {
    waits.length = 0;
    await request(["https://127.0.0.1:1", url]);
    assert.deepEqual(waits, []);
  });

  test("sends no attestation to a server that is no KMS of that CA", async () => {
    server.replaceIdentity({ certPem: serverPem("app:custom"), keyPem: keyPem(serverKey) });
    await assert.rejects(request([url]), { code: "guest/kms-untrusted" });
    const otherName = serverPem("kms:rpc", ["kms.example"]);
    server.replaceIdentity({ certPem: otherName, keyPem: keyPem(serverKey) });
    await assert.rejects(request([url]), { code: "guest/kms-untrusted" });
    const stranger = randomP256Scalar();
    const selfSigned = certificate(
      root.subject,
      stranger,
      selfIssuer(root.subject, stranger),
      { specialUsage: "kms:rpc", altNames: ["127.0.0.1"] },
    );
    server.replaceIdentity({ certPem: selfSigned, keyPem: keyPem(stranger) });
    await assert.rejects(request([url]), { code: "guest/kms-untrusted" });
    assert.equal(calls.includes("GetAppKey"), false);
  });

  test("a KMS's own evidence is appraised, and a refusal of it counts", async () => {
    const evidenced = certificate({ commonName: "kms" }, serverKey, rootIssuer, {
      specialUsage: "kms:rpc",
      altNames: ["127.0.0.1"],
      attestation: utf8("not an attestation"),
    });
    server.replaceIdentity({ certPem: evidenced, keyPem: keyPem(serverKey) });
    await assert.rejects(request([url]), { code: "guest/kms-untrusted" });
    assert.equal(calls.includes("GetAppKey"), false);
  });

  test("an empty list of URLs fails at once", async () => {
    await assert.rejects(request([]), { code: "config/invalid", message: "No KMS URLs are set" });
  });

  /** The routes stand at the root of their app; the KMS serves them under /prpc. */
  function stripped(incoming: Request): Request {
    return new Request(incoming.url.replace("/prpc/", "/"), incoming);
  }
});
