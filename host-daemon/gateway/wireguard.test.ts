import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { AppError } from "#core/errors/app-error.ts";
import { parseHandshakes, parseWireguardKey, wireguardConfig } from "./wireguard-config.ts";
import { generateWireguardKeyPair, wireguardPublicKey } from "./wireguard.ts";

const KEY = "mBwm1ZhE9cN5gaJcDrTJ4Q1X2wg6nI3kU0fV4mM8x14=";

describe("wireguard configuration", () => {
  test("the file with no peer and with two peers", () => {
    const node = { privateKey: KEY, listenPort: 51820 };
    const head = `[Interface]\nPrivateKey = ${KEY}\nListenPort = 51820\n`;
    assert.equal(wireguardConfig(node, []), head);
    const peers = ["10.0.0.2", "10.0.0.3"].map((address) => ({ publicKey: KEY, address }));
    const peer = (address: string) =>
      `\n[Peer]\nPublicKey = ${KEY}\nAllowedIPs = ${address}/32\nPersistentKeepalive = 25\n`;
    assert.equal(wireguardConfig(node, peers), head + peer("10.0.0.2") + peer("10.0.0.3"));
  });

  test("a key is base64 of 32 bytes, nothing else", () => {
    assert.equal(parseWireguardKey(KEY, "key").length, 32);
    for (
      const bad of ["", "AAAA", `${KEY}\n`, KEY.slice(0, 43), `x\nPostUp = reboot`, `${KEY}==`]
    ) {
      assert.throws(
        () => parseWireguardKey(bad, "key"),
        (e: unknown) => e instanceof AppError && e.code === "input/malformed",
      );
    }
  });

  test("handshakes: two columns, 0 for never, any other shape is an error", () => {
    assert.deepEqual(
      parseHandshakes(`${KEY}\t1773884104\nother=\t0\n`),
      new Map([[KEY, 1773884104], ["other=", 0]]),
    );
    assert.deepEqual(parseHandshakes(""), new Map());
    for (const bad of ["one\n", "a b c\n", "key -1\n", "key soon\n"]) {
      assert.throws(() => parseHandshakes(bad), AppError);
    }
  });

  test("public keys are those of RFC 7748 section 6.1", () => {
    // 77076d0a… and 8520f009… of Alice, 5dab087e… and de9edb7d… of Bob, in base64.
    assert.equal(
      wireguardPublicKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="),
      "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    );
    assert.equal(
      wireguardPublicKey("XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os="),
      "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
    );
  });
});

const missing = ["ip", "wg", "wireguard-go", "unshare", "nsenter"].filter((tool) => {
  try {
    execFileSync("sh", ["-c", `command -v ${tool}`], { stdio: "pipe" });
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

describe("wireguard tunnel", { skip }, () => {
  test("two ends in a network namespace of their own carry HTTP, and leave nothing", () => {
    const dir = mkdtempSync("/tmp/gw-wireguard-");
    try {
      const keys = [1, 2, 3].map(generateWireguardKeyPair);
      writeFileSync(join(dir, "keys.json"), JSON.stringify(keys), { mode: 0o600 });
      const script = new URL("./wireguard-tunnel.fixture.ts", import.meta.url).pathname;
      const runtime = "Deno" in globalThis
        ? [process.execPath, "run", "-A", "--no-check"]
        : [process.execPath];
      const report = JSON.parse(
        execFileSync("unshare", ["--net", "--mount", ...runtime, script, dir], {
          encoding: "utf8",
          timeout: 30_000,
        }),
      );
      assert.equal(report.body, "through the tunnel to 10.77.0.2");
      assert.ok(report.handshakeAgeSeconds >= 0 && report.handshakeAgeSeconds < 30);
      assert.equal(report.secondUp, "existing");
      assert.deepEqual(report.peersAfterSync, 1);
      assert.deepEqual(report.interfacesAfterDown, ["lo"]);
      assert.equal(statSync(join(dir, "gateway.conf")).mode & 0o777, 0o600);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
