import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { Miniflare, Response as WorkerResponse } from "miniflare";
import { appraise } from "../../core/attestation/appraise.ts";
import { INTEL_TRUST_ANCHOR } from "../../core/attestation/trust-anchor.ts";
import { encodeVerdict, type Verdict } from "../../core/attestation/verdict.ts";
import { encodeAttestation } from "../../core/attestation/versioned-attestation.ts";
import { toHex } from "../../core/bytes/bytes.ts";
import { serviceTrustAnchors } from "../../functions/attestation/trust-anchors.ts";
import { parseVerificationRequest } from "../../functions/verifier/request.ts";
import { simulatedCvm } from "../simulated-cvm.ts";
import { vectorTest, vectorText } from "../vectors.ts";

const cvm = simulatedCvm();
let script: string;

before(async () => {
  const { outputFiles } = await build({
    entryPoints: [new URL("../../functions/entries/verifier.workers.ts", import.meta.url).pathname],
    bundle: true,
    format: "esm",
    platform: "browser",
    minify: true,
    write: false,
  });
  script = outputFiles[0]!.text;
});

const workers: Miniflare[] = [];
after(() => Promise.all(workers.map((worker) => worker.dispose())));

/** The entry in workerd, without compatibility flags; what it fetches is the simulated PCCS. */
function worker(bindings: Record<string, string> = {}, pccsRequests: string[] = []) {
  const instance = new Miniflare({
    modules: true,
    script,
    compatibilityDate: "2026-01-01",
    bindings,
    outboundService: (request: { readonly url: string }) => {
      const { host, pathname, search } = new URL(request.url);
      pccsRequests.push(`${host}${pathname}`);
      const reply = cvm.platform.pccs(pathname, search.slice(1), new Date());
      if (reply === undefined) return new WorkerResponse(null, { status: 404 });
      return new WorkerResponse(reply.body.slice(), {
        status: reply.status,
        headers: { ...reply.headers },
      });
    },
  });
  workers.push(instance);
  return async (path: string, body?: string) => {
    const response = await instance.dispatchFetch(
      `http://verifier${path}`,
      body === undefined ? {} : { method: "POST", body },
    );
    return { status: response.status, text: await response.text() };
  };
}

test("the bundle is small enough for any Workers plan", () => {
  assert.ok(script.length < 1024 * 1024, `${script.length} bytes`);
});

vectorTest("the Workers entry gives the verdict of Node, byte for byte", async () => {
  const { quote, event_log, vm_config } = JSON.parse(vectorText("dstack/quote-report.json"));
  const ask = worker();
  for (const time of ["2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"]) {
    const body = JSON.stringify({
      quote,
      event_log,
      vm_config,
      collateral: JSON.parse(vectorText("intel/tdx_quote_outdated_collateral.json")),
      time,
      policy: { require: ["event-log-replay", "launch-events"] },
    });
    const request = parseVerificationRequest(body);
    const now = request.time!;
    const here = await appraise({ ...request, now, trustAnchors: [INTEL_TRUST_ANCHOR] });
    assert.equal(here.outcome, time < "2026-03-20" ? "accepted" : "refused");
    assert.deepEqual(await ask("/v1/verify", body), { status: 200, text: encodeVerdict(here) });
  }
});

test("the Workers entry fetches collateral once and trusts the root it is given", async () => {
  const pccsRequests: string[] = [];
  const ask = worker({
    PCCS_URL: "https://pccs.test",
    TDX_ROOT_CA: cvm.platform.rootCertificatePem,
    INSECURE_ALLOW_EXTERNAL_TRUST_ANCHORS: "true",
  }, pccsRequests);
  const body = JSON.stringify({ attestation: toHex(encodeAttestation(cvm.attestation)) });
  const verdict = JSON.parse((await ask("/v1/verify", body)).text) as Verdict;
  assert.deepEqual([verdict.outcome, verdict.simulated], ["accepted", true]);
  const [anchor] = serviceTrustAnchors({ tdx: cvm.platform.rootCertificatePem }, true);
  assert.deepEqual(verdict.trustAnchor, { name: anchor!.name, simulated: true });
  assert.deepEqual(pccsRequests.toSorted(), [
    "pccs.test/sgx/certification/v4/pckcrl",
    "pccs.test/sgx/certification/v4/rootcacrl",
    "pccs.test/tdx/certification/v4/qe/identity",
    "pccs.test/tdx/certification/v4/tcb",
  ]);
  assert.equal((await ask("/v1/verify", body)).status, 200);
  assert.equal(pccsRequests.length, 4);
});

test("the Workers entry trusts Intel alone unless told otherwise", async () => {
  const body = JSON.stringify({ attestation: toHex(encodeAttestation(cvm.attestation)) });
  const verdict = JSON.parse((await worker()("/v1/verify", body)).text) as Verdict;
  assert.equal(verdict.reason?.code, "certificate-untrusted");
});

test("another root without the insecure binding serves nothing", async () => {
  const ask = worker({ TDX_ROOT_CA: cvm.platform.rootCertificatePem });
  const answer = await ask("/healthz");
  assert.equal(answer.status, 500);
  assert.doesNotMatch(answer.text, /CERTIFICATE/);
});

test("the Workers entry has what every service has, but metrics", async () => {
  const ask = worker({ REVISION: "git:00112233445566778899" });
  assert.equal((await ask("/healthz")).text, `{"status":"ok"}`);
  assert.equal(JSON.parse((await ask("/version")).text).rev, "git:00112233445566778899");
  assert.equal((await ask("/metrics")).status, 404);
  assert.equal((await ask("/v1/verify", "{")).status, 400);
});
