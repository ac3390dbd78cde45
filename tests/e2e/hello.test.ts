import assert from "node:assert/strict";
import {
  appendFileSync,
  closeSync,
  cpSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { delay } from "../../scripts/lib/service.ts";
import { type DeployedApp, fetchThroughGateway } from "../../scripts/lib/demo-flow.ts";
import { missing, startStack, type TestStack } from "./stack.ts";

const skip = missing();
describe("the hello app in a real VM", { ...(skip !== undefined && { skip }) }, () => {
  let stack: TestStack;
  let app: DeployedApp;
  let page: string;

  before(async () => {
    stack = await startStack(19500);
  });
  after(async () => {
    await stack?.[Symbol.asyncDispose]();
  });

  const member = (html: string, id: string) => new RegExp(`id="${id}">([^<]*)<`).exec(html)?.[1];

  /** Polls until `condition` holds; fails with what was seen last. */
  async function until<T>(
    what: string,
    see: () => Promise<T>,
    condition: (seen: T) => boolean,
    timeoutMs = 420_000,
  ): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const seen = await see();
      if (condition(seen)) return seen;
      if (performance.now() > deadlineMs) assert.fail(`${what}: last seen ${JSON.stringify(seen)}`);
      await delay(500);
    }
  }

  test("boots, answers through the gateway and shows its identity", async () => {
    app = await stack.flow.deploy("hello", stack.image.name, stack.pinned);
    page = await stack.flow.callApp(app);
    assert.equal(member(page, "app-id"), app.appId);
    assert.equal(member(page, "instance-id"), app.instanceId);
    assert.match(member(page, "key-digest") ?? "", /^[0-9a-f]{64}$/);
  });

  test("is verified: quote, log, image, compose and KMS, and says it is simulated", async () => {
    const verdict = await stack.flow.verify(app, stack.image);
    assert.equal(verdict.outcome, "accepted", JSON.stringify(verdict.reason));
    assert.equal(verdict.simulated, true);
    const passed = verdict.checks.filter(({ result }) => result === "passed").map(({ id }) => id);
    for (
      const id of [
        "signature-chain",
        "event-log-replay",
        "os-image",
        "compose-hash",
        "report-data",
        "key-provider",
      ]
    ) {
      assert.ok(passed.includes(id), `${id} was not checked`);
    }
  });

  test("is refused under another compose hash", async () => {
    const verdict = await stack.flow.verify({ ...app, composeHash: "00".repeat(32) }, stack.image);
    assert.equal(verdict.outcome, "refused");
    assert.equal(verdict.reason?.code, "compose-hash-mismatch");
  });

  test("survives a kill of dstackd, which adopts it again", async () => {
    const { flow } = stack;
    const pid = flow.services.running("dstackd");
    assert.ok(pid !== undefined);
    process.kill(pid, "SIGKILL");
    await until(
      "dstackd ends",
      () => Promise.resolve(flow.services.running("dstackd")),
      (p) => p === undefined,
    );
    try {
      // The page itself asks the simulated TEE, which is dstackd's.
      const { status, body } = await fetchThroughGateway(app.url, flow.caPath);
      assert.equal(status, 200);
      assert.match(body, /Hello/);
    } finally {
      await flow.services.start(stack.stack.dstackd(stack.image.store, stack.qemu));
    }
    assert.equal((await flow.findCvm("hello"))?.status, "running");
    await flow.callApp(app);
  });

  test("keeps its key and what it wrote over a restart", async () => {
    const { flow } = stack;
    const before = member(page, "journal") ?? "";
    await flow.dstack(["stop", app.vmId]);
    await flow.dstack(["start", app.vmId, "--wait", "--timeout", "600"]);
    const again = await flow.callApp(app);
    assert.equal(member(again, "key-digest"), member(page, "key-digest"));
    const first = (text: string) => text.replace(/^\d+ lines, the first: /, "");
    assert.equal(first(member(again, "journal") ?? ""), first(before));
  });

  test("a VM that dies is seen within a second", async () => {
    const { flow } = stack;
    const serial = stack.stack.path("dstackd", "vm", app.vmId, "serial.log");
    assert.ok(statSync(serial).size > 0);
    const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(app.vmId);
      } catch {
        return false; // ended meanwhile
      }
    });
    assert.equal(pids.length, 1);
    process.kill(Number(pids[0]), "SIGKILL");
    const cvm = await until(
      "exit is seen",
      () => flow.findCvm("hello"),
      (c) => c?.status !== "running",
      2_000,
    );
    assert.equal(cvm?.status, "exited");
    await flow.dstack(["rm", app.vmId, "--force"]);
  });

  test("an app-compose changed on the host after creation does not start", async () => {
    const { flow } = stack;
    const created = await flow.dstack<DeployedApp>([
      "deploy",
      flow.composeFile(stack.pinned),
      "--name",
      "changed",
      "--image",
      stack.image.name,
      "--disk",
      "4G",
      "--allowlist",
      stack.stack.allowlistPath,
    ]);
    await flow.dstack(["stop", created.vmId, "--force"]);
    const compose = stack.stack.path("dstackd", "vm", created.vmId, "shared", "app-compose.json");
    appendFileSync(compose, " ");
    await assert.rejects(flow.dstack(["start", created.vmId]), /compose/);
    await flow.dstack(["rm", created.vmId, "--force"]);
  });

  test(
    "a compose the allowlist does not name gets no keys, and the reason is shown",
    async () => {
      const { flow } = stack;
      const created = await flow.dstack<DeployedApp>([
        "deploy",
        flow.composeFile(stack.pinned),
        "--name",
        "unlisted",
        "--image",
        stack.image.name,
        "--disk",
        "4G",
      ]);
      const cvm = await until(
        "the refusal",
        () => flow.findCvm("unlisted"),
        (c) => (c?.bootError ?? "") !== "",
      );
      assert.match(cvm!.bootError, /app not registered/);
      await flow.dstack(["rm", created.vmId, "--force"]);
    },
  );

  test("a KMS that is down at boot is waited for", async () => {
    const { flow } = stack;
    await flow.services.stop("kms");
    const created = await flow.dstack<DeployedApp>([
      "deploy",
      flow.composeFile(stack.pinned),
      "--name",
      "patient",
      "--image",
      stack.image.name,
      "--disk",
      "4G",
      "--allowlist",
      stack.stack.allowlistPath,
    ]);
    await until(
      "the wait",
      () => flow.findCvm("patient"),
      (c) => /KMS/i.test(`${c?.bootError} ${c?.bootProgress}`),
    );
    await flow.services.start(stack.stack.kms(true));
    const cvm = await until(
      "the boot",
      () => flow.findCvm("patient"),
      (c) => c?.bootProgress === "done",
    );
    assert.equal(cvm?.bootError, "");
    await flow.dstack(["rm", created.vmId, "--force"]);
  });

  /** A copy of the image beside it, its files linked, for a test to damage. */
  function imageCopy(name: string, ownFile: string): string {
    const dir = join(stack.image.store, name);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const source = join(stack.image.store, stack.image.name);
    for (const file of readdirSync(source)) {
      if (file === ownFile) cpSync(join(source, file), join(dir, file));
      else linkSync(join(source, file), join(dir, file));
    }
    return dir;
  }

  test("a rootfs with one flipped byte stops the boot and says why", async () => {
    const { flow } = stack;
    const name = "dstack-dev-0.1.0-flipped";
    const dir = imageCopy(name, "rootfs.img.parted.verity");
    try {
      const file = openSync(join(dir, "rootfs.img.parted.verity"), "r+");
      const byte = new Uint8Array(1);
      const at = (1 << 20) + 1100; // inside the first block of the partition: the file system's superblock
      readSync(file, byte, 0, 1, at);
      byte[0]! ^= 1;
      writeSync(file, byte, 0, 1, at);
      closeSync(file);
      const created = await flow.dstack<DeployedApp>([
        "deploy",
        flow.composeFile(stack.pinned),
        "--name",
        "flipped",
        "--image",
        name,
        "--disk",
        "4G",
      ]);
      const cvm = await until(
        "the reason",
        () => flow.findCvm("flipped"),
        (c) => (c?.bootError ?? "") !== "",
      );
      assert.match(cvm!.bootError, /verity/);
      const serial = readFileSync(
        stack.stack.path("dstackd", "vm", created.vmId, "serial.log"),
        "utf8",
      );
      assert.match(serial, /verity/);
      await flow.dstack(["rm", created.vmId, "--force"]);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test("an image that does not match its checksums is not started", async () => {
    const { flow } = stack;
    const name = "dstack-dev-0.1.0-mismatch";
    const dir = imageCopy(name, "sha256sum.txt");
    try {
      const path = join(dir, "sha256sum.txt");
      const text = readFileSync(path, "utf8");
      writeFileSync(path, text.replace(/^./, (digit) => (digit === "0" ? "1" : "0")));
      await assert.rejects(
        flow.dstack([
          "deploy",
          flow.composeFile(stack.pinned),
          "--name",
          "mismatch",
          "--image",
          name,
          "--disk",
          "4G",
        ]),
        /image\/digest-mismatch/,
      );
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
