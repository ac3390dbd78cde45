import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { errorChain } from "#core/errors/app-error.ts";
import { keepRunning, run, startProcess } from "./processes.ts";

const folder = await mkdtemp(join(tmpdir(), "processes-"));
after(() => rm(folder, { recursive: true }));
const sh = (script: string, ...args: string[]) => ["/bin/sh", "-c", script, "sh", ...args];

test("run() hands over input and gives back both outputs", async () => {
  const result = await run(sh('cat; echo "warn $1" >&2', "x; y"), { input: "secret" });
  assert.equal(new TextDecoder().decode(result.stdout), "secret");
  assert.equal(result.stderr, "warn x; y\n");
  assert.equal(result.code, 0);
});

test("run() hides stderr in the cause of a failure", async () => {
  await assert.rejects(run(sh("echo broken disk >&2; exit 3")), (error: Error) => {
    assert.equal(error.message, "/bin/sh ended with exit code 3");
    assert.equal(errorChain(error), "/bin/sh ended with exit code 3: broken disk");
    return true;
  });
});

test("run() takes exit codes that are an answer", async () => {
  assert.equal((await run(sh("exit 2"), { okCodes: [0, 2] })).code, 2);
});

test("run() kills what overruns its time or output or is aborted", async () => {
  await assert.rejects(run(["/bin/sleep", "30"], { timeoutMs: 50 }), {
    code: "process/failed",
    message: "/bin/sleep did not end within 50 ms",
  });
  await assert.rejects(run(["/bin/cat", "/dev/zero"], { maxOutputBytes: 1000 }), {
    message: "/bin/cat wrote over 1000 bytes",
  });
  const signal = AbortSignal.timeout(50);
  await assert.rejects(run(["/bin/sleep", "30"], { signal }), { name: "TimeoutError" });
});

test("run() names a program that is not there", async () => {
  await assert.rejects(run(["/no/such/program"]), {
    code: "process/failed",
    message: "Cannot run /no/such/program",
  });
});

test("run() does not mind a program that ignores its input", async () => {
  assert.equal((await run(["/bin/true"], { input: new Uint8Array(1 << 20) })).code, 0);
});

test("run() gives exactly the environment asked for", async () => {
  const { stdout } = await run(["/usr/bin/env"], { env: { ONLY: "this" } });
  assert.equal(new TextDecoder().decode(stdout), "ONLY=this\n");
});

test("startProcess() appends to a log file and reports the end", async () => {
  const logFile = join(folder, "log");
  for (const text of ["one", "two"]) {
    const child = await startProcess(sh(`echo ${text}; exit 4`), { logFile });
    assert.deepEqual(await child.exited, { code: 4, signal: null });
  }
  assert.equal(await readFile(logFile, "utf8"), "one\ntwo\n");
});

test("startProcess() hands over lines", async () => {
  const lines: string[] = [];
  const child = await startProcess(sh("echo out; echo err >&2; sleep 0.1"), {
    onLine: (line) => lines.push(line),
  });
  await child.exited;
  assert.deepEqual(lines.sort(), ["err", "out"]);
});

test("stop() ends gently, then firmly", async () => {
  const gentle = await startProcess(["/bin/sleep", "30"]);
  assert.deepEqual(await gentle.stop(), { code: null, signal: "SIGTERM" });
  const ready = Promise.withResolvers<void>();
  const deaf = await startProcess(sh("trap '' TERM; echo ready; while :; do sleep 0.05; done"), {
    onLine: () => ready.resolve(),
  });
  await ready.promise;
  assert.deepEqual(await deaf.stop(100), { code: null, signal: "SIGKILL" });
});

test("startProcess() refuses a program that is not there", async () => {
  await assert.rejects(startProcess(["/no/such/program"]), { code: "process/failed" });
});

test("keepRunning() starts a program again until it is stopped", async () => {
  const exits: unknown[] = [];
  const twice = Promise.withResolvers<void>();
  const kept = keepRunning(sh("exit 1"), {
    restartDelayMs: 10,
    onExit: (exit) => {
      exits.push(exit);
      if (exits.length === 2) twice.resolve();
    },
  });
  await twice.promise;
  await kept.stop();
  const count = exits.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(exits.length, count);
  assert.deepEqual(exits[0], { code: 1, signal: null });
});
