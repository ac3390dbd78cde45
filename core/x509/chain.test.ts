import assert from "node:assert/strict";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { fromUtf8, utf8 } from "../bytes/bytes.ts";
import { DER, der, derOid } from "../encoding/der.ts";
import { type ReasonCode, reasonOf } from "../errors/refusal.ts";
import { encodePem } from "../encoding/pem.ts";
import { parseCrl } from "./certificate-revocation-list.ts";
import { ChainVerifier, EXTENDED_KEY_USAGE } from "./chain.ts";
import { parsePemChain } from "./pem-chain.ts";
import { buildCrl, buildX509Certificate, type X509Authority, x509Name } from "./x509-builder.ts";
import { parseX509Certificate, type X509Certificate } from "./x509-certificate.ts";

const NOW = Date.UTC(2026, 0, 15) / 1000;
const DAY = 86_400;
const authority = (name: string, key: number): X509Authority => ({
  name: x509Name("Test", name),
  key: new Uint8Array(32).fill(key),
});
const ROOT = authority("root", 1);
const CA = authority("ca", 2);
const LEAF = authority("leaf", 3);

interface Changes {
  readonly rootPathLength?: number;
  readonly ca?: Partial<Parameters<typeof buildX509Certificate>[0]>;
  readonly leaf?: Partial<Parameters<typeof buildX509Certificate>[0]>;
  readonly rootCrl?: Partial<Parameters<typeof buildCrl>[0]> | null;
  readonly caCrl?: Partial<Parameters<typeof buildCrl>[0]> | null;
  readonly graceSeconds?: number;
  readonly revocation?: "required" | "if-known";
}

/** A three-certificate chain with two CRLs, as Intel's; each test changes one thing. */
function chainOf(changes: Changes) {
  const validity = { notBefore: NOW - DAY, notAfter: NOW + DAY };
  const root = parseX509Certificate(buildX509Certificate({
    serial: 1n,
    issuer: ROOT,
    subject: ROOT,
    caPathLength: changes.rootPathLength ?? 1,
    ...validity,
  }));
  const ca = parseX509Certificate(buildX509Certificate({
    serial: 2n,
    issuer: ROOT,
    subject: CA,
    caPathLength: 0,
    ...validity,
    ...changes.ca,
  }));
  const leaf = parseX509Certificate(buildX509Certificate({
    serial: 3n,
    issuer: CA,
    subject: LEAF,
    ...validity,
    ...changes.leaf,
  }));
  const updates = { thisUpdate: NOW - DAY, nextUpdate: NOW + DAY, revokedSerials: [] };
  const crls = [
    changes.rootCrl === null ? [] : [buildCrl({ issuer: ROOT, ...updates, ...changes.rootCrl })],
    changes.caCrl === null ? [] : [buildCrl({ issuer: CA, ...updates, ...changes.caCrl })],
  ].flat().map(parseCrl);
  const time = { now: NOW, graceSeconds: changes.graceSeconds ?? 0 };
  const usage = EXTENDED_KEY_USAGE.serverAuth;
  const verifier = new ChainVerifier({ root, crls, usage, revocation: changes.revocation });
  const verify = (chain: readonly X509Certificate[], role: "end-entity" | "ca") =>
    verifier.verify(chain, role, time);
  return { root, ca, leaf, verify };
}

async function refusedWith(code: ReasonCode, run: Promise<void>): Promise<void> {
  await assert.rejects(run, (error) => {
    assert.equal(reasonOf(error)?.code, code, String(error));
    return true;
  });
}

test("a good chain passes with and without its root", async () => {
  const { leaf, ca, root, verify } = chainOf({});
  await verify([leaf, ca, root], "end-entity");
  await verify([leaf, ca], "end-entity");
  await verify([ca, root], "ca");
});

const serverAuth = der(DER.sequence, derOid("1.3.6.1.5.5.7.3.1"));
const clientAuth = der(DER.sequence, derOid("1.3.6.1.5.5.7.3.2"));
test("a leaf for server authentication passes", async () => {
  const { leaf, ca, verify } = chainOf({ leaf: { extensions: [["2.5.29.37", serverAuth]] } });
  await verify([leaf, ca], "end-entity");
});

for (
  const [what, code, changes] of [
    ["an expired leaf", "certificate-expired", { leaf: { notAfter: NOW - 1 } }],
    ["an expired CA", "certificate-expired", { ca: { notAfter: NOW - 1 } }],
    ["a leaf of tomorrow", "certificate-not-yet-valid", { leaf: { notBefore: NOW + 1 } }],
    ["a leaf that is a CA", "certificate-usage-invalid", { leaf: { caPathLength: 0 } }],
    ["a CA that is none", "certificate-usage-invalid", { ca: { caPathLength: undefined! } }],
    ["a root that allows no CA below", "certificate-usage-invalid", { rootPathLength: 0 }],
    ["a leaf for client authentication only", "certificate-usage-invalid", {
      leaf: { extensions: [["2.5.29.37", clientAuth]] },
    }],
    ["an unknown critical extension", "certificate-usage-invalid", {
      leaf: { extensions: [["1.2.3", utf8("x"), true]] },
    }],
    ["a CA of another issuer", "certificate-untrusted", { ca: { issuer: authority("other", 1) } }],
    ["a leaf signed with another key", "certificate-signature-invalid", {
      leaf: { issuer: { ...CA, key: new Uint8Array(32).fill(9) } },
    }],
    ["a CA signed with another key", "certificate-signature-invalid", {
      ca: { issuer: { ...ROOT, key: new Uint8Array(32).fill(9) } },
    }],
    ["a revoked leaf", "certificate-revoked", { caCrl: { revokedSerials: [5n, 3n] } }],
    ["a revoked CA", "certificate-revoked", { rootCrl: { revokedSerials: [2n] } }],
    ["a revoked root", "certificate-revoked", { rootCrl: { revokedSerials: [1n] } }],
    ["no CRL of the CA", "revocation-unknown", { caCrl: null }],
    ["no CRL of the root", "revocation-unknown", { rootCrl: null }],
    ["an expired CRL", "crl-expired", { caCrl: { nextUpdate: NOW - 1 } }],
    ["a CRL that expired before its grace", "crl-expired", {
      caCrl: { nextUpdate: NOW - 61 },
      graceSeconds: 60,
    }],
    ["a CRL of tomorrow", "crl-not-yet-valid", { rootCrl: { thisUpdate: NOW + 1 } }],
    ["a CRL signed with another key", "crl-signature-invalid", {
      caCrl: { issuer: { ...CA, key: new Uint8Array(32).fill(9) } },
    }],
  ] as const satisfies readonly (readonly [string, ReasonCode, Changes])[]
) {
  test(`refused: ${what}`, async () => {
    const { leaf, ca, root, verify } = chainOf(changes as Changes);
    await refusedWith(code, verify([leaf, ca, root], "end-entity"));
  });
}

test("a CRL is not missed where revocation counts only if known, and still obeyed", async () => {
  const none = chainOf({ caCrl: null, rootCrl: null, revocation: "if-known" });
  await none.verify([none.leaf, none.ca], "end-entity");
  const known = chainOf({
    rootCrl: null,
    caCrl: { revokedSerials: [3n] },
    revocation: "if-known",
  });
  await refusedWith("certificate-revoked", known.verify([known.leaf, known.ca], "end-entity"));
});

test("a CA for another purpose is refused", async () => {
  const { leaf, ca, verify } = chainOf({ ca: { extensions: [["2.5.29.37", clientAuth]] } });
  await refusedWith("certificate-usage-invalid", verify([leaf, ca], "end-entity"));
});

test("grace prolongs a CRL and nothing else", async () => {
  const late = chainOf({ caCrl: { nextUpdate: NOW - 60 }, graceSeconds: 60 });
  await late.verify([late.leaf, late.ca], "end-entity");
});

test("a chain in the wrong order, empty, too long, or of the root alone is refused", async () => {
  const { leaf, ca, root, verify } = chainOf({});
  await refusedWith("certificate-usage-invalid", verify([ca, leaf, root], "end-entity"));
  await refusedWith("certificate-malformed", verify([], "end-entity"));
  await refusedWith("certificate-malformed", verify(Array(9).fill(ca), "ca"));
  await refusedWith("certificate-usage-invalid", verify([root], "ca"));
  await refusedWith("certificate-untrusted", verify([leaf], "end-entity"));
});

test("a root of the same name and another key is not the pinned one", async () => {
  const impostorKey = { ...ROOT, key: new Uint8Array(32).fill(9) };
  const { leaf, ca, verify } = chainOf({ ca: { issuer: impostorKey } });
  const impostor = parseX509Certificate(buildX509Certificate({
    serial: 1n,
    issuer: impostorKey,
    subject: impostorKey,
    caPathLength: 1,
    notBefore: NOW - DAY,
    notAfter: NOW + DAY,
  }));
  await refusedWith(
    "certificate-signature-invalid",
    verify([leaf, ca, impostor], "end-entity"),
  );
});

test("truncated and extended certificates and CRLs are malformed", () => {
  const certificate = chainOf({}).leaf.encoded;
  const crl = buildCrl({
    issuer: CA,
    thisUpdate: NOW,
    nextUpdate: NOW + 1,
    revokedSerials: [4n],
  });
  for (const [bytes, parse] of [[certificate, parseX509Certificate], [crl, parseCrl]] as const) {
    parse(bytes);
    for (let n = 0; n < bytes.length; n++) {
      assert.throws(() => parse(bytes.slice(0, n)), { code: "input/malformed" }, `${n}`);
    }
    assert.throws(() => parse(Uint8Array.of(...bytes, 0)), { code: "input/malformed" });
  }
});

parserProperty("parseX509Certificate()", parseX509Certificate, () => chainOf({}).leaf.encoded);
parserProperty(
  "parseCrl()",
  parseCrl,
  () => buildCrl({ issuer: CA, thisUpdate: NOW, nextUpdate: NOW + 1, revokedSerials: [4n] }),
);
parserProperty(
  "parsePemChain()",
  (bytes) => parsePemChain(fromUtf8(bytes)),
  () => utf8(encodePem("CERTIFICATE", chainOf({}).leaf.encoded)),
);
