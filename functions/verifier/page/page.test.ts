import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { pathToFileURL } from "node:url";
import type { Page, Request } from "playwright-core";
import { Hono } from "hono";
import { serveHttp } from "#adapters/http-server.ts";
import { serveHttps } from "#adapters/https-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { createTestCertificates } from "#adapters/test-certificates.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { reportData } from "#core/attestation/report-data.ts";
import { INTEL_TRUST_ANCHOR } from "#core/attestation/trust-anchor.ts";
import { encodeVerdict, type Verdict } from "#core/attestation/verdict.ts";
import { encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { collateralToJson } from "#core/tdx/collateral.ts";
import type { Agent } from "#guest/agent/agent.ts";
import { attestationRoute } from "#guest/agent/attestation-route.ts";
import { createHostApi } from "#host-daemon/host-api/app.ts";
import type { SimulatedTds } from "#host-daemon/host-api/simulated-td.ts";
import { buildVerifyPage } from "../../../scripts/lib/verify-page.ts";
import { noChromium, pageTest, useChromium } from "../../../tests/chromium.ts";
import { simulatedCvm } from "../../../tests/simulated-cvm.ts";
import { hasVectors, vectorBytes, vectorText } from "../../../tests/vectors.ts";
import { webCrypto } from "#core/crypto/crypto-provider.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { createVerifierApp } from "../app.ts";
import { parseVerificationRequest } from "../request.ts";

const cvm = simulatedCvm();
const attestation = toHex(encodeAttestation(cvm.attestation));
const directory = mkdtempSync(join(tmpdir(), "verify-page-"));
const file = (name: string) => join(directory, name);
let verifier: Listening | undefined;
let home: string;

before(async () => {
  if (noChromium) return;
  const html = await buildVerifyPage();
  writeFileSync(file("index.html"), html);
  writeFileSync(file("root.pem"), cvm.platform.rootCertificatePem);
  const app = createVerifierApp({
    now: () => new Date(),
    trustAnchors: [],
    collateralFor: async () => cvm.platform.collateral(new Date()),
    vendorDocumentsFor: () => Promise.resolve(undefined),
    crypto: webCrypto,
    endorsements: new EndorsementCache(),
    page: html,
    logVerdict: () => {},
    logError: () => {},
    metrics: noMetrics,
    version: { version: "0.1.0", rev: "unknown" },
  });
  verifier = await serveHttp(app.fetch, { host: "127.0.0.1", port: 0 });
  home = `http://127.0.0.1:${verifier.port}/`;
});
after(async () => {
  await verifier?.close(0);
  rmSync(directory, { recursive: true });
});
useChromium();

const saved = () => pathToFileURL(file("index.html")).href;

async function verdictOf(page: Page): Promise<{ text: string; verdict: Verdict }> {
  await page.getByRole("button", { name: "Verify", exact: true }).click();
  await page.locator("#verdict-title").waitFor();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download verdict" }).click(),
  ]);
  const text = await readFile(await download.path(), "utf8");
  return { text, verdict: JSON.parse(text) as Verdict };
}

const vectorPageTest: typeof pageTest = (name, body, options) => {
  if (hasVectors) pageTest(name, body, options);
};

vectorPageTest("a captured CVM is accepted, to the byte as Node does", async (page) => {
  await page.goto(saved());
  await page.getByLabel("Or paste what you have").fill(vectorText("dstack/quote-report.json"));
  await page.getByText("A version 4 TDX quote, with its event log").waitFor();
  const collateral = vectorText("intel/tdx_quote_outdated_collateral.json");
  writeFileSync(file("collateral.json"), collateral);
  await page.locator("#collateral-file").setInputFiles(file("collateral.json"));
  await page.getByText("Time and policy").click();
  await page.getByLabel("The verdict is for the time").fill("2026-03-01T00:00:00Z");
  await page.getByLabel("os-image").uncheck();
  await page.getByLabel("mr-config-id").uncheck();
  const { text } = await verdictOf(page);

  const { quote, event_log, vm_config } = JSON.parse(vectorText("dstack/quote-report.json"));
  const request = parseVerificationRequest(JSON.stringify({
    quote,
    event_log,
    vm_config,
    collateral: JSON.parse(collateral),
    time: "2026-03-01T00:00:00Z",
    policy: { require: ["event-log-replay", "launch-events"] },
  }));
  const now = request.time!;
  const here = await appraise({ ...request, now, trustAnchors: [INTEL_TRUST_ANCHOR] });
  assert.equal(here.outcome, "accepted");
  assert.equal(text, encodeVerdict(here));
  await page.getByRole("heading", { name: "Accepted" }).waitFor();
  assert.equal(await page.getByText("Simulated TEE").count(), 0);
  assert.equal(await page.locator("#network-summary").innerText(), "Nothing has left this tab");
});

pageTest(
  "a simulated root counts only when its name is ticked, and is unmissable",
  async (page) => {
    await page.goto(home);
    await page.getByLabel("Or paste what you have").fill(attestation);
    await page.locator("#root-file").setInputFiles(file("root.pem"));
    await page.getByRole("button", { name: "Verify", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "tick that you accept it" }).waitFor();
    await page.getByLabel(/I accept evidence of the simulated TEE “SIMULATED SGX Root CA/).check();
    const { verdict } = await verdictOf(page);
    assert.deepEqual([verdict.outcome, verdict.simulated], ["accepted", true]);
    await page.getByText("Simulated TEE", { exact: true }).waitFor();
    await page.locator("#result").getByText(
      "software played the TEE: nothing is proven about any hardware",
    ).waitFor();
    assert.match(await page.title(), /^SIMULATED: Accepted/);
    const asked = await page.locator("#network-list li").allTextContents();
    assert.equal(asked.length, 1, "one request, for collateral");
    assert.match(asked[0]!, /^POST http:\/\/127\.0\.0\.1:\d+\/v1\/collateral with \d+ bytes$/);
  },
);

pageTest("the simulated root's evidence is refused under Intel's", async (page) => {
  await page.goto(home);
  await page.getByLabel("Or paste what you have").fill(attestation);
  const { verdict } = await verdictOf(page);
  assert.equal(verdict.reason?.code, "certificate-untrusted");
  await page.getByRole("heading", { name: "Refused" }).waitFor();
  await page.getByText("Of refused evidence nothing is proven").waitFor();
});

/** An app's guest agent behind a name below .localhost, which is this machine to the browser. */
async function startAgent(answers: boolean): Promise<Listening> {
  const agent = {
    attest: (challenge: Uint8Array) =>
      Promise.resolve(simulatedCvm({ reportData: challenge }).attestation),
  } as unknown as Agent;
  const app = answers ? attestationRoute(agent) : new Hono();
  const { server } = await createTestCertificates();
  return await serveHttps(app.fetch, { host: "127.0.0.1", port: 0, ...server });
}

/** What dstackd serves of a simulated platform. */
async function startPccs(): Promise<Listening> {
  const app = createHostApi({
    version: "0.1.0",
    findByToken: () => undefined,
    notify: () => Promise.resolve(),
    simulatedTee: { tds: undefined as unknown as SimulatedTds, platform: cvm.platform },
    now: () => new Date(),
    logError: () => {},
  });
  return await serveHttp(app.fetch, { host: "127.0.0.1", port: 0 });
}

async function trustSimulated(page: Page): Promise<void> {
  await page.locator("#root-file").setInputFiles(file("root.pem"));
  await page.getByLabel(/I accept evidence of the simulated TEE/).check();
}

const insecure = { ignoreHTTPSErrors: true };

pageTest("an app is asked with a fresh challenge, and told from another one", async (page) => {
  await using cleanup = new AsyncDisposableStack();
  const agent = cleanup.adopt(await startAgent(true), (server) => server.close(0));
  const pccs = cleanup.adopt(await startPccs(), (server) => server.close(0));
  await page.goto(saved());
  await trustSimulated(page);
  await page.getByLabel("URL of the PCCS").fill(`http://127.0.0.1:${pccs.port}`);
  await page.getByLabel("Ask a PCCS").check();
  const ask = async (id: string) => {
    await page.getByLabel("Ask a running app").fill(`https://${id}.dstack.localhost:${agent.port}`);
    await page.getByRole("button", { name: "Challenge it" }).click();
    await page.getByText("made for this page's challenge").waitFor();
    return (await verdictOf(page)).verdict;
  };
  const own = await ask(toHex(cvm.appId));
  assert.equal(own.outcome, "accepted");
  const freshness = own.checks.find(({ id }) => id === "report-data");
  assert.equal(freshness?.result, "passed");
  await page.getByRole("heading", { name: "Accepted" }).waitFor();

  const foreign = await ask("00".repeat(20));
  assert.equal(foreign.outcome, "accepted");
  assert.notEqual(foreign.reportData, own.reportData, "each challenge is new");
  await page.getByRole("heading", { name: "Genuine, but another app" }).waitFor();
}, insecure);

pageTest("where the browser may not ask, a command does, for the same challenge", async (page) => {
  await using cleanup = new AsyncDisposableStack();
  const mute = cleanup.adopt(await startAgent(false), (server) => server.close(0));
  await page.goto(home);
  await trustSimulated(page);
  await page.getByLabel("Ask a running app")
    .fill(`https://${toHex(cvm.appId)}.dstack.localhost:${mute.port}`);
  await page.getByLabel("Ask a running app").press("Enter");
  await page.locator("#by-hand").waitFor();
  const command = await page.locator("#by-hand-command").innerText();
  assert.match(command, /^curl -k https:\/\/[0-9a-f]{40}-8090\.dstack\.localhost:\d+\/v1\/attest/);
  const [, nonce] = /"nonce":"([0-9a-f]{64})"/.exec(command)!;

  const paste = page.getByLabel("Or paste what you have");
  await paste.fill(JSON.stringify({ attestation }));
  assert.equal((await verdictOf(page)).verdict.reason?.code, "report-data-mismatch");
  const bound = reportData("app-data", fromHex(nonce!));
  const answer = toHex(encodeAttestation(simulatedCvm({ reportData: bound }).attestation));
  await paste.fill(JSON.stringify({ attestation: answer }));
  assert.equal((await verdictOf(page)).verdict.outcome, "accepted");
}, { ...insecure, expectsErrors: true });

pageTest("dropped files are told apart by what they hold", async (page) => {
  const compose = JSON.stringify({ manifest_version: 2, docker_compose_file: "services: {}" });
  await page.goto(saved());
  const transfer = await page.evaluateHandle((files) => {
    const data = new DataTransfer();
    for (const [name, text] of files) data.items.add(new File([text], name));
    return data;
  }, [
    ["a.txt", JSON.stringify({ attestation })],
    ["b.txt", JSON.stringify(collateralToJson(cvm.platform.collateral(new Date())))],
    ["c.txt", compose],
    ["d.txt", cvm.platform.rootCertificatePem],
  ] as [string, string][]);
  await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
  await page.getByText(/was loaded as root of trust/).waitFor();
  const hash = createHash("sha256").update(compose).digest("hex");
  assert.equal(await page.getByLabel("Compose hash", { exact: true }).inputValue(), hash);
  await page.getByLabel(/I accept evidence of the simulated TEE/).check();
  const { verdict } = await verdictOf(page);
  assert.equal(verdict.reason?.code, "compose-hash-mismatch");
});

pageTest("what a pasted request would relax is offered, not taken", async (page) => {
  await page.goto(home);
  await trustSimulated(page);
  const request = {
    attestation,
    reference: { compose_hash: toHex(cvm.composeHash) },
    policy: { require: [], allowed_tcb_statuses: ["UpToDate", "OutOfDate"] },
  };
  await page.getByLabel("Or paste what you have").fill(JSON.stringify(request));
  await page.getByText("also set reference, policy").waitFor();
  assert.equal(await page.getByLabel("os-image").isChecked(), true);
  await page.getByRole("button", { name: "Use them" }).click();
  assert.equal(await page.getByLabel("os-image").isChecked(), false);
  assert.equal(await page.getByLabel("OutOfDate", { exact: true }).isChecked(), true);
  assert.equal((await verdictOf(page)).verdict.outcome, "accepted");
  await page.getByText("It runs the compose file you expect, to the byte.").waitFor();
});

pageTest("a verdict is marked stale once the form says something else", async (page) => {
  await page.goto(home);
  await trustSimulated(page);
  await page.getByLabel("Or paste what you have").fill(attestation);
  await verdictOf(page);
  assert.equal(await page.locator("#result.stale").count(), 0);
  await page.getByLabel("OS image digest").fill("00");
  assert.equal(await page.locator("#result.stale").count(), 1);
  await page.getByRole("button", { name: "Verify", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: "1 bytes, expected 32" }).waitFor();
  await page.getByLabel("OS image digest").fill(toHex(cvm.osImageHash));
  await verdictOf(page);
  assert.equal(await page.locator("#result.stale").count(), 0);
});

pageTest("once loaded it works offline, and asks nobody anything", async (page) => {
  writeFileSync(
    file("simulated.json"),
    JSON.stringify(collateralToJson(cvm.platform.collateral(new Date()))),
  );
  for (const url of [home, saved()]) {
    await page.context().setOffline(false);
    await page.goto(url, { waitUntil: "networkidle" });
    const requests: string[] = [];
    const record = (request: Request) => requests.push(request.url());
    page.on("request", record);
    await page.context().setOffline(true);
    await trustSimulated(page);
    await page.getByLabel("Or paste what you have").fill(attestation);
    await page.locator("#collateral-file").setInputFiles(file("simulated.json"));
    assert.equal((await verdictOf(page)).verdict.outcome, "accepted");
    for (const summary of await page.locator("#result summary").all()) await summary.click();
    assert.deepEqual(requests.filter((asked) => !asked.startsWith("blob:")), [], url);
    assert.equal(await page.locator("#network-summary").innerText(), "Nothing has left this tab");
    page.off("request", record);
  }
});

pageTest("each check opens by keyboard and shows what was compared", async (page) => {
  await page.goto(home);
  await trustSimulated(page);
  await page.getByLabel("Or paste what you have").fill(attestation);
  const expected = "11".repeat(32);
  await page.getByLabel("Compose hash", { exact: true }).fill(expected);
  const { verdict } = await verdictOf(page);
  const status = page.locator("#announcement");
  assert.equal(await status.getAttribute("aria-live"), "polite");
  assert.match(await status.innerText(), /^SIMULATED: Refused\. Do not trust this: /);
  assert.equal(await page.locator("[data-check]").count(), verdict.checks.length);
  for (const { id } of verdict.checks) {
    const check = page.locator(`[data-check="${id}"]`);
    const wasOpen = await check.evaluate((element) => (element as HTMLDetailsElement).open);
    assert.equal(wasOpen, id === "compose-hash", "only the reason is open from the start");
    await check.locator("summary").focus();
    if (!wasOpen) await page.keyboard.press("Enter");
    assert.match(await check.locator("p").first().innerText(), /[\w)]\.$/, id);
  }
  const shown = async (id: string) =>
    await page.getByRole("region", { name: `What ${id} looked at` }).locator("td").allInnerTexts();
  assert.deepEqual(await shown("compose-hash"), [toHex(cvm.composeHash), expected]);
  const { measurements } = verdict;
  const registers = ["mr_td", "rtmr0", "rtmr1", "rtmr2"].map((name) => measurements![name]);
  assert.deepEqual((await shown("os-image")).slice(-4), registers);
  assert.deepEqual(await shown("tcb-advisories"), ["none", "none"]);
  await page.getByLabel("Compose hash", { exact: true }).fill("");
  assert.match(await status.innerText(), /^The form has changed/);
});

vectorPageTest(
  "evidence of an SEV-SNP guest and of a Nitro enclave is judged in the tab",
  async (page) => {
    await page.goto(saved());
    const snp = vectorText("dstack/sev-snp-attestation.json");
    await page.getByLabel("Or paste what you have").fill(snp);
    await page.getByText("An AMD SEV-SNP attestation").waitFor();
    await page.getByText("Time and policy").click();
    await page.getByLabel("The verdict is for the time").fill("2026-08-01T00:00:00Z");
    await page.getByLabel("OutOfDate", { exact: true }).check();
    assert.equal((await verdictOf(page)).verdict.outcome, "accepted");
    await page.getByRole("heading", { name: "Accepted" }).waitFor();

    const bytes = [...vectorBytes("dstack/nitro_attestation.bin")];
    const transfer = await page.evaluateHandle((data) => {
      const dropped = new DataTransfer();
      dropped.items.add(new File([Uint8Array.from(data)], "evidence"));
      return dropped;
    }, bytes);
    await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
    await page.getByText("An AWS Nitro enclave's attestation").waitFor();
    await page.getByLabel("The verdict is for the time").fill("2025-12-25T16:04:18Z");
    const { verdict } = await verdictOf(page);
    assert.equal(verdict.tee, "dstack-nitro-enclave");
    const chain = verdict.checks.find(({ id }) => id === "signature-chain");
    assert.equal(chain?.result, "passed");
    assert.equal(await page.locator("#network-summary").innerText(), "Nothing has left this tab");
  },
);

pageTest("a tab that is cut off cannot ask anybody", async (page) => {
  await page.goto(home);
  await trustSimulated(page);
  await page.getByLabel("Or paste what you have").fill(attestation);
  await page.getByRole("button", { name: "Cut this tab off the network" }).click();
  await page.getByRole("button", { name: "Verify", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: "got no answer" }).waitFor();
}, { expectsErrors: true });

pageTest("script and requests that are not the page's own are refused", async (page) => {
  await page.goto(home);
  const refused = await page.evaluate(async () => {
    const reports: string[] = [];
    document.addEventListener("securitypolicyviolation", (event) => {
      reports.push(event.effectiveDirective);
    });
    const script = document.createElement("script");
    script.append("window.intruder = true");
    try {
      document.body.append(script);
    } catch { /* trusted types */ }
    document.body.append(Object.assign(new Image(), { src: "https://elsewhere.test/x.png" }));
    await fetch("http://elsewhere.test/").catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { reports, intruder: "intruder" in window };
  });
  assert.equal(refused.intruder, false);
  assert.ok(refused.reports.includes("img-src"), String(refused.reports));
  assert.ok(refused.reports.includes("connect-src"), String(refused.reports));
}, { expectsErrors: true });

pageTest("every control has a name, and the verdict gets the focus", async (page) => {
  await page.goto(home);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLInputElement>("input, textarea, button")]
      .filter((control) =>
        (control.labels?.length ?? 0) === 0 && !control.ariaLabel && !control.textContent?.trim()
      ).map(({ id }) => id)
  );
  assert.deepEqual(nameless, []);
  await trustSimulated(page);
  await page.getByLabel("Or paste what you have").fill(attestation);
  await page.getByLabel("Ask a running app").focus();
  const passed = new Set<string>();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    const id = await page.evaluate(() => document.activeElement?.id ?? "");
    if (id === "verify") break;
    passed.add(id);
  }
  for (const id of ["challenge", "paste", "evidence-file", "compose-hash", "simulated"]) {
    assert.ok(passed.has(id), `Tab reaches ${id}`);
  }
  await page.keyboard.press("Enter");
  await page.locator("#verdict-title").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), "verdict-title");
});

pageTest("without cryptography the page says what to do, and decides nothing", async (page) => {
  await page.addInitScript(() => Object.defineProperty(crypto, "subtle", { value: undefined }));
  await page.goto(home);
  await page.getByRole("alert").filter({ hasText: "Open it over https or from localhost" })
    .waitFor();
  assert.equal(
    await page.getByRole("button", { name: "Verify", exact: true }).isDisabled(),
    true,
  );
});
