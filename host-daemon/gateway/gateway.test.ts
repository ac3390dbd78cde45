import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import process from "node:process";
import { before, describe, test } from "node:test";

const TOOLS = ["haproxy", "ip", "wg", "wireguard-go", "unshare", "nsenter"];
const missing = TOOLS.filter((tool) => {
  try {
    execFileSync("sh", ["-c", `PATH=$PATH:/usr/sbin command -v ${tool}`], { stdio: "pipe" });
    return false;
  } catch {
    return true;
  }
});
const skip = missing.length > 0
  ? `skipped: ${missing.join(", ")}`
  : process.getuid?.() !== 0
  ? "skipped: root"
  : false;

describe("gateway program, tunnel and ingress", { skip }, () => {
  // deno-lint-ignore no-explicit-any -- the fixture's report
  let seen: any;

  before(() => {
    const dir = mkdtempSync("/tmp/gw-program-");
    try {
      const script = new URL("./gateway-in-namespace.fixture.ts", import.meta.url).pathname;
      const runtime = "Deno" in globalThis
        ? [process.execPath, "run", "-A", "--no-check"]
        : [process.execPath];
      const argv = ["--net", "--mount", ...runtime, script, dir];
      seen = JSON.parse(
        execFileSync("unshare", argv, { encoding: "utf8", timeout: 120_000 }),
      );
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
    assert.equal(seen.failure, undefined, JSON.stringify(seen, null, 1));
  });

  test("registration needs a certificate of the KMS", () => {
    assert.match(seen.withoutCertificate, /client certificate/);
    assert.match(seen.otherCa, /not trusted/);
    assert.equal(seen.info, "apps.localhost");
  });

  test("a CVM that registered and dialled is reached by app id within seconds", () => {
    assert.ok(seen.secondsToAppRoute < 10, `${seen.secondsToAppRoute} s`);
    assert.equal(seen.byInstance, "http of cvm0");
    assert.deepEqual(seen.byApp, ["http of cvm0", "http of cvm1"]);
    assert.equal(seen.passthrough, "tls of cvm1 (own certificate)");
  });

  test("an unknown app is refused, gateway.<base> answers", () => {
    assert.notEqual(seen.unknown, "accepted");
    assert.equal(seen.gatewayHealth, true);
  });

  test("a killed control plane interrupts nothing, and its successor adopts", () => {
    assert.equal(seen.withoutControlPlane, "http of cvm0");
    assert.equal(seen.adopted, true);
    assert.match(seen.afterAdoption, /^http of cvm[01]$/);
  });

  test("a killed HAProxy and a deleted tunnel come back by themselves", () => {
    assert.ok(seen.secondsToRecover < 3, `${seen.secondsToRecover} s`);
    assert.ok(seen.secondsToNewTunnel < 20, `${seen.secondsToNewTunnel} s`);
  });

  test("an app with one dead instance is served by the other", () => {
    assert.deepEqual(seen.byAppWithOneDead, ["http of cvm1"]);
  });

  test("SIGTERM leaves no process, interface or socket", () => {
    assert.equal(seen.exitCode, 0);
    assert.deepEqual(seen.leftSockets, []);
    assert.deepEqual(seen.leftInterfaces, ["lo"]);
    assert.deepEqual(seen.leftProcesses, []);
  });
});
