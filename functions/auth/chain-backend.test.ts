import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFunctionData, encodeFunctionResult, type Hex, parseAbi } from "viem";
import { CircuitBreaker } from "#functions/circuit-breaker.ts";
import type { BootInfo } from "./boot-info.ts";
import { chainBackend, type ChainBackendOptions } from "./chain-backend.ts";

// As kms.md 7.1 and 7.2 give it, apart from the code under test.
const ABI = parseAbi([
  "function isAppAllowed((address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])) view returns (bool, string)",
  "function isKmsAllowed((address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])) view returns (bool, string)",
  "function gatewayAppId() view returns (string)",
  "function appImplementation() view returns (address)",
]);
const CONTRACT = `0x${"c0".repeat(20)}` as const;
const NOW = new Date("2026-06-01T12:00:00Z");
const BOOT: BootInfo = {
  teeVariant: "dstack-tdx",
  mrAggregated: "aa".repeat(32),
  mrSystem: "ab".repeat(32),
  osImageHash: "bb".repeat(32),
  appId: "cc".repeat(20),
  composeHash: "dd".repeat(32),
  instanceId: "",
  deviceId: "ff".repeat(32),
  keyProviderInfo: "",
  tcbStatus: "UpToDate",
  advisoryIds: ["INTEL-SA-1"],
};

/** A node with one contract, whose parts a test changes. */
function fakeNode() {
  const node = {
    chainId: 31337,
    finalized: 100,
    ageSeconds: 60,
    fork: "",
    allowed: true,
    reason: "",
    down: false,
    reverts: false,
    asked: [] as { name: string; args: readonly unknown[]; block: unknown }[],
    calls: 0,
    request: ({ method, params }: { method: string; params?: unknown }): Promise<unknown> => {
      node.calls++;
      if (node.down) return Promise.reject(new Error("timed out"));
      const list = (params ?? []) as unknown[];
      if (method === "eth_chainId") return Promise.resolve(`0x${node.chainId.toString(16)}`);
      if (method === "eth_getBlockByNumber") {
        const number = list[0] === "finalized" ? node.finalized : Number(list[0]);
        return Promise.resolve(block(number, node.fork, node.ageSeconds));
      }
      if (method === "eth_call") {
        const { data } = list[0] as { data: Hex };
        return node.call(data, list[1]);
      }
      return Promise.reject(new Error(`no method ${method}`));
    },
    call: (data: Hex, block: unknown): Promise<unknown> => {
      const { functionName, args = [] } = decodeFunctionData({ abi: ABI, data });
      node.asked.push({ name: functionName, args, block });
      if (functionName === "gatewayAppId") {
        return Promise.resolve(encodeFunctionResult({ abi: ABI, functionName, result: "gateway" }));
      }
      if (functionName === "appImplementation") {
        return Promise.resolve(encodeFunctionResult({ abi: ABI, functionName, result: CONTRACT }));
      }
      if (node.reverts) {
        return Promise.reject(
          Object.assign(new Error("execution reverted"), { code: 3, data: "0x" }),
        );
      }
      const result = [node.allowed, node.reason] as const;
      return Promise.resolve(encodeFunctionResult({ abi: ABI, functionName, result }));
    },
  };
  return node;
}

const hash = (number: number, fork: string): Hex =>
  `0x${(number.toString(16) + fork).padStart(64, "0")}`;

function block(number: number, fork: string, ageSeconds: number) {
  return {
    number: `0x${number.toString(16)}`,
    hash: hash(number, fork),
    timestamp: `0x${(Math.floor(NOW.getTime() / 1000) - ageSeconds).toString(16)}`,
    transactions: [],
  };
}

function setup(count: number, changes: Partial<ChainBackendOptions> = {}) {
  const nodes = Array.from({ length: count }, fakeNode);
  const lags: number[] = [];
  const clock = { now: NOW };
  const backend = chainBackend({
    endpoints: nodes.map((node, i) => ({
      name: `node ${i}`,
      request: (call) => node.request(call),
      breaker: new CircuitBreaker({ name: `node ${i}`, now: () => clock.now }),
    })),
    quorum: count,
    contract: CONTRACT,
    chainId: 31337,
    now: () => clock.now,
    maxLagMs: 600_000,
    observeLag: (seconds) => lags.push(seconds),
    ...changes,
  });
  return { nodes, backend, lags, clock };
}

const unavailable = (reason: string) => ({ code: "upstream/unavailable", fields: { reason } });

test("all endpoints read at the newest block that all finalized, and the block is told", async () => {
  const { nodes, backend, lags } = setup(3);
  nodes[1]!.finalized = 97;
  assert.deepEqual(await backend.decide("app", BOOT), {
    isAllowed: true,
    gatewayAppId: "gateway",
    reason: "",
    rule: `contract ${CONTRACT}`,
    block: { number: 97, hash: hash(97, "") },
  });
  assert.deepEqual(lags, [60]);
  for (const { asked } of nodes) {
    assert.deepEqual(asked.map(({ name, block }) => [name, block]), [
      ["gatewayAppId", "0x61"],
      ["isAppAllowed", "0x61"],
    ]);
  }
});

test("the contract gets what the reference sends", async () => {
  const { nodes, backend } = setup(1);
  await backend.decide("kms", { ...BOOT, mrSystem: "12" });
  const { name, args } = nodes[0]!.asked.at(-1)!;
  assert.equal(name, "isKmsAllowed");
  const [appId, composeHash, instanceId, , , mrSystem, , tcbStatus, advisoryIds] =
    args[0] as unknown[];
  assert.equal(String(appId).toLowerCase(), `0x${BOOT.appId}`);
  assert.equal(composeHash, `0x${BOOT.composeHash}`);
  assert.equal(instanceId, `0x${"00".repeat(20)}`);
  assert.equal(mrSystem, `0x${"00".repeat(31)}12`);
  assert.deepEqual([tcbStatus, advisoryIds], ["UpToDate", ["INTEL-SA-1"]]);
  await backend.decide("app", { ...BOOT, deviceId: "01".repeat(64) });
  // SHA-256 of 64 bytes 01, by coreutils
  const device = (nodes[0]!.asked.at(-1)!.args[0] as unknown[])[3];
  assert.equal(device, "0x7c8975e1e60a5c8337f28edf8c33c3b180360b7279644a9bc1af3c51e6220bf5");
});

test("a denial keeps the contract's reason and says how to mend it", async () => {
  const { nodes, backend } = setup(2);
  for (const node of nodes) {
    Object.assign(node, { allowed: false, reason: "Compose hash not allowed" });
  }
  const decision = await backend.decide("app", BOOT);
  assert.deepEqual([decision.isAllowed, decision.reason], [false, "Compose hash not allowed"]);
  assert.equal(decision.remedy, `addComposeHash(0x${BOOT.composeHash}) on the app contract`);
});

test("a contract that reverts denies, and its endpoint is not called down", async () => {
  const { nodes, backend } = setup(1);
  nodes[0]!.reverts = true;
  for (let i = 0; i < 8; i++) {
    const decision = await backend.decide("app", BOOT);
    assert.deepEqual([decision.isAllowed, decision.reason], [
      false,
      "App contract refused to answer",
    ]);
  }
});

test("endpoints that disagree decide nothing", async () => {
  for (const change of [{ allowed: false }, { fork: "f" }, { reason: "x", allowed: false }]) {
    const { nodes, backend } = setup(2);
    Object.assign(nodes[1]!, change);
    await assert.rejects(backend.decide("app", BOOT), unavailable("auth/chain-endpoints-disagree"));
  }
});

test("a stale view, another chain and too few endpoints decide nothing", async () => {
  const stale = setup(1);
  stale.nodes[0]!.ageSeconds = 601;
  await assert.rejects(stale.backend.decide("app", BOOT), unavailable("auth/chain-stale"));
  const other = setup(2);
  other.nodes[1]!.chainId = 1;
  await assert.rejects(other.backend.decide("app", BOOT), unavailable("auth/chain-wrong-chain"));
  const half = setup(2);
  half.nodes[0]!.down = true;
  await assert.rejects(half.backend.decide("app", BOOT), unavailable("auth/chain-unavailable"));
  await assert.rejects(half.backend.info(), unavailable("auth/chain-unavailable"));
  assert.throws(() => setup(1, { quorum: 2 }), { code: "config/invalid" });
});

test("with a quorum one endpoint may be down, and is not asked for long", async () => {
  const { nodes, backend, clock } = setup(3, { quorum: 2 });
  nodes[2]!.down = true;
  for (let i = 0; i < 10; i++) assert.equal((await backend.decide("app", BOOT)).isAllowed, true);
  const calls = nodes[2]!.calls;
  await backend.decide("app", BOOT);
  assert.equal(nodes[2]!.calls, calls);
  clock.now = new Date(NOW.getTime() + 11_000);
  nodes[2]!.down = false;
  await backend.decide("app", BOOT);
  assert.ok(nodes[2]!.calls > calls);
});

test("a reorganised chain is read anew: nothing is kept", async () => {
  const { nodes, backend } = setup(2);
  await backend.decide("app", BOOT);
  for (const node of nodes) {
    Object.assign(node, { fork: "e", allowed: false, reason: "App not registered" });
  }
  const decision = await backend.decide("app", BOOT);
  assert.deepEqual([decision.isAllowed, decision.block?.hash], [false, hash(100, "e")]);
});

test("info is what a KMS shows", async () => {
  const { backend } = setup(1);
  const { appImplementation, ...info } = await backend.info();
  assert.equal(appImplementation.toLowerCase(), CONTRACT);
  assert.deepEqual(info, {
    kmsContractAddr: CONTRACT,
    ethRpcUrl: "",
    gatewayAppId: "gateway",
    chainId: 31337,
  });
});
