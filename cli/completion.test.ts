import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { test } from "node:test";
import { terminal } from "./terminal.fixture.ts";

async function script(shell: string): Promise<string> {
  const { code, stdout } = await terminal().dstack("completion", shell);
  assert.equal(code, 0);
  return stdout;
}

/** What bash offers after `typed`, whose last word is being typed. */
async function offered(...typed: string[]): Promise<string[]> {
  const words = typed.map((word) => `'${word}'`).join(" ");
  const body = `${await script("bash")}
    COMP_WORDS=(${words}) COMP_CWORD=${typed.length - 1}
    _dstack; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-uc", body], { encoding: "utf8" }).split("\n").filter(Boolean);
}

test("bash is offered commands, their options, and nothing of their neighbours", async () => {
  assert.deepEqual(await offered("dstack", "ver"), ["verify"]);
  assert.deepEqual(await offered("dstack", "verify", ""), [
    "app",
    "attestation",
    "quote",
    "--help",
  ]);
  assert.ok((await offered("dstack", "verify", "app", "--")).includes("--compose-hash"));
  assert.ok((await offered("dstack", "verify", "quote", "--")).includes("--require"));
  assert.deepEqual(await offered("dstack", "deploy", "--allow"), ["--allowlist"]);
  assert.deepEqual(await offered("dstack", "measure", "--h"), [
    "--hotplug-off",
    "--hugepages",
    "--help",
  ]);
  assert.deepEqual(await offered("dstack", "measure", "explain", "--to"), ["--to-image"]);
  assert.deepEqual(await offered("dstack", "--json", "stop", "--f"), ["--force"]);
  assert.deepEqual(await offered("dstack", "stop", "--allow"), []);
});

for (const [shell, flag] of [["bash", "-n"], ["zsh", "-n"], ["fish", "--no-execute"]] as const) {
  const missing = spawnSync(shell, ["--version"]).error !== undefined;
  test(`${shell} reads its script`, { skip: missing && `skipped: ${shell}` }, async () => {
    execFileSync(shell, [flag], { input: await script(shell) });
  });
}

test("zsh and fish are told what each command is for", async () => {
  assert.match(await script("zsh"), /'logs:Print a CVM’s serial log/);
  const fish = await script("fish");
  assert.match(fish, /-n '__dstack_at "verify app"' -l compose-hash /);
  assert.match(fish, /-n '__dstack_at ""' -f -a ps -d 'List CVMs'/);
});

test("a shell there is no script for is a usage error", async () => {
  const { code, stderr } = await terminal().dstack("completion", "csh");
  assert.equal(code, 2);
  assert.match(stderr, /Allowed choices are bash, zsh, fish/);
});
