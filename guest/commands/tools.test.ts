import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import { hasVectors, vectorPath } from "../../tests/vectors.ts";

const MAIN = new URL("../main.ts", import.meta.url).pathname;
const SIMULATOR = "dstack/simulator/attestation.bin";

interface Outcome {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}

/** The program as it is called in a guest: `dstack-util …`. */
function util(args: readonly string[], input: Uint8Array | string = ""): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN, "tdxctl", ...args],
      { encoding: "buffer" },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : Number(error.code);
        resolve({ code, stdout: new Uint8Array(stdout), stderr: stderr.toString() });
      },
    );
    child.stdin!.end(input);
  });
}
const text = ({ stdout }: Outcome) => new TextDecoder().decode(stdout);

describe("the tools that need no TEE (spec/os.md 3.1)", { concurrency: 2 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "tools-"));
  after(() => rmSync(dir, { recursive: true }));

  test("hex prints a file or standard input, lower case, without a newline", async () => {
    assert.equal(text(await util(["hex"], Uint8Array.of(0, 0xab, 255))), "00abff");
    const file = join(dir, "in");
    writeFileSync(file, "dstack");
    assert.equal(text(await util(["hex", file])), "64737461636b");
    const missing = await util(["hex", join(dir, "none")]);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /No file/);
  });

  test("rand prints 20 bytes, or writes what it is asked for into a file of its owner's", async () => {
    assert.equal((await util(["rand"])).stdout.length, 20);
    assert.match(text(await util(["rand", "-n", "3", "-x"])), /^[0-9a-f]{6}$/);
    const file = join(dir, "random");
    writeFileSync(file, "an older one", { mode: 0o644 });
    assert.equal((await util(["rand", "--bytes", "32", "-o", file])).code, 0);
    assert.equal(readFileSync(file).length, 32);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal((await util(["rand", "-n", "-1"])).code, 1);
  });

  test("quote wants exactly 64 bytes", async () => {
    for (const length of [0, 63, 65]) {
      const { code, stdout } = await util(["quote"], new Uint8Array(length));
      assert.deepEqual([code, stdout.length], [1, 0], `${length} bytes`);
    }
  });

  test("extend refuses the names of launch events before it looks for a TEE", async () => {
    for (const name of ["app-id", "system-ready", "key-provider"]) {
      const { code, stderr } = await util(["extend", "-e", name, "-p", "0xab"]);
      assert.equal(code, 1);
      assert.match(stderr, /is the system's/);
    }
  });

  test("what needs a TPM says that there is none", async () => {
    for (const name of ["vtpm-attest", "tpm-quote", "tpm-verify"]) {
      const { code, stderr } = await util([name, "-d", "00"]);
      assert.equal(code, 1);
      assert.match(stderr, /no TPM/);
    }
  });

  test("every command of the reference is known, and an unknown option is named", async () => {
    const { code, stderr } = await util(["no-such-command"]);
    assert.equal(code, 2);
    for (
      const name of [
        "quote",
        "eventlog",
        "extend",
        "show",
        "replay-imr",
        "hex",
        "gen-ra-cert",
        "gen-ca-cert",
        "gen-app-keys",
        "rand",
        "setup",
        "host-shared",
        "gateway-refresh",
        "gateway-checker",
        "notify-host",
        "remove-orphans",
        "quote-report",
        "attest",
        "attest-info",
        "attest-json",
        "attest-strip",
        "get-keys",
      ]
    ) {
      assert.match(stderr, new RegExp(`^  dstack-guest ${name}( |$)`, "m"));
    }
    const option = await util(["hex", "--nope"]);
    assert.equal(option.code, 2);
    assert.match(option.stderr, /--nope/);
  });

  test("a stored attestation is sized, shown and stripped", { skip: !hasVectors }, async () => {
    const input = vectorPath(SIMULATOR);
    // Facts of the fixture: spec/guest-agent.md 10.1.
    const info = text(await util(["attest-info", "-i", input]));
    assert.match(info, /^version: 0\ntotal: 9504 bytes\nquote: 5010 bytes\nevent log: 33 events\n/);
    const json = JSON.parse(text(await util(["attest-json", "-i", input])));
    assert.equal(json.platform.kind, "tdx");
    assert.equal(json.platform.data.event_log.length, 33);
    assert.equal(json.stack.data.runtime_events.length, 9);
    assert.equal(json.stack.data.report_data, "00".repeat(64));

    const stripped = join(dir, "stripped.bin");
    assert.equal((await util(["attest-strip", "-i", input, "-o", stripped])).code, 0);
    const hex = join(dir, "stripped.hex");
    writeFileSync(hex, readFileSync(stripped).toString("hex") + "\n");
    // RTMR3's nine events and the three ACPI digests (3.7).
    for (const file of [stripped, hex]) {
      assert.match(text(await util(["attest-info", "-i", file])), /\nevent log: 12 events\n/);
    }
    const broken = join(dir, "broken.bin");
    writeFileSync(broken, readFileSync(input).subarray(0, 9000));
    assert.equal((await util(["attest-json", "-i", broken])).code, 1);
  });
});
