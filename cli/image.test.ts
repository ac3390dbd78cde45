import assert from "node:assert/strict";
import { test } from "node:test";
import { terminal } from "./terminal.fixture.ts";

function builder(status = 0) {
  const ran: (readonly string[])[] = [];
  const { dstack } = terminal({
    runFromCheckout: (program, argv) => {
      ran.push([program, ...argv]);
      return Promise.resolve(status);
    },
  });
  return { dstack, ran };
}

test("image build and lock run the checkout's builder", async () => {
  const { dstack, ran } = builder();
  await dstack("image", "build");
  await dstack("image", "build", "--flavour", "dev", "--out", "/tmp/x", "--check-reproducible");
  await dstack("image", "lock");
  const { code } = await dstack("image", "lock", "dev", "prod");
  assert.deepEqual(ran, [
    ["guest/os/main.ts", "image", "--flavour", "prod"],
    [
      "guest/os/main.ts",
      "image",
      "--flavour",
      "dev",
      "--out",
      "/tmp/x",
      "--check-reproducible",
    ],
    ["guest/os/main.ts", "lock"],
    ["guest/os/main.ts", "lock", "dev", "prod"],
  ]);
  assert.equal(code, 0);
});

test("its exit status is dstack's", async () => {
  assert.equal((await builder(3).dstack("image", "build")).code, 3);
});

test("a flavour there is none of is refused before anything runs", async () => {
  const { dstack, ran } = builder();
  const { code, stderr } = await dstack("image", "build", "--flavour", "debug");
  assert.match(stderr, /Allowed choices are dev, prod/);
  assert.deepEqual([code, ran.length], [2, 0]);
});
