import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { reasonOf } from "../errors/refusal.ts";
import type { FetchLike } from "../http/fetch-like.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import { verifyDcap } from "./dcap-verify.ts";
import { INTEL_SGX_ROOT_CA } from "./intel-root.ts";
import { fetchCollateral } from "./pccs-client.ts";
import { parseQuote } from "./quote.ts";
import { createSimulatedPlatform, type SimulatedPlatform } from "./simulated-platform.ts";

const NOW = new Date("2026-11-22T08:30:00Z");
const seconds = NOW.getTime() / 1000;
const platform = createSimulatedPlatform(new Uint8Array(32).fill(7));
const register = (fill: number) => new Uint8Array(48).fill(fill);
const quoteOf = (signer: SimulatedPlatform) =>
  signer.signQuote({
    mrTd: register(1),
    rtmrs: [register(2), register(3), register(4), register(5)],
    mrConfigId: register(6),
    reportData: new Uint8Array(64).fill(9),
  });

const pccsOf = (served: SimulatedPlatform): FetchLike => (url) => {
  const { pathname, search } = new URL(url);
  const reply = served.pccs(pathname, search.slice(1), NOW);
  const { status, headers, body } = reply ?? { status: 404, headers: {}, body: utf8("") };
  return Promise.resolve(new Response(body as Uint8Array<ArrayBuffer>, { status, headers }));
};

test("a quote verifies under its own root with collateral from its own PCCS", async () => {
  const quote = parseQuote(quoteOf(platform));
  const collateral = await fetchCollateral(quote, {
    baseUrl: "http://pccs.test/tdx/certification/v4/",
    fetch: pccsOf(platform),
  });
  assert.deepEqual(collateral, platform.collateral(NOW));
  const root = parseX509Certificate(platform.rootCertificateDer);
  const { tcb } = await verifyDcap(quote, collateral, { root, now: seconds, graceSeconds: 0 });
  assert.equal(tcb.status, "UpToDate");
  assert.deepEqual(tcb.advisoryIds, []);
  assert.ok(quote.body.kind === "td10");
  assert.equal(toHex(quote.body.report.mrConfigId), "06".repeat(48));
  assert.equal(toHex(quote.body.report.rtmrs[3]), "05".repeat(48));
});

test("Intel's root refuses it", async () => {
  const root = parseX509Certificate(INTEL_SGX_ROOT_CA);
  const trust = { root, now: seconds, graceSeconds: 0 };
  await assert.rejects(
    () => verifyDcap(parseQuote(quoteOf(platform)), platform.collateral(NOW), trust),
    (error) => reasonOf(error)?.code === "certificate-untrusted",
  );
});

test("another simulated platform's root and collateral refuse it", async () => {
  const other = createSimulatedPlatform(new Uint8Array(32).fill(8));
  const trust = {
    root: parseX509Certificate(other.rootCertificateDer),
    now: seconds,
    graceSeconds: 0,
  };
  const quote = parseQuote(quoteOf(platform));
  // Its names are the same, its keys are not.
  for (const collateral of [other.collateral(NOW), platform.collateral(NOW)]) {
    await assert.rejects(
      () => verifyDcap(quote, collateral, trust),
      (error) => reasonOf(error)?.check === "signature-chain",
    );
  }
});

test("one seed makes one platform, and one day one collateral", () => {
  const again = createSimulatedPlatform(new Uint8Array(32).fill(7));
  assert.deepEqual(again.rootCertificateDer, platform.rootCertificateDer);
  assert.deepEqual(quoteOf(again), quoteOf(platform));
  const evening = new Date("2026-11-22T23:59:59Z");
  assert.deepEqual(again.collateral(evening), platform.collateral(NOW));
  const tomorrow = new Date("2026-11-23T00:00:00Z");
  assert.notEqual(again.collateral(tomorrow).tcbInfo, platform.collateral(NOW).tcbInfo);
});

test("every certificate says SIMULATED", () => {
  for (const pem of [platform.rootCertificatePem, platform.collateral(NOW).tcbInfoIssuerChain]) {
    const ders = pem.match(/-----BEGIN[^]*?-----END/g)!;
    for (const one of ders) {
      assert.match(atob(one.replace(/-----[A-Z ]+(-----)?/g, "").trim()), /SIMULATED/);
    }
  }
});

test("the PCCS answers other platforms and paths as one does", () => {
  assert.equal(platform.pccs("/tdx/certification/v4/tcb", "fmspc=90C06F000000", NOW)!.status, 404);
  assert.equal(platform.pccs("/sgx/certification/v4/pckcrl", "ca=processor", NOW)!.status, 404);
  assert.equal(platform.pccs("/elsewhere", "", NOW), undefined);
  const crl = platform.pccs("/sgx/certification/v4/rootcacrl", "", NOW)!;
  assert.match(new TextDecoder().decode(crl.body), /^30[0-9a-f]+$/);
});

test("collateral holds for a month from yesterday", async () => {
  const quote = parseQuote(quoteOf(platform));
  const root = parseX509Certificate(platform.rootCertificateDer);
  const at = (time: string) =>
    verifyDcap(quote, platform.collateral(NOW), {
      root,
      now: Date.parse(time) / 1000,
      graceSeconds: 0,
    });
  await at("2026-11-21T00:00:00Z");
  await at("2026-12-22T00:00:00Z");
  await assert.rejects(() => at("2026-11-20T23:59:59Z"), { code: "attestation/refused" });
  await assert.rejects(() => at("2026-12-22T00:00:01Z"), { code: "attestation/refused" });
});
