import { createRequire } from "node:module";
import { INTEL_TRUST_ANCHOR } from "#core/attestation/trust-anchor.ts";
import { parseCollateralJson } from "#core/tdx/collateral.ts";
import { verifyCollateral, verifyDcap, verifyQuoteSignatures } from "#core/tdx/dcap-verify.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { matchTcb } from "#core/tdx/tcb-match.ts";
import { hasVectors, vectorBytes, vectorText } from "../vectors.ts";
import { againstPeer, type BenchResult, median } from "./result.ts";

/** 2025-07-01T00:00:00Z, inside the captured collateral's window. */
const NOW = 1_751_328_000;
const WARM_UP = 30;
const ROUNDS = 101;

/** The part of @phala/dcap-qvl that is compared. */
interface Peer {
  verify(quote: Uint8Array, collateral: unknown, nowSeconds: number): { readonly status: string };
}

/** One captured TDX quote, ours beside the JavaScript library of the same purpose, in turns. */
export async function run(): Promise<BenchResult[]> {
  if (!hasVectors) {
    process.stderr.write("skipped: no reference vectors (set DSTACK_VECTORS)\n");
    return [];
  }
  const quote = vectorBytes("intel/tdx_quote");
  const json = vectorText("intel/tdx_quote_collateral.json");
  const trust = { root: INTEL_TRUST_ANCHOR.certificate, now: NOW, graceSeconds: 0 };
  const verified = await verifyCollateral(parseCollateralJson(json), trust);
  const require = createRequire(import.meta.url);
  const { version } = require("@phala/dcap-qvl/package.json") as { version: string };
  const peer = require("@phala/dcap-qvl") as Peer;

  const contestants = [
    async () => (await verifyDcap(parseQuote(quote), parseCollateralJson(json), trust)).tcb,
    async () => matchTcb(await verifyQuoteSignatures(parseQuote(quote), verified), verified),
    async () => peer.verify(quote, JSON.parse(json), NOW),
  ];
  const samples: number[][] = contestants.map(() => []);
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const [i, verify] of contestants.entries()) {
      const start = performance.now();
      const { status } = await verify();
      if (round >= 0) samples[i]!.push(performance.now() - start);
      if (status !== "UpToDate") throw new Error(`contestant ${i} says ${status}`);
    }
  }
  const [fresh, known, theirs] = samples.map(median) as [number, number, number];
  const name = `@phala/dcap-qvl ${version}`;
  return [
    againstPeer("verify a TDX quote, nothing cached", fresh, name, theirs),
    againstPeer("verify a TDX quote, collateral verified once", known, name, theirs),
  ];
}
