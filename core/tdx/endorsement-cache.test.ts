import assert from "node:assert/strict";
import { test } from "node:test";
import { type CryptoProvider, webCrypto } from "../crypto/crypto-provider.ts";
import { reasonOf } from "../errors/refusal.ts";
import { parseX509Certificate } from "../x509/x509-certificate.ts";
import type { QuoteCollateral } from "./collateral.ts";
import { parsePckChain, verifyQuoteSignatures } from "./dcap-verify.ts";
import { EndorsementCache } from "./endorsement-cache.ts";
import { parseQuote } from "./quote.ts";
import { createSimulatedPlatform } from "./simulated-platform.ts";

const DAY = 86_400;
const NOW = Date.UTC(2026, 5, 1, 12) / 1000;
const platform = createSimulatedPlatform(new Uint8Array(32).fill(7));
const root = parseX509Certificate(platform.rootCertificateDer);
const collateral = platform.collateral(new Date(NOW * 1000));

/** Counts the signatures that are verified. */
function counting() {
  const count = { signatures: 0 };
  const crypto: CryptoProvider = {
    sha256: webCrypto.sha256,
    verifyEcdsa: (...args) => (count.signatures++, webCrypto.verifyEcdsa(...args)),
  };
  return { count, crypto };
}

async function refusedWith(code: string, run: () => Promise<unknown>): Promise<void> {
  await assert.rejects(run, (error) => {
    assert.equal(reasonOf(error)?.code, code, String(error));
    return true;
  });
}

test("collateral is verified once, also when it is another object", async () => {
  const { count, crypto } = counting();
  const cache = new EndorsementCache();
  const trust = { root, now: NOW, graceSeconds: 0, crypto };
  await cache.verifyCollateral(collateral, trust);
  assert.equal(count.signatures, 6); // two CA certificates, two CRLs, TCB info, QE identity
  await cache.verifyCollateral(structuredClone(collateral), trust);
  await cache.verifyCollateral(collateral, { ...trust, now: NOW + 29 * DAY });
  assert.equal(count.signatures, 6);
});

test("a cached answer ends with the collateral, and grace is not cached", async () => {
  const cache = new EndorsementCache();
  const at = (now: number, graceSeconds = 0) =>
    cache.verifyCollateral(collateral, { root, now, graceSeconds });
  await at(NOW);
  const late = NOW + 31 * DAY;
  await refusedWith("crl-expired", () => at(late));
  await at(late, 2 * DAY);
  await refusedWith("crl-expired", () => at(late));
  await refusedWith("certificate-not-yet-valid", () => at(0));
});

test("every member is part of the key", async () => {
  const cache = new EndorsementCache();
  const trust = { root, now: NOW, graceSeconds: 0 };
  await cache.verifyCollateral(collateral, trust);
  const other = createSimulatedPlatform(new Uint8Array(32).fill(8));
  const theirs = other.collateral(new Date((NOW + DAY) * 1000));
  for (const member of Object.keys(collateral) as (keyof QuoteCollateral)[]) {
    const changed = { ...collateral, [member]: theirs[member] };
    await assert.rejects(() => cache.verifyCollateral(changed, trust), member);
  }
  const otherRoot = parseX509Certificate(other.rootCertificateDer);
  await assert.rejects(() => cache.verifyCollateral(collateral, { ...trust, root: otherRoot }));
});

test("of a known platform only the quote's own signature is verified again", async () => {
  const { count, crypto } = counting();
  const cache = new EndorsementCache();
  const trust = { root, now: NOW, graceSeconds: 0, crypto };
  const td = { mrTd: new Uint8Array(48), rtmrs: Array(4).fill(new Uint8Array(48)) as never };
  const verify = async (bytes: Uint8Array) => {
    const quote = parseQuote(bytes);
    const chain = parsePckChain(quote, collateral, cache.certificates);
    const verified = await cache.verifyCollateral(collateral, trust);
    count.signatures = 0;
    await verifyQuoteSignatures(quote, chain, verified, trust);
    return count.signatures;
  };
  const quote = (fill: number) =>
    platform.signQuote({ ...td, reportData: new Uint8Array(64).fill(fill) });
  assert.equal(await verify(quote(1)), 3); // PCK certificate, QE report, quote
  assert.equal(await verify(quote(2)), 1);

  const parts = parseQuote(quote(3));
  const { signatureData, signedBytes } = parts;
  const at = (needle: Uint8Array) => {
    const bytes = quote(3);
    const start = bytes.findIndex((_, i) => needle.every((byte, j) => bytes[i + j] === byte));
    bytes[start + 5]! ^= 1;
    return bytes;
  };
  await refusedWith("quote-signature-invalid", () => verify(at(signedBytes.subarray(500, 632))));
  await refusedWith(
    "quoting-enclave-signature-invalid",
    () => verify(at(signatureData.qeReportSignature)),
  );
  await refusedWith("quoting-enclave-signature-invalid", () => verify(at(signatureData.qeReport)));
  await refusedWith("quoting-enclave-binding-invalid", () => verify(at(signatureData.qeAuthData)));
});
