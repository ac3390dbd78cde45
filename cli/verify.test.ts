import assert from "node:assert/strict";
import { test } from "node:test";
import { appraise } from "#core/attestation/appraise.ts";
import { QUOTE_POLICY } from "#core/attestation/policy.ts";
import { reportData } from "#core/attestation/report-data.ts";
import { INTEL_TRUST_ANCHOR } from "#core/attestation/trust-anchor.ts";
import { encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { encodePem } from "#core/encoding/pem.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { collateralToJson, parseCollateralJson } from "#core/tdx/collateral.ts";
import { INTEL_SGX_ROOT_CA } from "#core/tdx/intel-root.ts";
import { parseX509Certificate } from "#core/x509/x509-certificate.ts";
import { MeasuredImage } from "#core/measurement/measure-image.ts";
import { parseVmConfig } from "#core/measurement/vm-config.ts";
import { fakeApi } from "#host-daemon/api/fake-api.fixture.ts";
import { IMAGE_FILES, imageFolderFiles, imageHashOf } from "../tests/fixtures/image-folder.ts";
import { simulatedCvm, type SimulatedCvmSpec } from "../tests/simulated-cvm.ts";
import { vectorBytes, vectorTest, vectorText } from "../tests/vectors.ts";
import { fetchOf, terminal, type TerminalOptions } from "./terminal.fixture.ts";

const NOW = new Date("2026-06-01T12:00:00Z");

const quoteFiles = () => ({
  "tdx.bin": vectorBytes("intel/tdx_quote"),
  "tdx.hex": `0x${toHex(vectorBytes("intel/tdx_quote"))}\n`,
  "tdx.json": vectorText("intel/tdx_quote_collateral.json"),
  "sgx.bin": vectorBytes("intel/sgx_quote"),
  "sgx.json": vectorText("intel/sgx_quote_collateral.json"),
  "other.json": vectorText("intel/tdx_quote_outdated_collateral.json"),
});
const quote = (name: string, collateral = name, time = "2025-07-01T00:00:00Z") => [
  "verify",
  "quote",
  "--quote",
  `${name}.bin`,
  "--collateral",
  `${collateral}.json`,
  "--time",
  time,
];

vectorTest("verify quote accepts a captured TDX quote at its time, exit 0", async () => {
  const { dstack } = terminal({ files: quoteFiles() });
  const human = await dstack(...quote("tdx"));
  assert.deepEqual([human.code, human.stderr], [0, ""]);
  assert.match(human.stdout, /✓ signature-chain +The quote is signed under intel-sgx-root-ca\n/);
  assert.match(human.stdout, /ACCEPTED: Genuine Intel TDX hardware signed this quote\./);
  assert.doesNotMatch(human.stdout, /SIMULATED/);

  const expected = await appraise({
    attestation: { quote: vectorBytes("intel/tdx_quote") },
    collateral: parseCollateralJson(vectorText("intel/tdx_quote_collateral.json")),
    trustAnchors: [INTEL_TRUST_ANCHOR],
    policy: QUOTE_POLICY,
    now: new Date("2025-07-01T00:00:00Z"),
  });
  const json = await dstack(...quote("tdx"), "--json");
  assert.equal(json.stdout, `${encodeVerdict(expected)}\n`);
  const hex = await dstack(...quote("tdx").with(3, "tdx.hex"), "--json");
  assert.equal(hex.stdout, json.stdout);
});

vectorTest("verify quote refuses with exit 3 and the reason's code", async () => {
  const { dstack } = terminal({ files: quoteFiles() });
  const cases: [string[], string][] = [
    [quote("tdx", "tdx", "2026-03-01T00:00:00Z"), "crl-expired"],
    [quote("tdx", "other", "2026-03-01T00:00:00Z"), "platform-mismatch"],
    [quote("sgx"), "tcb-status-not-allowed"],
    [
      [...quote("sgx"), "--allow-tcb", "UpToDate,ConfigurationAndSWHardeningNeeded"],
      "advisory-not-allowed",
    ],
  ];
  for (const [argv, reason] of cases) {
    const { code, stdout, stderr } = await dstack(...argv, "--json");
    assert.equal((JSON.parse(stdout) as Verdict).reason?.code, reason);
    assert.deepEqual([code, stderr], [3, ""]);
    const human = await dstack(...argv);
    assert.match(human.stdout, new RegExp(`REFUSED \\(${reason}\\): `));
  }
});

vectorTest("verify quote accepts what its user allows by name", async () => {
  const { dstack } = terminal({ files: quoteFiles() });
  const allowed = ["--allow-tcb", "ConfigurationAndSWHardeningNeeded", "--allow-advisory"];
  const named = [...quote("sgx"), ...allowed, "INTEL-SA-00289, INTEL-SA-00615"];
  assert.equal((await dstack(...named)).code, 0);
  assert.equal((await dstack(...quote("sgx"), ...allowed, "any")).code, 0);
});

vectorTest(
  "what cannot be read or makes no sense is exit 2, neither accepted nor refused",
  async () => {
    const files = { ...quoteFiles(), "short.bin": Uint8Array.of(4, 0, 2) };
    const { dstack } = terminal({ files });
    const cases: [string[], RegExp][] = [
      [quote("none"), /Cannot read none\.bin: ENOENT/],
      [quote("short", "tdx"), /Cannot parse/],
      [quote("tdx", "none"), /Cannot read none\.json/],
      [quote("tdx").with(5, "tdx.bin"), /Cannot parse collateral/],
      [quote("tdx", "tdx", "yesterday"), /--time: 'yesterday' is not RFC 3339/],
      [[...quote("tdx"), "--allow-tcb", "Fine"], /no TCB status 'Fine'; there are UpToDate/],
      [[...quote("tdx"), "--root", "tdx.json"], /Cannot read trust anchor tdx\.json/],
      [["verify", "quote"], /required option '--quote <file>'/],
      [["verify", "attestation", "tdx.bin"], /unknown first byte 0x04/],
      [["verify", "app", "here"], /'here' is neither a URL nor an id/],
      [["verify", "app", "http://x.test"], /not the https URL of an app/],
    ];
    for (const [argv, message] of cases) {
      const { code, stdout, stderr } = await dstack(...argv);
      assert.match(stderr, message);
      assert.deepEqual([code, stdout], [2, ""], argv.join(" "));
    }
  },
);

/** An app behind a gateway, on a simulated platform with its PCCS; its agent answers as `spec` says. */
function appStack(spec: SimulatedCvmSpec = {}, options: TerminalOptions = {}) {
  const cvm = simulatedCvm(spec);
  const asked: string[] = [];
  const trusted: (string | undefined)[] = [];
  const agent: FetchLike = async (url, { body }) => {
    asked.push(url);
    const { nonce } = JSON.parse(String(body)) as { nonce: string };
    assert.equal(nonce, "5a".repeat(32), "the nonce of this run");
    const bound = reportData("app-data", new Uint8Array(32).fill(0x5a));
    const { attestation } = simulatedCvm({ reportData: bound, ...spec });
    return Response.json({ attestation: toHex(encodeAttestation(attestation)) });
  };
  const pccs: FetchLike = async (url) => {
    const { pathname, search } = new URL(url);
    const reply = cvm.platform.pccs(pathname, search.slice(1), NOW);
    if (reply === undefined) return new Response(null, { status: 404 });
    return new Response(reply.body.slice(), { status: reply.status, headers: reply.headers });
  };
  const { dstack } = terminal({
    now: NOW,
    fetch: pccs,
    tlsFetch: (caPem) => {
      trusted.push(caPem);
      return agent;
    },
    ...options,
    files: {
      "root.pem": cvm.platform.rootCertificatePem,
      "gateway-ca.pem": "the gateway's CA",
      "kms.pem": encodePem("CERTIFICATE", INTEL_SGX_ROOT_CA),
      "attestation.bin": encodeAttestation(cvm.attestation),
      "collateral.json": JSON.stringify(collateralToJson(cvm.platform.collateral(NOW))),
      "app-compose.json": "compose",
      "image/digest.txt": `${toHex(cvm.osImageHash)}\n`,
      ...options.files,
    },
  });
  const simulated = ["--root", "root.pem", "--simulated", "--pccs", "http://pccs.test"];
  const url = `https://${toHex(cvm.appId)}.apps.test:8443/`;
  const verify = (...more: string[]) => dstack("verify", "app", url, ...simulated, ...more);
  return { cvm, dstack, verify, simulated, asked, trusted };
}

test("verify app challenges the agent and says SIMULATED of a simulated TEE", async () => {
  const { cvm, verify, asked, trusted } = appStack();
  const { code, stdout, stderr } = await verify(
    "--ca",
    "gateway-ca.pem",
    "--compose",
    "app-compose.json",
    "--image",
    "image/",
  );
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(asked, [`https://${toHex(cvm.appId)}-8090.apps.test:8443/v1/attestation`]);
  assert.deepEqual(trusted, ["the gateway's CA"]);
  assert.match(stdout, /✓ report-data +The quote binds the challenge\n/);
  assert.match(stdout, /✓ compose-hash +/);
  assert.match(stdout, /\? key-provider .* \(not checked\)\n/);
  assert.match(stdout, /SIMULATED TEE: this proves nothing about the hardware\.\nACCEPTED: /);
});

test("a simulated root is trusted only by --simulated", async () => {
  const { dstack, cvm } = appStack();
  const url = `https://${toHex(cvm.appId)}.apps.test`;
  const refused = await dstack(
    "verify",
    "app",
    url,
    "--root",
    "root.pem",
    "--pccs",
    "http://pccs.test",
  );
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /root\.pem is the root of a simulated TEE; say --simulated/);
  const intel = await dstack("verify", "app", url, "--pccs", "http://pccs.test", "--json");
  assert.equal(intel.code, 3);
  assert.equal((JSON.parse(intel.stdout) as Verdict).reason?.code, "certificate-untrusted");
});

for (
  const [what, spec, argv, reason] of [
    ["another compose", {}, ["--compose-hash", "00".repeat(32)], "compose-hash-mismatch"],
    ["another image", {}, ["--image-hash", "00".repeat(32)], "os-image-not-allowed"],
    ["keys of another KMS", {}, ["--kms-ca", "kms.pem"], "key-provider-mismatch"],
    ["a recording", { reportData: new Uint8Array(64) }, [], "report-data-mismatch"],
    [
      "a TD in debug mode",
      { tdAttributes: Uint8Array.of(1, 0, 0, 0x10, 0, 0, 0, 0) },
      [],
      "debug-enabled",
    ],
  ] as [string, SimulatedCvmSpec, string[], string][]
) {
  test(`verify app refuses ${what}, exit 3`, async () => {
    const { code, stdout } = await appStack(spec).verify(...argv, "--json");
    assert.equal((JSON.parse(stdout) as Verdict).reason?.code, reason);
    assert.equal(code, 3);
  });
}

test("verify app accepts the KMS its keys come from", async () => {
  const id = toHex(parseX509Certificate(INTEL_SGX_ROOT_CA).spki);
  const { verify } = appStack({ keyProvider: { name: "kms", id } });
  const { code, stdout } = await verify("--kms-ca", "kms.pem", "--json");
  const verdict = JSON.parse(stdout) as Verdict;
  assert.equal(verdict.checks.find(({ id }) => id === "key-provider")?.result, "passed");
  assert.equal(code, 0);
});

test("verify app compares the id the URL names with the one proven", async () => {
  const { cvm, dstack, simulated } = appStack();
  const resultsFor = async (id: string, ...argv: string[]) => {
    const { code, stdout } = await dstack(
      "verify",
      "app",
      `https://${id}.apps.test`,
      ...simulated,
      ...argv,
      "--json",
    );
    const { checks, reason } = JSON.parse(stdout) as Verdict;
    const result = (wanted: string) => checks.find(({ id }) => id === wanted)?.result;
    return [code, reason?.code, result("app-id"), result("instance-id")];
  };
  const app = toHex(cvm.appId);
  const instance = toHex(cvm.instanceId);
  const other = "00".repeat(20);
  assert.deepEqual(await resultsFor(app), [0, undefined, "passed", "not-checked"]);
  assert.deepEqual(await resultsFor(instance), [0, undefined, "not-checked", "passed"]);
  assert.deepEqual(await resultsFor(instance, "--app-id", app), [
    0,
    undefined,
    "passed",
    "passed",
  ]);
  assert.deepEqual((await resultsFor(other)).slice(0, 3), [3, "app-id-mismatch", "failed"]);
  assert.deepEqual((await resultsFor(app, "--instance-id", other)).slice(0, 2), [
    3,
    "instance-id-mismatch",
  ]);
});

test("verify app finds an app id through dstackd's gateway", async () => {
  const api = await fakeApi({ gateway: { base_domain: "apps.test", port: 8443 } });
  using _ = api.host;
  const stack = appStack();
  const pccs = stack.cvm.platform;
  const dstackd = fetchOf(api.app);
  const { dstack, asked } = appStack({}, {
    fetch: (url, init) => {
      const { host, pathname, search } = new URL(url);
      if (host !== "pccs.test") return dstackd(url, init);
      const reply = pccs.pccs(pathname, search.slice(1), NOW)!;
      return Promise.resolve(new Response(reply.body.slice(), { headers: reply.headers }));
    },
  });
  const id = toHex(stack.cvm.appId);
  const { code } = await dstack("verify", "app", `0x${id.toUpperCase()}`, ...stack.simulated);
  assert.deepEqual(asked, [`https://${id}-8090.apps.test:8443/v1/attestation`]);
  assert.equal(code, 0);
});

test("verify attestation judges a saved container, with collateral from file or PCCS", async () => {
  const { dstack, simulated } = appStack();
  const argv = ["verify", "attestation", "attestation.bin", ...simulated];
  const fetched = await dstack(...argv, "--json");
  const saved = await dstack(...argv, "--collateral", "collateral.json", "--json");
  assert.equal(fetched.code, 0);
  assert.equal(saved.stdout, fetched.stdout);
  const verdict = JSON.parse(saved.stdout) as Verdict;
  assert.equal(verdict.checks.find(({ id }) => id === "report-data")?.result, "not-checked");
});

test("--require adds checks that must pass", async () => {
  const ours = appStack();
  const digest = new Uint8Array(48).fill(1);
  const othersTables = appStack({
    acpiDigests: { loader: digest, rsdp: digest, tables: digest },
  });
  const cases: [ReturnType<typeof appStack>, string[], number, string | undefined][] = [
    [ours, ["--require", "acpi-tables, revocation"], 0, undefined],
    [ours, ["--require", "app-id"], 3, "required-check-not-run"],
    [othersTables, [], 0, undefined],
    [othersTables, ["--require", "acpi-tables"], 3, "acpi-tables-mismatch"],
  ];
  for (const [{ dstack, simulated }, options, expected, reason] of cases) {
    const argv = ["verify", "attestation", "attestation.bin", ...simulated, ...options, "--json"];
    const { code, stdout } = await dstack(...argv);
    assert.deepEqual([code, (JSON.parse(stdout) as Verdict).reason?.code], [expected, reason]);
  }
  for (const name of ["acpi", "policy", ""]) {
    const { code, stderr } = await ours.dstack("verify", "attestation", "x", "--require", name);
    assert.equal(code, 2);
    assert.match(stderr, /--require: no check '.*'; there are evidence-format, .*acpi-tables/);
  }
});

vectorTest("verify quote takes --require as well", async () => {
  const { dstack } = terminal({ files: quoteFiles() });
  const codeOf = async (checks: string) =>
    (await dstack(...quote("tdx"), "--require", checks)).code;
  assert.equal(await codeOf("revocation"), 0);
  assert.equal(await codeOf("event-log-replay"), 3);
});

vectorTest("verify attestation reads dstack's JSON forms", async () => {
  const files = {
    "report.json": vectorText("dstack/quote-report.json"),
    "lite.json": vectorText("dstack/tdx-lite-attestation.json"),
    "bare.json": '{"quote":"0400"}',
    "c.json": vectorText("intel/tdx_quote_outdated_collateral.json"),
  };
  const { dstack } = terminal({ files });
  const judged = async (file: string) => {
    const argv = ["verify", "attestation", file, "--collateral", "c.json", "--json", "--time"];
    const { code, stdout } = await dstack(...argv, "2026-03-01T00:00:00Z");
    const { reason, checks } = JSON.parse(stdout) as Verdict;
    const passed = checks.filter(({ result }) => result === "passed").map(({ id }) => id);
    return { code, reason: reason?.code, passed };
  };
  // Q1 and Q2 of attestation.md 9.1: the one lacks its image, the other's machine came later.
  const report = await judged("report.json");
  assert.deepEqual([report.code, report.reason], [3, "mr-config-id-missing"]);
  assert.ok(report.passed.includes("signature-chain"));
  assert.ok(report.passed.includes("event-log-replay"));
  const lite = await judged("lite.json");
  assert.deepEqual([lite.code, lite.reason], [3, "certificate-not-yet-valid"]);
  assert.ok(lite.passed.includes("os-image"));
  const { code, stderr } = await dstack("verify", "attestation", "bare.json");
  assert.equal(code, 2);
  assert.match(stderr, /bare\.json is a quote by itself: use dstack verify quote/);
});

vectorTest("verify attestation judges an enclave and an SEV-SNP guest", async () => {
  const { dstack } = terminal({
    files: {
      "nitro.bin": vectorBytes("dstack/nitro_attestation.bin"),
      "snp.bin": vectorBytes("dstack/sev_snp_attestation.bin"),
      "amd.pem": vectorText("dstack/sev_snp_ask.pem") + vectorText("dstack/sev_snp_vcek.pem"),
    },
  });
  const verify = (file: string, time: string, ...more: string[]) =>
    dstack("verify", "attestation", file, "--time", time, ...more);
  const enclave = await verify("nitro.bin", "2025-12-25T16:04:18Z");
  assert.equal(enclave.code, 0, enclave.stderr);
  assert.match(enclave.stdout, /✓ os-image +PCR0 to PCR2 are those/);
  assert.equal((await verify("nitro.bin", "2025-12-25T18:04:18Z")).code, 3);
  // Its configuration is of an older form, which binds no image.
  const guest = await verify(
    "snp.bin",
    "2026-08-01T00:00:00Z",
    "--vendor-certs",
    "amd.pem",
    "--allow-tcb",
    "OutOfDate",
    "--json",
  );
  assert.equal(guest.code, 3);
  const { checks, reason } = JSON.parse(guest.stdout) as Verdict;
  assert.equal(reason!.code, "os-image-document-malformed");
  assert.equal(checks.find(({ id }) => id === "signature-chain")!.result, "passed");
});

test("a PCCS or an app that does not answer is exit 1, not a refusal", async () => {
  const silent: FetchLike = () => Promise.reject(new Error("nobody there"));
  const noPccs = await appStack({}, { fetch: silent }).verify();
  assert.equal(noPccs.code, 1);
  assert.match(noPccs.stderr, /The PCCS cannot be reached at http:\/\/pccs\.test/);
  const noApp = await appStack({}, { tlsFetch: () => silent }).verify();
  assert.equal(noApp.code, 1);
  const broken: FetchLike = async () => new Response("<html>", { status: 502 });
  const badGateway = await appStack({}, { tlsFetch: () => broken }).verify();
  assert.equal(badGateway.code, 1);
  assert.match(badGateway.stderr, /answered 502: <html>/);
});

test("a CVM of the legacy variant is judged with its image's folder", async () => {
  const image = await imageFolderFiles();
  const imageHash = toHex(imageHashOf(image));
  const config = { os_image_hash: imageHash, cpu_count: 2, memory_size: 2 ** 30 };
  const registers = await new MeasuredImage(IMAGE_FILES).measureVm(
    parseVmConfig(JSON.stringify(config)),
  );
  const legacy = { ...config, host_share_mode: "", qemu_version: null, tdx_measurement: null };
  const spec = { registers, config: { ...legacy, tdx_attestation_variant: "legacy" } };
  const files = Object.fromEntries([...image].map(([name, bytes]) => [`img/${name}`, bytes]));
  const { dstack, simulated } = appStack(spec, {
    files: { ...files, "img/digest.txt": `${imageHash}\n` },
  });
  const argv = ["verify", "attestation", "attestation.bin", ...simulated];
  const alone = await dstack(...argv);
  assert.equal(alone.code, 3);
  assert.match(alone.stdout, /REFUSED \(required-check-not-run\).*os-image/);
  const proven = await dstack(...argv, "--image", "img/");
  assert.deepEqual([proven.code, proven.stderr], [0, ""]);
  assert.match(proven.stdout, new RegExp(`✓ os-image .*${imageHash}`));
  const other = await dstack(...argv, "--image-hash", "00".repeat(32));
  assert.equal(other.code, 3);
});
