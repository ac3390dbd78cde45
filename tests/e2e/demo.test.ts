import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./stack.ts";

/** Exit status and stderr of the demo. */
function demo(...argv: string[]): Promise<{ code: number; stderr: string }> {
  return new Promise((resolve) => {
    execFile(join(ROOT, "scripts/demo"), argv, { encoding: "utf8" }, (error, _stdout, stderr) => {
      resolve({ code: typeof error?.code === "number" ? error.code : error ? -1 : 0, stderr });
    });
  });
}

test("a port already taken is named before anything starts, with what to do", async () => {
  const base = 19_700;
  const listener = createServer().listen(base + 4, "127.0.0.1");
  await once(listener, "listening");
  try {
    const { code, stderr } = await demo("--port-base", String(base));
    assert.equal(code, 1);
    assert.match(
      stderr,
      /port 19704, for the demo's dstackd, is already taken; .* or choose others with --port-base/,
    );
    assert.doesNotMatch(stderr, /✓|keeps running/);
  } finally {
    listener.close();
  }
});

test("an option there is none of is a usage error", async () => {
  const { code, stderr } = await demo("--kep");
  assert.equal(code, 2);
  assert.match(stderr, /--kep/);
});
