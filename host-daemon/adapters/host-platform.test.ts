import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { dstackdConfig } from "../config.ts";
import { examineHost } from "./host-platform.ts";

/** A program that says what a QEMU of this version says. */
async function withQemu<T>(version: string, work: (dir: string, qemu: string) => Promise<T>) {
  const dir = mkdtempSync(join(tmpdir(), "platform-"));
  const qemu = join(dir, "qemu-system-x86_64");
  writeFileSync(qemu, `#!/bin/sh\necho "QEMU emulator version ${version} (Debian)"\n`, {
    mode: 0o755,
  });
  try {
    return await work(dir, qemu);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const examine = (dir: string, cvm: Record<string, unknown>) =>
  examineHost(dstackdConfig.parse({ cvm }).cvm, dir, () => {});

test("a QEMU older than 10 is refused with what to do about it", () =>
  withQemu("7.2.17", async (dir, qemu_path) => {
    await assert.rejects(examine(dir, { qemu_path, platform: "simulated" }), {
      code: "host/qemu-too-old",
      message: /QEMU 7\.2\.17 is too old: QEMU 10 or newer is needed.*set cvm\.qemu_path/,
    });
  }));

test("a QEMU that is new enough is taken, with the accelerator that was asked for", () =>
  withQemu("11.1.0", async (dir, qemu_path) => {
    const host = await examine(dir, { qemu_path, platform: "simulated", accelerator: "tcg" });
    assert.deepEqual([host.tee, host.qemuVersion, host.qemuPath], [
      "simulated",
      "11.1.0",
      qemu_path,
    ]);
    assert.equal(await host.accelerator("/nonexistent/bzImage"), "tcg");
  }));

test("no QEMU, or one that cannot be run, is said so", () =>
  withQemu("11.1.0", async (dir) => {
    await assert.rejects(examine(dir, { qemu_path: join(dir, "none") }), {
      code: "host/qemu-unusable",
      message: /cvm\.qemu_path names no program/,
    });
    writeFileSync(join(dir, "broken"), "#!/bin/sh\nexit 3\n", { mode: 0o755 });
    await assert.rejects(examine(dir, { qemu_path: join(dir, "broken") }), {
      code: "host/qemu-unusable",
    });
  }));

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const isDeno = "Deno" in globalThis;
const skip = isDeno ? "runs the program with Node" : false;

function dstackd(dir: string, toml: string, ...args: string[]) {
  const config = join(dir, "dstackd.toml");
  writeFileSync(config, toml);
  return spawnSync(process.execPath, [MAIN, "--config", config, ...args], { encoding: "utf8" });
}

test(
  "dstackd ends with the reason when its QEMU is too old",
  { skip },
  () =>
    withQemu("9.2.0", async (dir, qemu) => {
      const { status, stderr } = dstackd(
        dir,
        `run_path = "${dir}/vm"\n[cvm]\nqemu_path = "${qemu}"\nplatform = "simulated"\n`,
      );
      assert.equal(status, 1);
      assert.match(stderr, /dstackd: host\/qemu-too-old: QEMU 9\.2\.0 is too old/);
    }),
);

test(
  "--check-config names the faults of a configuration",
  { skip },
  () =>
    withQemu("11.1.0", async (dir) => {
      const good = dstackd(dir, "", "--check-config");
      assert.deepEqual([good.status, good.stdout], [0, "configuration is valid\n"]);
      const bad = dstackd(dir, '[cvm]\nqemu_pth = "x"\n[host_api]\nport = 0\n', "--check-config");
      assert.equal(bad.status, 2);
      assert.match(bad.stderr, /cvm\.qemu_pth: unknown key, did you mean cvm\.qemu_path\?/);
      assert.match(bad.stderr, /host_api\.port: /);
    }),
);
