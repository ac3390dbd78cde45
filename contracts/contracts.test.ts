import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import {
  type Abi,
  type Address,
  createPublicClient,
  createTestClient,
  createWalletClient,
  encodeFunctionData,
  type Hex,
  http,
  keccak256,
  pad,
  parseEventLogs,
  stringToHex,
  toEventSelector,
  toFunctionSelector,
} from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { toHex } from "#core/bytes/bytes.ts";
import { terminal } from "#cli/terminal.fixture.ts";
import { chainBackend } from "#functions/auth/chain-backend.ts";
import { CircuitBreaker } from "#functions/circuit-breaker.ts";
import { anvilPath, startAnvil } from "./anvil.ts";
import { type Artifact, canCompile, compileContracts } from "./compile.ts";

const anvil = anvilPath();
const skip = (anvil === undefined || !canCompile()) &&
  "solc, OpenZeppelin or anvil is not installed";

const account = (addressIndex: number) =>
  mnemonicToAccount("test test test test test test test test test test test junk", {
    addressIndex,
  });
const OWNER = account(0);
const OTHER = account(1);
const NEXT = account(2);
const ZERO = `0x${"00".repeat(20)}` as const;
/** Selector of OwnableInvalidOwner(address). */
const OWNABLE_INVALID_OWNER = /0x1e4fbdf7/;
const ZERO_WORD = `0x${"00".repeat(32)}` as const;
const word = (n: number): Hex => pad(`0x${n.toString(16)}`, { size: 32 });

let chain: Awaited<ReturnType<typeof startAnvil>>;
let artifacts: ReadonlyMap<string, Artifact>;
const of = (name: string): Artifact => artifacts.get(name)!;
const transport = () => http(chain.url);
const reader = () =>
  createPublicClient({ chain: foundry, transport: transport(), pollingInterval: 20 });

before(async () => {
  if (skip) return;
  artifacts = compileContracts();
  chain = await startAnvil(anvil!);
});
after(() => chain?.close());

interface Deployed {
  readonly address: Address;
  readonly abi: Abi;
}

async function deploy(name: string, args: readonly unknown[] = []): Promise<Deployed> {
  const wallet = createWalletClient({ account: OWNER, chain: foundry, transport: transport() });
  const { abi, bytecode } = of(name);
  const hash = await wallet.deployContract({ abi, bytecode, args });
  const { contractAddress } = await reader().waitForTransactionReceipt({ hash });
  return { address: contractAddress!, abi };
}

async function deployProxy(name: string, args: readonly unknown[]): Promise<Deployed> {
  const implementation = await deploy(name);
  const data = encodeFunctionData({ abi: of(name).abi, functionName: "initialize", args });
  const proxy = await deploy("Proxy", [implementation.address, data]);
  return { address: proxy.address, abi: of(name).abi };
}

/** Sends a transaction; resolves with the events of its receipt. Throws what the contract says. */
async function send(
  contract: Deployed,
  functionName: string,
  args: readonly unknown[] = [],
  from: typeof OWNER = OWNER,
) {
  const wallet = createWalletClient({ account: from, chain: foundry, transport: transport() });
  const { request } = await reader().simulateContract({
    ...contract,
    functionName,
    args,
    account: from,
  });
  const hash = await wallet.writeContract(request);
  const receipt = await reader().waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  return {
    gas: receipt.gasUsed,
    events: parseEventLogs({ abi: contract.abi, logs: receipt.logs }).map((
      { eventName, args },
    ) => ({
      name: eventName,
      args: args as unknown as Record<string, unknown>,
    })),
  };
}

const read = (contract: Deployed, functionName: string, args: readonly unknown[] = []) =>
  reader().readContract({ ...contract, functionName, args }) as Promise<unknown>;

const boot = (changes: Record<string, unknown> = {}) => ({
  appId: ZERO,
  composeHash: word(1),
  instanceId: ZERO,
  deviceId: word(2),
  mrAggregated: word(3),
  mrSystem: ZERO_WORD,
  osImageHash: word(4),
  tcbStatus: "UpToDate",
  advisoryIds: [] as string[],
  ...changes,
});

async function kmsWithApp() {
  const implementation = await deploy("DstackApp");
  const kms = await deployProxy("DstackKms", [OWNER.address, implementation.address]);
  const args = [OWNER.address, false, false, true, ZERO_WORD, word(1)];
  const { events } = await send(kms, "deployAndRegisterApp", args, OTHER);
  const deployed = events.find(({ name }) => name === "AppDeployedViaFactory")!;
  const address = deployed.args["appId"] as Address;
  return { kms, app: { address, abi: of("DstackApp").abi }, events };
}

test("the ABI, its interface ids and the storage are the reference's", { skip }, () => {
  // kms.md 7.1 to 7.3
  const kms = of("DstackKms");
  const app = of("DstackApp");
  const tuple = "(address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])";
  assert.equal(kms.methodIdentifiers[`isAppAllowed(${tuple})`], "1e079198");
  assert.equal(kms.methodIdentifiers[`isKmsAllowed(${tuple})`], "e067ec9d");
  assert.equal(
    kms.methodIdentifiers["deployAndRegisterApp(address,bool,bool,bool,bytes32,bytes32)"],
    "9cb9c31f",
  );
  assert.equal(
    kms.methodIdentifiers["deployAndRegisterApp(address,bool,bool,bytes32,bytes32)"],
    "8618169d",
  );
  assert.equal(app.methodIdentifiers["initialize(address,bool,bool,bytes32,bytes32)"], "187515ca");
  assert.equal(
    app.methodIdentifiers["initialize(address,bool,bool,bool,bytes32,bytes32)"],
    "9ed28193",
  );
  const management = ["addComposeHash", "removeComposeHash", "addDevice", "removeDevice"]
    .map((name) => BigInt(toFunctionSelector(`${name}(bytes32)`)))
    .reduce((a, b) => a ^ b);
  assert.equal(management, 0x8fd37527n);
  assert.equal(
    toEventSelector("PolicyChanged(address,bytes32,bytes32,bool)"),
    "0x341d3bc64e32172fc5bcf27b0f7f69dc5adc19af64b7aa1dee361e5883c32375",
  );
  const layout = ({ storage }: Artifact) => storage.map((s) => `${s.slot}.${s.offset} ${s.label}`);
  assert.deepEqual(layout(kms), [
    "0.0 kmsInfo",
    "4.0 gatewayAppId",
    "5.0 registeredApps",
    "6.0 kmsAllowedAggregatedMrs",
    "7.0 kmsAllowedDeviceIds",
    "8.0 allowedOsImages",
    "9.0 appImplementation",
    "10.0 __gap",
  ]);
  assert.deepEqual(layout(app), [
    "0.0 allowedComposeHashes",
    "1.0 _upgradesDisabled",
    "1.1 allowAnyDevice",
    "2.0 allowedDeviceIds",
    "3.0 requireTcbUpToDate",
    "4.0 __gap",
  ]);
});

test("both contracts say which interfaces they have", { skip }, async () => {
  const { kms, app } = await kmsWithApp();
  for (
    const [contract, id, expected] of [
      [kms, "0x1e079198", true],
      [kms, "0x01ffc9a7", true],
      [kms, "0x8fd37527", false],
      [app, "0x1e079198", true],
      [app, "0x8fd37527", true],
      [app, "0x01ffc9a7", true],
      [app, "0xffffffff", false],
    ] as const
  ) assert.equal(await read(contract, "supportsInterface", [id]), expected, id);
  assert.equal(await read(app, "version"), 2n);
});

test("every change of KMS policy is the owner's, has its event, and is told by PolicyChanged", {
  skip,
}, async () => {
  const kms = await deployProxy("DstackKms", [OWNER.address, ZERO]);
  const implementation = await deploy("DstackApp");
  const info = { k256Pubkey: "0x02", caPubkey: "0x03", quote: "0x04", eventlog: "0x05" };
  const label = (text: string) => keccak256(stringToHex(text));
  const cases: [string, unknown[], string, string, Hex, boolean][] = [
    ["addKmsAggregatedMr", [word(3)], "KmsAggregatedMrAdded", "kms-aggregated-mr", word(3), true],
    [
      "removeKmsAggregatedMr",
      [word(3)],
      "KmsAggregatedMrRemoved",
      "kms-aggregated-mr",
      word(3),
      false,
    ],
    ["addKmsDevice", [word(2)], "KmsDeviceAdded", "kms-device", word(2), true],
    ["removeKmsDevice", [word(2)], "KmsDeviceRemoved", "kms-device", word(2), false],
    ["addOsImageHash", [word(4)], "OsImageHashAdded", "os-image", word(4), true],
    ["removeOsImageHash", [word(4)], "OsImageHashRemoved", "os-image", word(4), false],
    ["setGatewayAppId", ["gw"], "GatewayAppIdSet", "gateway-app-id", label("gw"), true],
    ["setKmsInfo", [info], "KmsInfoSet", "kms-info", keccak256("0x02"), true],
    [
      "setAppImplementation",
      [implementation.address],
      "AppImplementationSet",
      "app-implementation",
      pad(implementation.address, { size: 32 }),
      true,
    ],
  ];
  for (const [name, args, event, policy, value, enabled] of cases) {
    await assert.rejects(send(kms, name, args, OTHER), /OwnableUnauthorizedAccount/, name);
    const { events } = await send(kms, name, args);
    assert.deepEqual(events.map((e) => e.name), [event, "PolicyChanged"], name);
    const { actor, ...rest } = events[1]!.args;
    assert.equal(actor, OWNER.address);
    assert.deepEqual(rest, { policy: label(policy), value: value.toLowerCase(), enabled }, name);
  }
  for (const [name, value] of [["setKmsQuote", "0x44"], ["setKmsEventlog", "0x55"]] as const) {
    await assert.rejects(send(kms, name, [value], OTHER), /OwnableUnauthorizedAccount/);
    assert.deepEqual((await send(kms, name, [value])).events, []);
  }
  assert.deepEqual(await read(kms, "kmsInfo"), ["0x02", "0x03", "0x44", "0x55"]);
  assert.equal(await read(kms, "gatewayAppId"), "gw");
  await assert.rejects(send(kms, "setAppImplementation", [ZERO]), /Invalid implementation address/);
});

test(
  "anyone may register and deploy apps, with a real owner and an implementation",
  { skip },
  async () => {
    const bare = await deployProxy("DstackKms", [OWNER.address, ZERO]);
    const args = [OWNER.address, false, true, ZERO_WORD, word(1)];
    await assert.rejects(send(bare, "deployAndRegisterApp", args), /implementation not set/);
    await assert.rejects(send(bare, "registerApp", [ZERO]), /Invalid app ID/);
    const registered = await send(bare, "registerApp", [OTHER.address], OTHER);
    assert.deepEqual(registered.events.map(({ name }) => name), ["AppRegistered", "PolicyChanged"]);
    const { kms, app, events } = await kmsWithApp();
    assert.ok(events.some(({ name }) => name === "AppRegistered"));
    assert.equal(await read(kms, "registeredApps", [app.address]), true);
    assert.equal(await read(app, "owner"), OWNER.address);
    await assert.rejects(
      send(kms, "deployAndRegisterApp", [ZERO, false, true, ZERO_WORD, word(1)]),
      /Invalid owner/,
    );
    const legacy = await send(kms, "deployAndRegisterApp", [
      OTHER.address,
      true,
      false,
      word(2),
      ZERO_WORD,
    ]);
    const address =
      legacy.events.find(({ name }) => name === "AppDeployedViaFactory")!.args["appId"];
    const old = { address: address as Address, abi: app.abi };
    assert.equal(await read(old, "requireTcbUpToDate"), false);
    assert.equal(await read(old, "allowedDeviceIds", [word(2)]), true);
    assert.equal(await read(old, "allowedComposeHashes", [ZERO_WORD]), false, "zero is left out");
  },
);

test("an app's policy is its owner's", { skip }, async () => {
  const { app } = await kmsWithApp();
  const label = (text: string) => keccak256(stringToHex(text));
  const cases: [string, unknown[], string, string, Hex, boolean][] = [
    ["addComposeHash", [word(9)], "ComposeHashAdded", "compose-hash", word(9), true],
    ["removeComposeHash", [word(9)], "ComposeHashRemoved", "compose-hash", word(9), false],
    ["addDevice", [word(8)], "DeviceAdded", "device", word(8), true],
    ["removeDevice", [word(8)], "DeviceRemoved", "device", word(8), false],
    ["setAllowAnyDevice", [false], "AllowAnyDeviceSet", "allow-any-device", ZERO_WORD, false],
    [
      "setRequireTcbUpToDate",
      [true],
      "RequireTcbUpToDateSet",
      "require-tcb-up-to-date",
      ZERO_WORD,
      true,
    ],
    ["disableUpgrades", [], "UpgradesDisabled", "upgrades-disabled", ZERO_WORD, true],
  ];
  for (const [name, args, event, policy, value, enabled] of cases) {
    await assert.rejects(send(app, name, args, OTHER), /OwnableUnauthorizedAccount/, name);
    const { events } = await send(app, name, args);
    assert.deepEqual(events.map((e) => e.name), [event, "PolicyChanged"], name);
    const { policy: told, value: what, enabled: on } = events[1]!.args;
    assert.deepEqual([told, what, on], [label(policy), value, enabled], name);
  }
});

test("ownership moves in two steps", { skip }, async () => {
  const { kms, app } = await kmsWithApp();
  for (const contract of [kms, app]) {
    await assert.rejects(
      send(contract, "transferOwnership", [NEXT.address], OTHER),
      /Unauthorized/,
    );
    await send(contract, "transferOwnership", [NEXT.address]);
    assert.equal(await read(contract, "owner"), OWNER.address);
    assert.equal(await read(contract, "pendingOwner"), NEXT.address);
    await assert.rejects(send(contract, "acceptOwnership", [], OTHER), /Unauthorized/);
    await send(contract, "acceptOwnership", [], NEXT);
    assert.equal(await read(contract, "owner"), NEXT.address);
    await send(contract, "renounceOwnership", [], NEXT);
    assert.equal(await read(contract, "owner"), ZERO);
  }
});

test("initializers run once, and never on an implementation", { skip }, async () => {
  const { kms, app } = await kmsWithApp();
  const five = [OWNER.address, false, true, ZERO_WORD, ZERO_WORD];
  const six = [OWNER.address, false, false, true, ZERO_WORD, ZERO_WORD];
  await assert.rejects(send(kms, "initialize", [OTHER.address, ZERO]), /InvalidInitialization/);
  for (const args of [five, six]) {
    await assert.rejects(send(app, "initialize", args), /InvalidInitialization/);
    await assert.rejects(
      send(await deploy("DstackApp"), "initialize", args),
      /InvalidInitialization/,
    );
  }
  await assert.rejects(
    send(await deploy("DstackKms"), "initialize", [OWNER.address, ZERO]),
    /InvalidInitialization/,
  );
  await assert.rejects(deployProxy("DstackApp", [ZERO, ...five.slice(1)]), /invalid owner address/);
  await assert.rejects(deployProxy("DstackKms", [ZERO, ZERO]), OWNABLE_INVALID_OWNER);
});

test(
  "an upgrade keeps the state, is the owner's, and can be ruled out for good",
  { skip },
  async () => {
    const { kms, app } = await kmsWithApp();
    await send(kms, "addOsImageHash", [word(4)]);
    await send(kms, "setGatewayAppId", ["gw"]);
    const later = await deploy("UpgradedKms");
    const upgrade = [later.address, "0x"];
    await assert.rejects(send(kms, "upgradeToAndCall", upgrade, OTHER), /Unauthorized/);
    const { events } = await send(kms, "upgradeToAndCall", upgrade);
    assert.ok(
      events.some(({ args }) =>
        args["policy"] === keccak256(stringToHex("implementation-upgrade"))
      ),
    );
    const upgraded = { address: kms.address, abi: later.abi };
    await send(upgraded, "setAdded", [7n]);
    assert.equal(await read(upgraded, "added"), 7n);
    assert.equal(await read(upgraded, "allowedOsImages", [word(4)]), true);
    assert.equal(await read(upgraded, "gatewayAppId"), "gw");
    assert.equal(await read(upgraded, "registeredApps", [app.address]), true);
    const slot = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc";
    const stored = await reader().getStorageAt({ address: kms.address, slot });
    assert.equal(stored, pad(later.address, { size: 32 }).toLowerCase());
    await assert.rejects(
      send(upgraded, "upgradeToAndCall", [OTHER.address, "0x"]),
      /reverted|ERC1967/,
    );

    const laterApp = await deploy("UpgradedApp");
    await send(app, "upgradeToAndCall", [laterApp.address, "0x"]);
    const upgradedApp = { address: app.address, abi: laterApp.abi };
    assert.equal(await read(upgradedApp, "generation"), 3n);
    assert.equal(await read(upgradedApp, "allowedComposeHashes", [word(1)]), true);
    await send(upgradedApp, "disableUpgrades");
    await assert.rejects(
      send(upgradedApp, "upgradeToAndCall", [(await deploy("DstackApp")).address, "0x"]),
      /Upgrades are permanently disabled/,
    );
  },
);

test("decisions are those of a model, whatever the owner did", { skip }, async () => {
  const { kms, app } = await kmsWithApp();
  const small = fc.integer({ min: 1, max: 2 });
  const action = fc.oneof(
    fc.record({
      on: fc.constant("kms"),
      what: fc.constantFrom("KmsAggregatedMr", "KmsDevice", "OsImageHash"),
      n: small,
      add: fc.boolean(),
    }),
    fc.record({
      on: fc.constant("app"),
      what: fc.constantFrom("ComposeHash", "Device"),
      n: small,
      add: fc.boolean(),
    }),
    fc.record({
      on: fc.constant("app"),
      what: fc.constantFrom("setAllowAnyDevice", "setRequireTcbUpToDate"),
      n: small,
      add: fc.boolean(),
    }),
  );
  const model = {
    ComposeHash: new Set([1]),
    Device: new Set<number>(),
    KmsAggregatedMr: new Set<number>(),
    KmsDevice: new Set<number>(),
    OsImageHash: new Set<number>(),
  } as Record<string, Set<number>>;
  const flags: Record<string, boolean> = { setAllowAnyDevice: true, setRequireTcbUpToDate: false };
  const question = fc.record({
    compose: small,
    device: small,
    mr: small,
    image: small,
    tcb: fc.constantFrom("UpToDate", "OutOfDate"),
    known: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      action,
      fc.array(question, { minLength: 3, maxLength: 3 }),
      async (act, questions) => {
        const contract = act.on === "kms" ? kms : app;
        if (act.what.startsWith("set")) {
          await send(contract, act.what, [act.add]);
          flags[act.what] = act.add;
        } else {
          await send(contract, `${act.add ? "add" : "remove"}${act.what}`, [word(act.n)]);
          if (act.add) model[act.what]!.add(act.n);
          else model[act.what]!.delete(act.n);
        }
        for (const q of questions) {
          const info = boot({
            appId: q.known ? app.address : OTHER.address,
            composeHash: word(q.compose),
            deviceId: word(q.device),
            mrAggregated: word(q.mr),
            osImageHash: word(q.image),
            tcbStatus: q.tcb,
          });
          const image = model["OsImageHash"]!.has(q.image);
          const forKms = q.tcb !== "UpToDate"
            ? "TCB status is not up to date"
            : !image
            ? "OS image is not allowed"
            : !model["KmsAggregatedMr"]!.has(q.mr)
            ? "Aggregated MR not allowed"
            : !model["KmsDevice"]!.has(q.device)
            ? "KMS is not allowed to boot on this device"
            : "";
          const forApp = !q.known
            ? "App not registered"
            : !image
            ? "OS image is not allowed"
            : flags["setRequireTcbUpToDate"] && q.tcb !== "UpToDate"
            ? "TCB status is not up to date"
            : !model["ComposeHash"]!.has(q.compose)
            ? "Compose hash not allowed"
            : !flags["setAllowAnyDevice"] && !model["Device"]!.has(q.device)
            ? "Device not allowed"
            : "";
          assert.deepEqual(await read(kms, "isKmsAllowed", [info]), [forKms === "", forKms]);
          assert.deepEqual(await read(kms, "isAppAllowed", [info]), [forApp === "", forApp]);
        }
      },
    ),
    { numRuns: 20, endOnFailure: true },
  );
});

test(
  "the chain backend decides by a finalized block, and a hostile app contract denies",
  { skip },
  async () => {
    const { kms, app } = await kmsWithApp();
    const backend = chainBackend({
      endpoints: ["one", "two"].map((name) => ({
        name,
        breaker: new CircuitBreaker({ name, now: () => new Date() }),
        request: (call) => transport()({ chain: foundry }).request(call as never),
      })),
      quorum: 2,
      contract: kms.address,
      chainId: foundry.id,
      now: () => new Date(),
      maxLagMs: 3_600_000,
    });
    const hostile = await deploy("HostileApp");
    const hex = (text: string) => text.slice(2).toLowerCase();
    const info = {
      ...boot({ appId: app.address }),
      teeVariant: "dstack-tdx",
      keyProviderInfo: "",
      appId: hex(app.address),
      composeHash: hex(word(1)),
      instanceId: "",
      deviceId: hex(word(2)),
      mrAggregated: hex(word(3)),
      mrSystem: "",
      osImageHash: hex(word(4)),
    };
    const mine = createTestClient({ mode: "anvil", chain: foundry, transport: transport() });
    await mine.mine({ blocks: 4 });
    assert.equal((await backend.decide("app", info)).reason, "OS image is not allowed");
    await send(kms, "addOsImageHash", [word(4)]);
    await send(kms, "registerApp", [hostile.address], OTHER);
    assert.equal((await backend.decide("app", info)).isAllowed, false, "not final yet");
    await mine.mine({ blocks: 4 });
    const allowed = await backend.decide("app", info);
    assert.equal(allowed.isAllowed, true, allowed.reason);
    const finalized = await reader().getBlock({ blockTag: "finalized" });
    assert.deepEqual(allowed.block, { number: Number(finalized.number), hash: finalized.hash });
    const refused = await backend.decide("app", { ...info, appId: hex(hostile.address) });
    assert.deepEqual([refused.isAllowed, refused.reason], [
      false,
      "App contract refused to answer",
    ]);
  },
);

test("the CLI changes a contract as its owner, and as nobody else", { skip }, async () => {
  const { kms } = await kmsWithApp();
  const keyOf = (from: typeof OWNER) => toHex(from.getHdKey().privateKey!);
  const { dstack } = terminal({
    files: { "owner.key": `0x${keyOf(OWNER)}\n`, "other.key": keyOf(OTHER) },
    fetch: (url, init) => fetch(url, init as RequestInit),
    env: { ETH_RPC_URL: chain.url },
  });
  const hash = word(0xabc);
  const whitelist = ["kms", "whitelist", "image", hash, "--contract", kms.address];
  const refused = await dstack(...whitelist, "--key-file", "other.key");
  assert.notEqual(refused.code, 0);
  assert.equal(await read(kms, "allowedOsImages", [hash]), false);
  const { code, stdout, stderr } = await dstack(...whitelist, "--key-file", "owner.key", "--json");
  assert.equal(code, 0, stderr);
  assert.equal(await read(kms, "allowedOsImages", [hash]), true);
  assert.ok(JSON.parse(stdout).gas > 0);
  const status = await dstack("kms", "status", "--contract", kms.address, "--json");
  assert.equal(JSON.parse(status.stdout).owner, OWNER.address);
});
