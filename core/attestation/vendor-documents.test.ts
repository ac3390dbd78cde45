import assert from "node:assert/strict";
import { test } from "node:test";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { utf8 } from "../bytes/bytes.ts";
import { DER, der, derOid } from "../encoding/der.ts";
import { decodeOnePem, encodePem } from "../encoding/pem.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { AMD_KDS_URL, fetchSnpDocuments, vcekPath } from "../sev-snp/kds-client.ts";
import { ARK_MILAN } from "../sev-snp/amd-roots.ts";
import { parseSnpReport } from "../sev-snp/report.ts";
import { fetchAkIssuers } from "../tpm/ak-issuers.ts";
import { buildX509Certificate, x509Name } from "../x509/x509-builder.ts";
import { appraise } from "./appraise.ts";
import { VENDOR_TRUST_ANCHORS } from "./trust-anchor.ts";
import { fetchVendorDocuments } from "./vendor-documents.ts";
import { decodeAttestation } from "./versioned-attestation.ts";

/** A server of these documents; other URLs are 404. */
function server(documents: Readonly<Record<string, Uint8Array | string | number>>) {
  const asked: string[] = [];
  const fetch: FetchLike = (url) => {
    asked.push(url);
    const found = documents[url];
    if (found === undefined) return Promise.resolve(new Response("", { status: 404 }));
    if (typeof found === "number") return Promise.resolve(new Response("", { status: found }));
    return Promise.resolve(new Response(found as Uint8Array<ArrayBuffer>));
  };
  return { fetch, asked };
}

const capture = () => decodeAttestation(vectorBytes("dstack/sev_snp_attestation.bin"));
const CHIP = "38d174589d2dff97a6d40cb9f9d90b9507c027491219083cef3ce73ed18f7289" +
  "142d941ad61eabecd27d25f268c1095d665f6001358e98a4769c82734a6bb877";
const VCEK = `${AMD_KDS_URL}/vcek/v1/Milan/${CHIP}?blSPL=04&teeSPL=00&snpSPL=23&ucodeSPL=213`;
const CHAIN = `${AMD_KDS_URL}/vcek/v1/Milan/cert_chain`;
const milan = () => ({
  [VCEK]: decodeOnePem("CERTIFICATE", vectorText("dstack/sev_snp_vcek.pem")),
  [CHAIN]: vectorText("dstack/sev_snp_ask.pem") + encodePem("CERTIFICATE", ARK_MILAN),
});

vectorTest("a guest's missing certificates come from AMD, and lead to its root", async () => {
  const attestation = capture();
  const { fetch, asked } = server(milan());
  const vendorDocuments = await fetchVendorDocuments(attestation, {
    amdKdsUrl: AMD_KDS_URL,
    fetch,
  });
  assert.equal(vendorDocuments!.certificates!.length, 2);
  assert.deepEqual(asked, [VCEK, CHAIN, `${AMD_KDS_URL}/vcek/v1/Milan/crl`]);
  const verdict = await appraise({
    attestation,
    collateral: undefined,
    vendorDocuments: vendorDocuments!,
    trustAnchors: VENDOR_TRUST_ANCHORS,
    now: new Date("2026-08-01T00:00:00Z"),
  });
  const chain = verdict.checks.find(({ id }) => id === "signature-chain")!;
  assert.equal(chain.result, "passed");
});

vectorTest("a cache of AMD's service is named by its base or by the whole path", async () => {
  const { platform } = capture();
  assert.ok(platform.kind === "sev-snp");
  const report = parseSnpReport(platform.report);
  const own = (url: string) => url.replace(AMD_KDS_URL, "http://kds.test");
  for (const baseUrl of ["http://kds.test", "http://kds.test/", "http://kds.test/vcek/v1/"]) {
    const documents = Object.entries(milan()).map(([url, bytes]) => [own(url), bytes] as const);
    const { fetch } = server(Object.fromEntries(documents));
    const { certificates } = await fetchSnpDocuments(report, { baseUrl, fetch });
    assert.equal(certificates.length, 2);
  }
});

vectorTest("a chip AMD does not know, a service that fails and a chain that is none", async () => {
  const { platform } = capture();
  assert.ok(platform.kind === "sev-snp");
  const report = parseSnpReport(platform.report);
  const from = (documents: Record<string, Uint8Array | string | number>) =>
    fetchSnpDocuments(report, { baseUrl: AMD_KDS_URL, fetch: server(documents).fetch });
  await assert.rejects(from({}), { code: "upstream/unavailable" });
  await assert.rejects(from({ [VCEK]: 429 }), { code: "upstream/unavailable" });
  await assert.rejects(from({ ...milan(), [CHAIN]: "x" }), { code: "upstream/invalid" });
  await assert.rejects(from({ ...milan(), [CHAIN]: "" }), { code: "upstream/invalid" });
});

test("a report of version 2 is looked for among all products, Turin's by its short id", () => {
  const bytes = new Uint8Array(1184);
  bytes.set([2], 0);
  bytes.set([1], 0x34);
  bytes.set([5, 1, 2, 3, 0, 0, 0, 200], 0x180);
  bytes.set(new Uint8Array(64).fill(0xab), 0x1a0);
  const report = parseSnpReport(bytes);
  assert.equal(
    vcekPath(report, "Turin"),
    `${"ab".repeat(8)}?fmcSPL=05&blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=200`,
  );
  assert.equal(
    vcekPath(report, "Genoa"),
    `${"ab".repeat(64)}?blSPL=05&teeSPL=01&snpSPL=00&ucodeSPL=200`,
  );
});

test("all products are asked for a chip whose report names none", async () => {
  const bytes = new Uint8Array(1184);
  bytes.set([2], 0);
  bytes.set([1], 0x34);
  const { fetch, asked } = server({});
  const options = { baseUrl: AMD_KDS_URL, fetch };
  await assert.rejects(fetchSnpDocuments(parseSnpReport(bytes), options), {
    code: "upstream/unavailable",
  });
  const products = asked.map((url) => url.split("/")[5]);
  assert.deepEqual(products, ["Genoa", "Milan", "Turin"]);
});

const HOST = "privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com";
const authority = (name: string, key: number) => ({
  name: x509Name("Test", name),
  key: new Uint8Array(32).fill(key),
});
const ROOT = authority("root", 1);
const CA = authority("ca", 2);
const certificateNaming = (
  issuer: typeof ROOT,
  subject: typeof ROOT,
  url: string | undefined,
): Uint8Array =>
  buildX509Certificate({
    serial: 1n,
    issuer,
    subject,
    notBefore: 0,
    notAfter: 1,
    extensions: url === undefined ? [] : [[
      "1.3.6.1.5.5.7.1.1",
      der(
        DER.sequence,
        der(
          DER.sequence,
          derOid("1.3.6.1.5.5.7.48.2"),
          der(DER.contextPrimitive(6), utf8(url)),
        ),
      ),
    ]],
  });
const root = certificateNaming(ROOT, ROOT, undefined);
const ca = certificateNaming(ROOT, CA, `http://${HOST}/root.crt`);
const akOf = (url: string) => certificateNaming(CA, authority("ak", 3), url);

test("the issuers of an attestation key come from where each is named", async () => {
  const { fetch, asked } = server({
    [`http://${HOST}/ca.crt`]: ca,
    [`http://${HOST}/root.crt`]: root,
  });
  assert.deepEqual(await fetchAkIssuers(akOf(`http://${HOST}/ca.crt`), { fetch }), [ca, root]);
  assert.equal(asked.length, 2);
});

test("nobody is asked whom a certificate of unknown origin chooses", async () => {
  const { fetch, asked } = server({});
  for (
    const url of [
      "http://169.254.169.254/latest/meta-data",
      "http://localhost/ca.crt",
      `http://${HOST}.evil.test/ca.crt`,
      `http://evil.test/${HOST}`,
      `http://${HOST}:8080/ca.crt`,
      `http://user@${HOST}/ca.crt`,
      "http://other.storage.googleapis.com/ca.crt",
    ]
  ) {
    await assert.rejects(fetchAkIssuers(akOf(url), { fetch }), { code: "input/unsupported" }, url);
  }
  assert.deepEqual(asked, []);
  assert.deepEqual(await fetchAkIssuers(akOf("ldap://x"), { fetch }), []);
});

test("an issuer that is missing or malformed is its server's fault", async () => {
  const url = `http://${HOST}/ca.crt`;
  const from = (documents: Record<string, Uint8Array | string | number>) =>
    fetchAkIssuers(akOf(url), { fetch: server(documents).fetch });
  await assert.rejects(from({}), { code: "upstream/unavailable" });
  await assert.rejects(from({ [url]: 500 }), { code: "upstream/unavailable" });
  await assert.rejects(from({ [url]: "x" }), { code: "upstream/invalid" });
});

test("issuers that name each other in a circle end", async () => {
  const url = `http://${HOST}/ca.crt`;
  const circular = certificateNaming(ROOT, CA, url);
  const { fetch } = server({ [url]: circular });
  assert.equal((await fetchAkIssuers(akOf(url), { fetch })).length, 4);
});
