import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { serveHttp } from "#adapters/http-server.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import { pageTest, useChromium } from "../chromium.ts";
import { conformanceCases } from "../conformance/evidence/cases.ts";
import { simulatedCvm } from "../simulated-cvm.ts";
import { hasVectors, vectorBytes, vectorText } from "../vectors.ts";
import { type Appraisal, verdictTexts } from "./verdict-text.ts";

/**
 * The same evidence on Node, Deno, workerd and Chromium: captures of every TEE, a simulated CVM, and a
 * cut through the conformance kit. Every verdict must be the same bytes.
 */
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCE = "./tests/workers/verdict-text.ts";
/** Coprime to the number of kinds, so that every group is met. */
const EVERY = 17;

function captured(): Appraisal[] {
  if (!hasVectors) return [];
  const report = JSON.parse(vectorText("dstack/quote-report.json")) as Record<string, unknown>;
  const collateral = (name: string) =>
    JSON.parse(vectorText(`intel/${name}_collateral.json`)) as unknown;
  const certificate = (name: string) =>
    toHex(decodeOnePem("CERTIFICATE", vectorText(`dstack/sev_snp_${name}.pem`)));
  const policies = [{ require: [] }, {}];
  const requests = [
    {
      quote: toHex(vectorBytes("intel/tdx_quote")),
      collateral: collateral("tdx_quote"),
      time: "2025-07-01T00:00:00Z",
    },
    {
      quote: toHex(vectorBytes("intel/sgx_quote")),
      collateral: collateral("sgx_quote"),
      time: "2025-07-01T00:00:00Z",
    },
    {
      quote: toHex(vectorBytes("intel/tdx_quote")),
      collateral: collateral("tdx_quote_outdated"),
      time: "2026-03-01T00:00:00Z",
    },
    {
      quote: report["quote"],
      event_log: report["event_log"],
      vm_config: report["vm_config"],
      collateral: collateral("tdx_quote_outdated"),
      time: "2026-03-01T00:00:00Z",
    },
    {
      attestation: toHex(vectorBytes("dstack/nitro_attestation.bin")),
      time: "2025-12-25T16:04:18Z",
    },
    {
      attestation: toHex(vectorBytes("dstack/sev_snp_attestation.bin")),
      vendor_documents: { certificates: [certificate("ask"), certificate("vcek")] },
      time: "2026-08-01T00:00:00Z",
    },
  ];
  return requests.flatMap((request) =>
    policies.map((policy) => ({ request: JSON.stringify({ ...request, policy }), root: null }))
  );
}

function simulated(): Appraisal {
  const cvm = simulatedCvm();
  const time = "2026-11-22T08:30:00Z";
  return {
    root: cvm.platform.rootCertificatePem,
    request: JSON.stringify({
      attestation: toHex(encodeAttestation(cvm.attestation)),
      collateral: collateralToJson(cvm.platform.collateral(new Date(time))),
      time,
    }),
  };
}

const appraisals: readonly Appraisal[] = [
  ...captured(),
  simulated(),
  ...[...conformanceCases()].filter((_, i) => i % EVERY === 0)
    .map(({ request, root }) => ({ request: JSON.stringify(request), root })),
];
const expected = verdictTexts(appraisals);

async function bundle(contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: ROOT },
    bundle: true,
    format: "esm",
    platform: "browser",
    write: false,
  });
  return outputFiles[0]!.text;
}

test("the verdicts compared here are accepted and refused ones", async () => {
  const texts = await expected;
  const count = (outcome: string) =>
    texts.filter((text) => text.includes(`"outcome":"${outcome}"`)).length;
  assert.ok(count("accepted") > 10 && count("refused") > 50, texts.join("\n").slice(0, 400));
  if (hasVectors) {
    const about = (tee: string, outcome: string) =>
      texts.some((text) => text.includes(`"tee":"${tee}"`) && text.includes(outcome));
    for (const tee of ["intel-tdx", "intel-sgx", "dstack-tdx", "dstack-nitro-enclave"]) {
      assert.ok(about(tee, '"outcome":"accepted"'), tee);
    }
    assert.ok(about("dstack-amd-sev-snp", '"id":"signature-chain","result":"passed"'));
  }
});

test("Deno gives the verdicts of Node, byte for byte", async () => {
  const program = `
    import { verdictTexts } from "${SOURCE}";
    console.log(JSON.stringify(await verdictTexts(${JSON.stringify(appraisals)})));`;
  const argv = ["run", "--no-check", "--quiet", "-"];
  const output = execFileSync(`${ROOT}node_modules/.bin/deno`, argv, {
    cwd: ROOT,
    input: program,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.deepEqual(JSON.parse(output), await expected);
});

test("workerd gives the verdicts of Node, byte for byte", async () => {
  const worker = new Miniflare({
    modules: true,
    script: await bundle(`
      import { verdictTexts } from "${SOURCE}";
      export default {
        fetch: async (request) => Response.json(await verdictTexts(await request.json())),
      };`),
    compatibilityDate: "2026-01-01",
  });
  try {
    const body = JSON.stringify(appraisals);
    const answer = await worker.dispatchFetch("http://worker/", { method: "POST", body });
    assert.deepEqual(await answer.json(), await expected);
  } finally {
    await worker.dispose();
  }
});

useChromium();
pageTest("Chromium gives the verdicts of Node, byte for byte", async (page) => {
  const script = await bundle(`
    import { verdictTexts } from "${SOURCE}";
    globalThis.verdictTexts = verdictTexts;`);
  // WebCrypto is for secure contexts, and localhost is one.
  const site = await serveHttp(
    ({ url }) =>
      url.endsWith(".js")
        ? new Response(script, { headers: { "content-type": "text/javascript" } })
        : new Response(
          '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/a.js"></script>',
          {
            headers: { "content-type": "text/html" },
          },
        ),
    { host: "127.0.0.1", port: 0 },
  );
  try {
    await page.goto(`http://127.0.0.1:${site.port}/`);
    await page.waitForFunction("globalThis.verdictTexts !== undefined");
    const texts = await page.evaluate(
      (all) => (globalThis as unknown as { verdictTexts: typeof verdictTexts }).verdictTexts(all),
      appraisals,
    );
    assert.deepEqual(texts, await expected);
  } finally {
    await site.close(0);
  }
});
