import assert from "node:assert/strict";
import { test } from "node:test";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { concatBytes, toHex, utf8 } from "../bytes/bytes.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { parseCollateralJson, type QuoteCollateral } from "./collateral.ts";
import { fetchCollateral, INTEL_PCS_URL } from "./pccs-client.ts";
import { encodeQuoteV4, parseQuote } from "./quote.ts";
import { rawMember } from "./raw-member.ts";

interface Served {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string;
}

/** A PCCS that has the captured collateral; `changes` replaces single answers. */
function pccs(from: QuoteCollateral, changes: Record<string, Served> = {}) {
  const asked: string[] = [];
  const signed = (name: string, text: string, signature: Uint8Array) =>
    ` { "signature" : "${toHex(signature)}" , "${name}" : ${text} } `;
  const answers: Record<string, Served> = {
    "/sgx/certification/v4/pckcrl?ca=platform&encoding=der": {
      body: from.pckCrl,
      headers: { "sgx-pck-crl-issuer-chain": encodeURIComponent(from.pckCrlIssuerChain) },
    },
    "/tdx/certification/v4/tcb?fmspc=B0C06F000000": {
      body: signed("tcbInfo", from.tcbInfo, from.tcbInfoSignature),
      headers: { "tcb-info-issuer-chain": encodeURIComponent(from.tcbInfoIssuerChain) },
    },
    "/tdx/certification/v4/qe/identity?update=standard": {
      body: signed("enclaveIdentity", from.qeIdentity, from.qeIdentitySignature),
      headers: {
        "sgx-enclave-identity-issuer-chain": encodeURIComponent(from.qeIdentityIssuerChain),
      },
    },
    "/sgx/certification/v4/rootcacrl": { body: `${toHex(from.rootCaCrl)}\n` },
    ...changes,
  };
  const fetch: FetchLike = (url) => {
    asked.push(url);
    const { origin } = new URL(url);
    const { status = 200, headers = {}, body = "" } = answers[url.slice(origin.length)] ??
      answers[url] ?? { status: 404 };
    return Promise.resolve(new Response(body as Uint8Array<ArrayBuffer>, { status, headers }));
  };
  return { fetch, asked };
}

const captured = () => parseCollateralJson(vectorText("intel/tdx_quote_collateral.json"));
const quote = () => parseQuote(vectorBytes("intel/tdx_quote"));

vectorTest(
  "collateral comes back as Intel signed it, however the PCCS spaces its JSON",
  async () => {
    for (const path of ["", "/", "/sgx/certification/v4/", "/tdx/certification/v4"]) {
      const { fetch } = pccs(captured());
      const baseUrl = `https://pccs.test${path}`;
      assert.deepEqual(await fetchCollateral(quote(), { baseUrl, fetch }), captured());
    }
  },
);

const ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
vectorTest("Intel serves the root CRL where its root certificate says", async () => {
  const { fetch, asked } = pccs(captured(), { [ROOT_CRL]: { body: captured().rootCaCrl } });
  const collateral = await fetchCollateral(quote(), { baseUrl: INTEL_PCS_URL, fetch });
  assert.deepEqual(collateral, captured());
  assert.ok(asked.includes(ROOT_CRL));
  assert.ok(!asked.some((url) => url.endsWith("rootcacrl")));
});

vectorTest("so does a PCCS without a root CRL of its own", async () => {
  const { fetch } = pccs(captured(), {
    "/sgx/certification/v4/rootcacrl": { status: 404 },
    [ROOT_CRL]: { body: captured().rootCaCrl },
  });
  assert.deepEqual(await fetchCollateral(quote(), { baseUrl: "http://p", fetch }), captured());
});

vectorTest("what a PCCS answers wrongly is its fault", async () => {
  const tcb = "/tdx/certification/v4/tcb?fmspc=B0C06F000000";
  const headers = { "tcb-info-issuer-chain": "x" };
  const cases: readonly (readonly [string, Record<string, Served>])[] = [
    ["upstream/unavailable", { [tcb]: { status: 404 } }],
    ["upstream/invalid", { [tcb]: { body: captured().tcbInfo } }],
    ["upstream/invalid", { [tcb]: { body: "<html>", headers } }],
    ["upstream/invalid", { [tcb]: { body: '{"tcbInfo":{}}', headers } }],
    ["upstream/invalid", { "/sgx/certification/v4/rootcacrl": { body: "zz" } }],
    ["upstream/invalid", {
      "/sgx/certification/v4/pckcrl?ca=platform&encoding=der": {
        body: "x",
        headers: { "sgx-pck-crl-issuer-chain": "%ZZ" },
      },
    }],
  ];
  for (const [code, changes] of cases) {
    const { fetch } = pccs(captured(), changes);
    await assert.rejects(() => fetchCollateral(quote(), { baseUrl: "http://p", fetch }), { code });
  }
  const down: FetchLike = () => Promise.reject(new TypeError("connection refused"));
  await assert.rejects(() => fetchCollateral(quote(), { baseUrl: "http://p", fetch: down }), {
    code: "upstream/unavailable",
  });
});

vectorTest("a quote with an encrypted PPID gets its certificate from the PCCS", async () => {
  const real = quote();
  const [leaf, ...issuers] = new TextDecoder().decode(real.signatureData.certification.bytes)
    .replace("\0", "").match(/-----BEGIN[^]*?-----END CERTIFICATE-----\n/g)!;
  const cpuSvn = new Uint8Array(16).fill(3);
  const bytes = concatBytes(
    new Uint8Array(384).fill(0xab),
    cpuSvn,
    Uint8Array.of(13, 0),
    Uint8Array.of(0, 0),
  );
  const encrypted = parseQuote(encodeQuoteV4(real.signedBytes, {
    ...real.signatureData,
    certification: { type: 3, bytes },
  }));
  const qeId = toHex(real.header.userData.subarray(0, 16)).toUpperCase();
  const tcbm = "03".repeat(16) + "0D00";
  const path = `/sgx/certification/v4/pckcert?qeid=${qeId}&encrypted_ppid=${"AB".repeat(384)}` +
    `&cpusvn=${"03".repeat(16)}&pcesvn=0D00&pceid=0000`;
  const headers = {
    "sgx-pck-certificate-issuer-chain": encodeURIComponent(issuers.join("")),
    "sgx-tcbm": tcbm,
  };
  const { fetch } = pccs(captured(), { [path]: { body: leaf!, headers } });
  const collateral = await fetchCollateral(encrypted, { baseUrl: "http://p", fetch });
  assert.equal(collateral.pckCertificateChain, leaf! + issuers.join(""));

  const other = pccs(captured(), {
    [path]: { body: leaf!, headers: { ...headers, "sgx-tcbm": "00" } },
  });
  await assert.rejects(
    () => fetchCollateral(encrypted, { baseUrl: "http://p", fetch: other.fetch }),
    { code: "upstream/invalid" },
  );
});

test("rawMember() cuts the member's own text", () => {
  const text = String
    .raw` {"a" : "x\"}," , "b\u0031" :{ "c":[1,{"d":"]"}], "e":"{" } ,"f":-1.5e3, "g":true}`;
  assert.equal(rawMember(text, "a"), String.raw`"x\"},"`);
  assert.equal(rawMember(text, "b1"), '{ "c":[1,{"d":"]"}], "e":"{" }');
  assert.equal(rawMember(text, "f"), "-1.5e3");
  assert.equal(rawMember(text, "g"), "true");
  assert.equal(rawMember(text, "c"), undefined);
  assert.equal(rawMember("{}", "c"), undefined);
  for (const name of ["a", "b1", "f", "g"]) {
    const value = (JSON.parse(text) as Record<string, unknown>)[name];
    assert.deepEqual(JSON.parse(rawMember(text, name)!), value);
  }
  assert.equal(utf8(text).length, text.length);
});
