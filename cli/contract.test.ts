import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeAbiParameters } from "viem";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { terminal } from "./terminal.fixture.ts";

const CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
const HASH = "ab".repeat(32);
/** kms.md 7.1 and 7.2 */
const SELECTORS: [string[], string][] = [
  [["app", "whitelist", "compose", HASH], "0xdfc77223"],
  [["app", "remove", "compose", `0x${HASH}`], "0x67b3f22c"],
  [["app", "whitelist", "device", HASH], "0x2a819728"],
  [["app", "remove", "device", HASH], "0x1d266200"],
];

test("--dry-run prints the calldata of the contracts' own selectors and calls nobody", async () => {
  const { dstack } = terminal();
  for (const [argv, selector] of SELECTORS) {
    const { code, stdout } = await dstack(...argv, "--contract", CONTRACT, "--dry-run", "--json");
    assert.equal(code, 0, argv.join(" "));
    assert.deepEqual(JSON.parse(stdout), { to: CONTRACT, value: "0", data: `${selector}${HASH}` });
  }
  const { stdout } = await dstack(
    "kms",
    "whitelist",
    "mr",
    HASH,
    "--contract",
    CONTRACT,
    "--dry-run",
  );
  assert.match(stdout, new RegExp(`^to ${CONTRACT}\ndata 0x[0-9a-f]{8}${HASH}\n$`));
});

test("what does not fit is refused before anything is sent", async () => {
  const { dstack } = terminal();
  for (
    const argv of [
      ["kms", "whitelist", "compose", HASH, "--contract", CONTRACT, "--dry-run"],
      ["kms", "whitelist", "mr", "abcd", "--contract", CONTRACT, "--dry-run"],
      ["kms", "whitelist", "mr", HASH, "--contract", "0x12", "--dry-run"],
      ["kms", "whitelist", "mr", HASH, "--contract", CONTRACT],
      ["kms", "owner", "--transfer", "nobody", "--contract", CONTRACT, "--dry-run"],
    ]
  ) assert.equal((await dstack(...argv)).code, 2, argv.join(" "));
});

/** Answers JSON-RPC calls by method. */
const chain = (answers: Record<string, unknown>): FetchLike => (_, { body }) => {
  const { id, method } = JSON.parse(String(body));
  if (!Object.hasOwn(answers, method)) throw new TypeError(`unexpected ${method}`);
  return Promise.resolve(Response.json({ jsonrpc: "2.0", id, result: answers[method] }));
};

test("--safe writes a transaction for Safe's builder", async () => {
  const { dstack, text } = terminal({ fetch: chain({ eth_chainId: "0x7a69" }) });
  const argv = [
    "kms",
    "remove",
    "image",
    HASH,
    "--contract",
    CONTRACT,
    "--rpc",
    "http://rpc",
    "--safe",
    "tx.json",
  ];
  assert.equal((await dstack(...argv)).code, 0);
  const { chainId, transactions } = JSON.parse(text("tx.json"));
  assert.equal(chainId, "31337");
  assert.equal(transactions.length, 1);
  assert.equal(transactions[0].to, CONTRACT);
  assert.match(transactions[0].data, new RegExp(`${HASH}$`));
});

test("owner shows both steps of a hand-over", async () => {
  const owner = encodeAbiParameters([{ type: "address" }], [CONTRACT]);
  const { dstack } = terminal({ fetch: chain({ eth_call: owner }) });
  const { code, stdout } = await dstack(
    "app",
    "owner",
    "--contract",
    CONTRACT,
    "--rpc",
    "http://rpc",
    "--json",
  );
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), { owner: CONTRACT, pendingOwner: CONTRACT });
});
