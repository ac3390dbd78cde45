import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { hostCrypto } from "#adapters/crypto.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { QUOTE_POLICY } from "#core/attestation/policy.ts";
import { INTEL_TRUST_ANCHOR } from "#core/attestation/trust-anchor.ts";
import { parseCollateralJson } from "#core/tdx/collateral.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { hasVectors, vectorBytes, vectorPath, vectorText } from "../vectors.ts";
import { againstPeer, type BenchResult, median } from "./result.ts";

/** 2025-07-01T00:00:00Z, inside the captured collateral's window. */
const NOW = 1_751_328_000;
const BLOCKS = 7;
const ROUNDS = 40;
/** Before the first block: services run long enough for the runtime to have compiled everything. */
const WARM_UP = 600;

/** The part of @phala/dcap-qvl that is compared. */
interface Peer {
  verify(quote: Uint8Array, collateral: unknown, nowSeconds: number): { readonly status: string };
}

/**
 * One captured TDX quote: the whole verdict, as the services give it, beside the libraries of the same
 * purpose. They take turns in blocks: what else the machine does falls on all of them, and nobody's
 * garbage is collected in another's time. The Rust one has a process of its own in every block.
 */
export async function run(): Promise<BenchResult[]> {
  if (!hasVectors) {
    process.stderr.write("skipped: no reference vectors (set DSTACK_VECTORS)\n");
    return [];
  }
  const quote = vectorBytes("intel/tdx_quote");
  const json = vectorText("intel/tdx_quote_collateral.json");
  const known = parseCollateralJson(json);
  const endorsements = new EndorsementCache();
  const input = {
    attestation: { quote },
    trustAnchors: [INTEL_TRUST_ANCHOR],
    policy: QUOTE_POLICY,
    now: new Date(NOW * 1000),
    crypto: hostCrypto,
  };
  const require = createRequire(import.meta.url);
  const { version } = require("@phala/dcap-qvl/package.json") as { version: string };
  const peer = require("@phala/dcap-qvl") as Peer;
  const contestants = [
    async () => (await appraise({ ...input, collateral: parseCollateralJson(json) })).tcb,
    async () => (await appraise({ ...input, collateral: known, endorsements })).tcb,
    async () => peer.verify(quote, JSON.parse(json), NOW),
  ];
  const samples: number[][] = contestants.map(() => []);
  const rustSamples: RustSample[] = [];
  const hasRust = rustSample() !== undefined;
  for (let block = 0; block < BLOCKS; block++) {
    for (const [i, verify] of contestants.entries()) {
      for (let round = block === 0 ? -WARM_UP : -ROUNDS; round < ROUNDS; round++) {
        const start = performance.now();
        const status = (await verify())?.status;
        if (round >= 0) samples[i]!.push(performance.now() - start);
        if (status !== "UpToDate") throw new Error(`contestant ${i} says ${status}`);
      }
    }
    const rust = hasRust ? rustSample() : undefined;
    if (rust) rustSamples.push(rust);
  }
  const [fresh, repeated, theirs] = samples.map(median) as [number, number, number];
  const [rust] = rustSamples;
  const runtime = "Deno" in globalThis ? "Deno" : "Node";
  const rows = [
    [`verify a TDX quote, nothing cached (${runtime})`, fresh],
    [`verify a TDX quote, collateral verified once (${runtime})`, repeated],
  ] as const;
  return rows.flatMap(([name, oursMs]) => [
    againstPeer(name, oursMs, `@phala/dcap-qvl ${version}`, theirs),
    ...(rust
      ? [againstPeer(name, oursMs, `${rust.name} (Rust)`, median(rustSamples.map(({ ms }) => ms)))]
      : []),
  ]);
}

/** The Rust dcap-qvl by its Python binding: collateral from JSON, then the verification. */
const RUST = `
import json, statistics, sys, time
from importlib.metadata import version
import dcap_qvl
quote = open(sys.argv[1], "rb").read()
text = open(sys.argv[2]).read()
times = []
for i in range(int(sys.argv[4])):
    start = time.perf_counter()
    report = dcap_qvl.verify(quote, dcap_qvl.QuoteCollateralV3.from_json(text), int(sys.argv[3]))
    times.append((time.perf_counter() - start) * 1000)
    assert report.status == "UpToDate"
print(json.dumps({"name": "dcap-qvl " + version("dcap-qvl"), "ms": statistics.median(times)}))
`;

const RUST_PACKAGE = "dcap-qvl==0.7.0";

interface RustSample {
  readonly name: string;
  readonly ms: number;
}

/** The median of one process of the peer's; undefined, and said, where it cannot be had. */
function rustSample(): RustSample | undefined {
  const packages = fileURLToPath(new URL(`../../.cache/bench/${RUST_PACKAGE}`, import.meta.url));
  try {
    if (!existsSync(packages)) {
      const install = ["-m", "pip", "install", "--quiet", "--target", packages, RUST_PACKAGE];
      execFileSync("python3", install, { stdio: ["ignore", "ignore", "pipe"] });
    }
    const files = ["intel/tdx_quote", "intel/tdx_quote_collateral.json"].map(vectorPath);
    const answer = execFileSync("python3", ["-c", RUST, ...files, String(NOW), String(ROUNDS)], {
      encoding: "utf8",
      env: { ...process.env, PYTHONPATH: packages },
    });
    return JSON.parse(answer) as { name: string; ms: number };
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split("\n");
    process.stderr.write(`skipped: ${RUST_PACKAGE} (Rust): ${line}\n`);
    return undefined;
  }
}
