import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { serveHttp } from "#adapters/http-server.ts";
import type { Listening } from "#adapters/listening.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import type { Verdict } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { buildCertificate, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { simulatedCvm } from "../../tests/simulated-cvm.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const cvm = simulatedCvm();
const attestation = toHex(encodeAttestation(cvm.attestation));
let directory: string;
let pccs: Listening;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "verifier-"));
  pccs = await serveHttp((request) => {
    const { pathname, search } = new URL(request.url);
    const reply = cvm.platform.pccs(pathname, search.slice(1), new Date());
    if (reply === undefined) return new Response(null, { status: 404 });
    return new Response(reply.body.slice(), { status: reply.status, headers: reply.headers });
  }, { host: "127.0.0.1", port: 0 });
  await writeFile(join(directory, "root.pem"), cvm.platform.rootCertificatePem);
  await writeFile(
    join(directory, "verifier.toml"),
    `
      address = "127.0.0.1"
      port = 0
      image_cache_dir = "${directory}/images"
      [attestation]
      insecure_allow_external_trust_anchors = true
      root_ca.tdx = "${directory}/root.pem"
      urls.pccs = "http://127.0.0.1:${pccs.port}"
    `,
  );
});

after(async () => {
  await pccs.close();
  await rm(directory, { recursive: true });
});

/** node_modules/.bin/deno starts the program as a child that outlives it. */
function denoBinary(): string {
  const argv = ["eval", "console.log(Deno.execPath())"];
  return execFileSync(`${ROOT}node_modules/.bin/deno`, argv, { encoding: "utf8" }).trim();
}

/** What the entries run with, as they say themselves. */
const RUNTIMES = {
  node: () => [`${ROOT}node_modules/.bin/node`, "functions/entries/verifier.node.ts"],
  deno: () => [
    denoBinary(),
    "run",
    "--quiet",
    "--no-prompt",
    "--no-check",
    "--cached-only",
    "--allow-net=127.0.0.1",
    `--allow-read=${ROOT},${directory}`,
    "--allow-env",
    "functions/entries/verifier.deno.ts",
  ],
} as const;

interface Run {
  /** Of the line that says where it listens. */
  readonly address: Promise<string>;
  /** Exit status and what stderr said. */
  readonly end: Promise<{ readonly code: number | null; readonly stderr: string }>;
  stop(): void;
}

function run(runtime: keyof typeof RUNTIMES, args: readonly string[]): Run {
  const [command, ...own] = RUNTIMES[runtime]();
  const child = spawn(command!, [...own, ...args], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  const address = Promise.withResolvers<string>();
  address.promise.catch(() => {}); // a run that only checks has none
  createInterface(child.stderr).on("line", (line) => {
    stderr += `${line}\n`;
    const [, at] = /"msg":"verifier is serving","address":"([^"]+)"/.exec(line) ?? [];
    if (at !== undefined) address.resolve(at);
  });
  const end = new Promise<{ code: number | null; stderr: string }>((resolve) => {
    child.on("close", (code) => {
      address.reject(new Error(`ended with ${code}: ${stderr}`));
      resolve({ code, stderr });
    });
  });
  return { address: address.promise, end, stop: () => process.kill(child.pid!, "SIGTERM") };
}

const LIMIT = { timeout: 60_000 };
const verdicts: string[] = [];
for (const runtime of ["node", "deno"] as const) {
  test(
    `the ${runtime} entry verifies under the configured root and ends when told`,
    LIMIT,
    async () => {
      const service = run(runtime, ["--config", `${directory}/verifier.toml`]);
      try {
        const url = `http://${await service.address}`;
        const body = JSON.stringify({ attestation, time: new Date().toISOString() });
        const response = await fetch(`${url}/v1/verify`, { method: "POST", body });
        assert.equal(response.status, 200);
        const verdict = await response.json() as Verdict;
        assert.deepEqual([verdict.outcome, verdict.simulated], ["accepted", true]);
        assert.match(verdict.trustAnchor!.name, /^external tdx root [0-9a-f]{16}$/);
        verdicts.push(JSON.stringify({ ...verdict, evaluatedAt: "" }));
        const metrics = await (await fetch(`${url}/metrics`)).text();
        assert.match(metrics, /verdicts_total\{outcome="accepted",reason="",simulated="true"\} 1/);
      } finally {
        service.stop();
      }
      assert.equal((await service.end).code, 0);
    },
  );
}

/** Exit status and answer of a one-shot mode, which stands in a file beside the input as well. */
async function oneShot(option: string, name: string, content: string | Uint8Array, suffix: string) {
  const file = join(directory, name);
  await writeFile(file, content);
  const [command, ...own] = RUNTIMES.node();
  const argv = [...own, "--config", `${directory}/verifier.toml`, option, file];
  const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((resolve) => {
    execFile(command!, argv, { cwd: ROOT }, (error, stdout) => {
      resolve({ code: error === null ? 0 : error.code, stdout });
    });
  });
  const answer = JSON.parse(stdout) as { is_valid: boolean; reason?: string | null };
  assert.deepEqual(JSON.parse(await readFile(`${file}${suffix}`, "utf8")), answer);
  return [code, answer.is_valid, answer.reason];
}

test("--verify answers one request and exits 0 or 1", LIMIT, async () => {
  const verify = (name: string, request: unknown) =>
    oneShot("--verify", name, JSON.stringify(request), ".verification.json");
  assert.deepEqual(await verify("good.json", { attestation }), [0, true, null]);
  const none = "Internal error: Quote is required";
  assert.deepEqual(await verify("empty.json", {}), [1, false, none]);
});

test("--verify-cert answers about one certificate and exits 0 or 1", LIMIT, async () => {
  const verify = (name: string, content: Uint8Array) =>
    oneShot("--verify-cert", name, content, ".ratls-verification.json");
  const key = randomP256Scalar();
  const subject = { commonName: "an app" };
  const certificate = (attestation: Attestation) =>
    buildCertificate({
      subject,
      publicKey: p256Spki(key),
      issuer: selfIssuer(subject, key),
      notAfter: new Date(Date.now() + 86_400_000),
      altNames: ["app.example.org"],
      serverAuth: true,
      attestation: encodeAttestation(attestation),
    });
  const bound = simulatedCvm({ reportData: ratlsReportData(p256Spki(key)) }).attestation;
  assert.deepEqual(await verify("good.der", certificate(bound)), [0, true, undefined]);
  const unbound = await verify("bad.der", certificate(cvm.attestation));
  assert.deepEqual(unbound, [1, false, "report data mismatch"]);
});

test("Node and Deno gave the same verdict", () => {
  assert.equal(verdicts.length, 2);
  assert.equal(verdicts[0], verdicts[1]);
});

test("a configuration that cannot be used is told on stderr, exit 2", async () => {
  const cases: [string, RegExp][] = [
    [`adress = "127.0.0.1"`, /adress: unknown key, did you mean address\?/],
    [`[attestation]\nroot_ca.tdx = "x"`, /needs insecure_allow_external_trust_anchors = true/],
    [
      `[attestation]\ninsecure_allow_external_trust_anchors = true\nroot_ca.tdx = "/nowhere"`,
      /root_ca\.tdx cannot be read: \/nowhere/,
    ],
  ];
  await Promise.all(cases.map(async ([text, expected], i) => {
    const file = join(directory, `bad-${i}.toml`);
    await writeFile(file, text);
    const { code, stderr } = await run("node", ["--config", file, "--check-config"]).end;
    assert.equal(code, 2);
    assert.match(stderr, expected);
  }));
});
