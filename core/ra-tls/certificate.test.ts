import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { test } from "node:test";
import { parserProperty } from "../../tests/parser-property.ts";
import { vectorTest, vectorText } from "../../tests/vectors.ts";
import { concatBytes, equalBytes, fromHex, toHex, utf8 } from "../bytes/bytes.ts";
import { p256Spki, parseP256Pkcs8, randomP256Scalar } from "../crypto/p256.ts";
import { DER, der as encodeDer, derOid } from "../encoding/der.ts";
import { decodeOnePem } from "../encoding/pem.ts";
import {
  buildCertificate,
  type CertificateSpec,
  encodeName,
  selfIssuer,
} from "./certificate-builder.ts";
import { certificatePem, parseCertificate, parseCertificatePem } from "./certificate.ts";
import { readEvidence, readIssuerClaims } from "./claims.ts";
import { RA_TLS_OID, X509_OID } from "./oids.ts";

const KEY = fromHex("d4f60214a61f0e651fbf97e4b2da696ac7f898f1aa9f3d1f1282c49c6c7c0a72");
const NOT_AFTER = new Date("2035-12-19T02:51:39Z");
const CA_NAME = { organization: "Dstack", commonName: "Dstack KMS CA" };

function rootSpec(): CertificateSpec {
  return {
    subject: CA_NAME,
    publicKey: p256Spki(KEY),
    issuer: selfIssuer(CA_NAME, KEY),
    notAfter: NOT_AFTER,
    ca: { pathLength: 1 },
  };
}

function leafSpec(overrides: Partial<CertificateSpec> = {}): CertificateSpec {
  return {
    subject: { commonName: "leaf" },
    publicKey: p256Spki(randomP256Scalar()),
    issuer: { name: encodeName(CA_NAME), key: KEY },
    notAfter: NOT_AFTER,
    ...overrides,
  };
}

vectorTest("a root certificate equals the reference's field by field", () => {
  const { ca_cert: pem, key_provider } = JSON.parse(vectorText("dstack/simulator/appkeys.json"));
  const key = parseP256Pkcs8(decodeOnePem("PRIVATE KEY", key_provider.None.key));
  assert.equal(toHex(key), toHex(KEY));
  const theirs = parseCertificatePem(pem);
  const ours = parseCertificate(buildCertificate(rootSpec()));
  const [a, b] = [new X509Certificate(ours.der), new X509Certificate(theirs.der)];
  assert.equal(a.serialNumber, b.serialNumber);
  for (const field of ["issuer", "subject", "publicKey"] as const) {
    assert.equal(toHex(ours[field]), toHex(theirs[field]), field);
  }
  for (const field of ["notBefore", "notAfter", "ca", "keyUsage", "commonName"] as const) {
    assert.deepEqual(ours[field], theirs[field], field);
  }
  assert.deepEqual([...ours.extensions.keys()], [...theirs.extensions.keys()]);
  for (const [oid, { critical, value }] of theirs.extensions) {
    assert.equal(ours.extensions.get(oid)?.critical, critical, oid);
    // The reference pads the named bits of KeyUsage to 16, which DER does not allow.
    if (oid !== X509_OID.keyUsage) {
      assert.equal(toHex(ours.extensions.get(oid)!.value), toHex(value), oid);
    }
  }
});

test("the runtime's own parser reads names, purposes and alternative names", () => {
  const der = buildCertificate(leafSpec({
    subject: { organization: "Ünï", commonName: "kms.example" },
    altNames: ["kms.example", "10.0.2.2", "2001:db8:1:2:3:4:5:6"],
    serverAuth: true,
    clientAuth: true,
  }));
  const leaf = new X509Certificate(der);
  assert.equal(leaf.subject, "O=Ünï\nCN=kms.example");
  assert.equal(
    leaf.subjectAltName?.toLowerCase(),
    "dns:kms.example, ip address:10.0.2.2, ip address:2001:db8:1:2:3:4:5:6",
  );
  assert.equal(
    toHex(parseCertificate(der).extensions.get(X509_OID.extendedKeyUsage)!.value),
    "301406082b0601050507030106082b06010505070302",
  );
  assert.equal(leaf.ca, false);
  const root = new X509Certificate(buildCertificate(rootSpec()));
  assert.equal(root.ca, true);
  assert.ok(leaf.checkIssued(root) && leaf.verify(root.publicKey));
});

test("dstack's extensions are not critical, wrapped twice and in the reference's order", () => {
  const appId = new Uint8Array(20).fill(0x11);
  const certificate = parseCertificate(buildCertificate(leafSpec({
    altNames: ["a"],
    serverAuth: true,
    appId,
    appInfo: Uint8Array.of(0x99, ...Array(8).fill([0xc4, 0]).flat(), 0xc0),
    specialUsage: "app:custom",
    attestation: Uint8Array.of(1, 2, 3),
  })));
  assert.deepEqual([...certificate.extensions.keys()], [
    X509_OID.subjectAltName,
    X509_OID.keyUsage,
    X509_OID.extendedKeyUsage,
    RA_TLS_OID.appId,
    RA_TLS_OID.appInfo,
    RA_TLS_OID.specialUsage,
    RA_TLS_OID.attestation,
  ]);
  const extension = certificate.extensions.get(RA_TLS_OID.appId)!;
  assert.equal(extension.critical, false);
  assert.equal(toHex(extension.value), `0414${"11".repeat(20)}`);
  const claims = readIssuerClaims(certificate);
  assert.deepEqual(claims.appId, appId);
  assert.equal(claims.specialUsage, "app:custom");
  assert.equal(claims.appInfo?.initScriptHashes, undefined);
  assert.deepEqual(readEvidence(certificate), {
    form: "versioned",
    attestation: Uint8Array.of(1, 2, 3),
  });
});

test("dates past 2049 are written as GeneralizedTime", () => {
  const notBefore = new Date("2050-01-01T00:00:00Z");
  const notAfter = new Date("9999-12-31T23:59:59Z");
  const certificate = parseCertificate(buildCertificate(leafSpec({ notBefore, notAfter })));
  assert.deepEqual([certificate.notBefore, certificate.notAfter], [notBefore, notAfter]);
  assert.equal(new X509Certificate(certificate.der).validTo, "Dec 31 23:59:59 9999 GMT");
  assert.throws(() => buildCertificate(leafSpec({ notAfter: new Date(253402300800000) })), {
    code: "input/malformed",
  });
});

test("a repeated extension is refused", () => {
  const plain = buildCertificate(leafSpec({ appId: new Uint8Array(20), specialUsage: "ab" }));
  // The same bytes with the last OID arc of specialUsage (4) turned into that of appId (3).
  const oid = derOid(RA_TLS_OID.specialUsage);
  const at = plain.findIndex((_, i) => equalBytes(plain.subarray(i, i + oid.length), oid));
  const repeated = plain.slice();
  repeated[at + oid.length - 1] = 3;
  assert.throws(() => parseCertificate(repeated), { code: "input/malformed", message: /repeats/ });
});

test("malformed claims are refused", () => {
  const shortAppId = parseCertificate(buildCertificate(leafSpec({ appId: new Uint8Array(19) })));
  assert.throws(() => readIssuerClaims(shortAppId), { code: "input/malformed" });
  const quoteOnly = new Map([[RA_TLS_OID.legacyQuote, {
    critical: false,
    value: encodeDer(DER.octetString, utf8("q")),
  }]]);
  const certificate = parseCertificate(buildCertificate(leafSpec()));
  assert.throws(() => readEvidence({ ...certificate, extensions: quoteOnly }), {
    code: "input/malformed",
    message: /no event log/,
  });
  const bare = new Map([[RA_TLS_OID.attestation, { critical: false, value: utf8("no octets") }]]);
  assert.throws(() => readEvidence({ ...certificate, extensions: bare }), {
    code: "input/malformed",
  });
});

test("every truncation and trailing bytes are refused", () => {
  const certificate = buildCertificate(leafSpec({ altNames: ["a"], appId: new Uint8Array(20) }));
  for (let length = 0; length < certificate.length; length++) {
    assert.throws(() => parseCertificate(certificate.slice(0, length)), {
      code: "input/malformed",
    });
  }
  assert.throws(() => parseCertificate(concatBytes(certificate, Uint8Array.of(0))), {
    code: "input/malformed",
  });
});

test("PEM has 64 columns and ends in a newline", () => {
  const pem = certificatePem(buildCertificate(rootSpec()));
  assert.match(
    pem,
    /^-----BEGIN CERTIFICATE-----\n(?:.{64}\n)+.{1,64}\n-----END CERTIFICATE-----\n$/,
  );
  assert.equal(parseCertificatePem(pem).commonName, "Dstack KMS CA");
});

parserProperty("parseCertificate()", parseCertificate, () => buildCertificate(rootSpec()));
parserProperty("the claims of a certificate", (bytes) => {
  const certificate = parseCertificate(bytes);
  readIssuerClaims(certificate);
  readEvidence(certificate);
}, () => buildCertificate(leafSpec()));
