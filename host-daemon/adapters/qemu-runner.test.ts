import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { qemuArgv, type QemuLaunch } from "../qemu/argv.ts";
import { parseQemuVersion } from "../qemu/version.ts";
import { qemuRunner } from "./qemu-runner.ts";

async function within(ms: number, condition: () => boolean): Promise<boolean> {
  for (const end = Date.now() + ms; Date.now() < end;) {
    if (condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return condition();
}

function inDirectory<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "runner-"));
  return work(dir).finally(() => rmSync(dir, { recursive: true }));
}

const launchIn = (dir: string, argv: readonly string[]) =>
  qemuRunner.launch(argv, { cwd: dir, stdoutPath: join(dir, "out"), stderrPath: join(dir, "err") });

test("a process runs in a session of its own and is recognised by pid, start and boot", () =>
  inDirectory(async (dir) => {
    const sleeping = await launchIn(dir, ["/bin/sleep", "60.123"]);
    const session =
      readFileSync(`/proc/${sleeping.pid}/stat`, "latin1").split(") ")[1]!.split(" ")[3];
    assert.equal(session, String(sleeping.pid));
    assert.equal(qemuRunner.isAlive(sleeping), true);
    assert.equal(qemuRunner.isAlive({ ...sleeping, startTicks: "1" }), false, "another process");
    assert.equal(qemuRunner.isAlive({ ...sleeping, hostBootId: "x" }), false, "before a reboot");
    assert.deepEqual(await qemuRunner.findByArgument("60.123"), [sleeping]);
    qemuRunner.kill({ ...sleeping, startTicks: "1" });
    assert.equal(qemuRunner.isAlive(sleeping), true, "a stranger is not killed");
    qemuRunner.kill(sleeping);
    assert.ok(await within(1000, () => !qemuRunner.isAlive(sleeping)));
  }));

test("killing reaches the children a wrapper script left", () =>
  inDirectory(async (dir) => {
    const shell = await launchIn(dir, ["/bin/sh", "-c", "sleep 61 & echo $!; wait"]);
    assert.ok(await within(2000, () => readFileSync(join(dir, "out"), "utf8").includes("\n")));
    const child = Number(readFileSync(join(dir, "out"), "utf8"));
    qemuRunner.kill(shell);
    const isGone = () => {
      if (!existsSync(`/proc/${child}`)) return true;
      return readFileSync(`/proc/${child}/stat`, "latin1").includes(") Z");
    };
    assert.ok(await within(1000, isGone));
  }));

test("a program that does not exist is a launch that failed", () =>
  inDirectory(async (dir) => {
    await assert.rejects(launchIn(dir, ["/nonexistent/qemu"]), { code: "cvm/launch-failed" });
  }));

test("a port somebody listens on is not free", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  await assert.rejects(qemuRunner.requireFree("tcp", "127.0.0.1", port), {
    code: "host/port-taken",
  });
  await new Promise((resolve) => server.close(resolve));
  await qemuRunner.requireFree("tcp", "127.0.0.1", port);
  await qemuRunner.requireFree("udp", "127.0.0.1", await qemuRunner.freePort());
});

/** QEMU of the host tools, else of the PATH; undefined when there is none from 10.1 on. */
function findQemu(): string | undefined {
  const tools = fileURLToPath(
    new URL("../../.cache/host-tools/bin/qemu-system-x86_64", import.meta.url),
  );
  for (const path of [tools, "qemu-system-x86_64"]) {
    const { error, stdout } = spawnSync(path, ["--version"], { encoding: "utf8" });
    if (error !== undefined) continue;
    const { major, minor } = parseQemuVersion(stdout);
    if (major > 10 || major === 10 && minor >= 1) return path;
  }
  return undefined;
}
const qemu = findQemu();
const skip = qemu === undefined ? "no QEMU 10.1 or newer" : false;

const LAUNCH: QemuLaunch = {
  qemuPath: qemu ?? "",
  accelerator: "tcg",
  tee: { kind: "none" },
  workDir: "/nonexistent",
  kernel: "/nonexistent/bzImage",
  initrd: "/nonexistent/initrd",
  commandLine: "console=ttyS0",
  rootfs: "/nonexistent/rootfs.verity",
  volumes: [],
  nics: [],
  forwards: [],
  smbios: new Map(),
  hostShare: "vhd",
  sharedReadOnly: true,
  hotplugOff: true,
  pciHole64Size: 0x8000000000n,
  vcpus: 1,
  memoryMib: 256,
};

test("QEMU understands a TD's object and machine; only the hardware is missing", { skip }, () => {
  const tdx = qemuArgv({
    ...LAUNCH,
    accelerator: "kvm",
    tee: { kind: "tdx", mrConfigId: new Uint8Array(48).fill(1), qgsPort: 4050 },
    firmware: "/nonexistent/ovmf.fd",
  });
  const tell = (object: string) => {
    const args = ["-accel", "kvm", "-nodefaults", "-nographic", "-machine"];
    args.push(tdx[tdx.indexOf("-machine") + 1]!, "-object", object);
    return spawnSync(qemu!, args, { encoding: "utf8", timeout: 20_000 }).stderr;
  };
  const object = tdx[tdx.indexOf("-object") + 1]!;
  // What a host without TDX, or without KVM at all, has to say about a well-formed TD.
  assert.match(
    tell(object),
    /vm-type TDX not supported by KVM|Could not access KVM|failed to initialize kvm/i,
  );
  assert.match(
    tell(object.replace("mrconfigid", "mrconfig")),
    /mrconfig/,
    "a wrong member is seen",
  );
});

test(
  "a real QEMU starts from our arguments, answers its monitor and dies",
  { skip },
  () =>
    inDirectory(async (dir) => {
      const argv = qemuArgv({ ...LAUNCH, workDir: dir });
      // Without kernel and disks, which this test does not have; SeaBIOS then finds nothing to boot.
      const bare = ["-kernel", "-initrd", "-append", "-drive", "-device"];
      const args = argv.filter((arg, i) => !bare.includes(arg) && !bare.includes(argv[i - 1]!));
      const identity = await launchIn(dir, args);
      try {
        assert.ok(
          await within(10_000, () => existsSync(join(dir, "qmp.sock"))),
          readFileSync(join(dir, "err"), "utf8"),
        );
        const monitor = await qemuRunner.connectMonitor(join(dir, "qmp.sock"));
        const status = await monitor.execute("query-status") as { status: string };
        assert.equal(status.status, "running");
        monitor.close();
        const again = await qemuRunner.connectMonitor(join(dir, "qmp.sock"));
        await again.execute("quit");
        await again.closed;
        assert.ok(await within(2000, () => !qemuRunner.isAlive(identity)));
      } finally {
        qemuRunner.kill(identity);
      }
    }),
);
