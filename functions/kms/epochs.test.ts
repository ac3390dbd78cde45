import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { verifyEpochManifest } from "#core/crypto/epoch-manifest.ts";
import { k256PublicKey } from "#core/crypto/k256.ts";
import { createKmsApp } from "./app.ts";
import { type EpochRegistryPort, RootEpochs } from "./epochs.ts";
import {
  APP_ID,
  clientCertificate,
  fakePorts,
  KEYS,
  memoryFiles,
  memoryRegistry,
  NOW,
} from "./fakes.ts";
import type { KeyFiles } from "./key-store.ts";

async function setup() {
  const fakes = await fakePorts();
  const app = createKmsApp(fakes.ports);
  const post = async (path: string, body: object = {}) => {
    const request = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    };
    const response = await app.request(path, request, { peerCertificate: clientCertificate() });
    // deno-lint-ignore no-explicit-any
    return { status: response.status, body: await response.json() as any };
  };
  return { ...fakes, app, post };
}

// kms.md 11.2
const EPOCH_0 = {
  epoch: 0,
  disk_crypt_key: "1fef665a1667042d9d3e16305ac19dff2082d4fa6b0d27505bb9e6b7379bb58d",
  env_crypt_key: "a7470db8cfdd0fe24134b461d60766afa7c078abe6dce9f2c8a5c44034ca400e",
  k256_key: "88fa429170ad091e0f87b335ba19b1729610ac25441728807ce3325161846baf",
  k256_signature: "9ec2e6deec77b3584de4c6406034b39a4e4a04643cbf56655247774c1a15f03e" +
    "73970201967d270928b41fec3cfdbb7538adc5d4fbd328c10c6927621024f00800",
};

test("epoch 0 is the reference's, and an app gets both until it has re-wrapped", async () => {
  const { ports, post, rows } = await setup();
  assert.deepEqual((await post("/v1/app-keys")).body.epochs, [EPOCH_0]);
  await ports.epochs.rotate(ports);
  const both = (await post("/v1/app-keys")).body.epochs;
  assert.deepEqual(both[0], EPOCH_0);
  assert.equal(both.length, 2);
  for (const name of ["disk_crypt_key", "env_crypt_key", "k256_key"] as const) {
    assert.notEqual(both[1][name], EPOCH_0[name]);
  }
  assert.equal((await post("/prpc/GetAppKey")).body.disk_crypt_key, EPOCH_0.disk_crypt_key);
  const later = await post("/v1/app-keys", { rewrapped_epoch: 1 });
  assert.deepEqual(later.body.epochs, [both[1]]);
  assert.deepEqual((await post("/v1/app-keys")).body.epochs, [both[1]]);
  assert.equal((await post("/prpc/GetAppKey")).body.disk_crypt_key, both[1].disk_crypt_key);
  assert.deepEqual((await post("/v1/app-keys", { rewrapped_epoch: 0 })).body.epochs, [both[1]]);
  assert.deepEqual(rows.map(({ method, epoch }) => `${method} ${epoch}`), [
    "GetAppKeys 0",
    "Rotate 1",
    "GetAppKeys 1",
    "GetAppKey 1",
    "GetAppKeys 1",
    "GetAppKeys 1",
    "GetAppKey 1",
    "GetAppKeys 1",
  ]);
});

test("an epoch that is not there is refused, and so is a body that does not fit", async () => {
  const { post } = await setup();
  for (const body of [{ rewrapped_epoch: 1 }, { rewrapped_epoch: -1 }, { epoch: 0 }]) {
    assert.equal((await post("/v1/app-keys", body)).status, 400, JSON.stringify(body));
  }
  assert.equal((await post("/v1/app-keys", { vm_config: "x".repeat(2 ** 21) })).status, 413);
});

test("a denial under /v1 names its reason", async () => {
  const { post, answers } = await setup();
  answers.boot = () => ({ isAllowed: false, gatewayAppId: "", reason: "compose hash not allowed" });
  const { status, body } = await post("/v1/app-keys");
  assert.deepEqual([status, body.reason], [403, "auth/compose-hash-not-allowed"]);
  assert.equal((await post("/v1/kms-keys")).body.reason, "auth/compose-hash-not-allowed");
});

test("a denial says how to mend it, and a backend's own trouble keeps its code", async () => {
  const { app, answers, rows } = await setup();
  const remedy = `add ${"22".repeat(32)} to apps`;
  answers.boot = () => ({
    isAllowed: false,
    gatewayAppId: "",
    reason: "app not registered",
    remedy,
  });
  const ask = () => {
    const bindings = { peerCertificate: clientCertificate() };
    return app.request("/prpc/GetAppKey?json", { method: "POST" }, bindings);
  };
  const refused = await ask();
  assert.equal(refused.headers.get("x-error-reason"), "auth/app-not-registered");
  assert.equal(refused.headers.get("x-error-remedy"), remedy);
  const block = { number: 7, hash: `0x${"ab".repeat(32)}` };
  for (
    const [code, expected] of [["auth/chain-stale", "auth/chain-stale"], ["kms/x", "auth/denied"]]
  ) {
    answers.boot = () => ({
      isAllowed: false,
      gatewayAppId: "",
      reason: "no",
      code,
      rule: "c",
      block,
    });
    assert.equal((await ask()).headers.get("x-error-reason"), expected);
  }
  const { rule, blockNumber, blockHash } = rows.at(-1)!;
  assert.deepEqual([rule, blockNumber, blockHash], ["c", 7, block.hash]);
});

test("another KMS gets the epochs after the first", async () => {
  const { ports, post, asked } = await setup();
  const made = await ports.epochs.rotate(ports);
  const { epochs } = (await post("/v1/kms-keys")).body;
  assert.equal(asked.at(-1)!.role, "kms");
  assert.deepEqual(epochs, [{
    epoch: 1,
    created_at_ms: NOW.getTime(),
    ca_key: toHex(made.caKey),
    k256_key: toHex(made.k256Key),
  }]);
});

test("the manifest is signed by every epoch and by nobody else", async () => {
  const { ports, app } = await setup();
  await ports.epochs.rotate(ports);
  const manifest = await (await app.request("/v1/epochs")).json();
  const trusted = k256PublicKey(KEYS.k256Key);
  verifyEpochManifest(manifest, trusted);
  verifyEpochManifest(manifest, fromHex(manifest.epochs[1].k256_public_key));
  const refused = { code: "crypto/invalid-signature" };
  assert.throws(
    () => verifyEpochManifest(manifest, k256PublicKey(new Uint8Array(32).fill(9))),
    refused,
  );
  const other = { ...manifest.epochs[1], ca_public_key: "00" };
  for (
    const changed of [
      { ...manifest, epochs: [manifest.epochs[0], other] },
      { ...manifest, epochs: [manifest.epochs[0]] },
      { ...manifest, epochs: [manifest.epochs[1]], signatures: [manifest.signatures[1]] },
      { ...manifest, signatures: manifest.signatures.toReversed() },
      { ...manifest, issued_at: "2030-01-01T00:00:00Z" },
    ]
  ) assert.throws(() => verifyEpochManifest(changed, trusted), refused);
});

class Killed extends Error {}

/** Lets `left` more calls through, before or after they took effect, then dies at every one. */
function dying<T extends object>(
  port: T,
  countdown: { left: number },
  when: "before" | "after",
): T {
  return Object.fromEntries(
    Object.entries(port).map(([name, call]) => [
      name,
      async (...args: unknown[]) => {
        if (when === "before" && countdown.left-- <= 0) throw new Killed(name);
        const result = await call(...args);
        if (when === "after" && countdown.left-- <= 0) throw new Killed(name);
        return result;
      },
    ]),
  ) as T;
}

for (const when of ["before", "after"] as const) {
  test(`a rotation killed ${when} any of its steps goes on with the same keys`, async () => {
    let survived = false;
    for (let step = 0; !survived; step++) {
      assert.ok(step < 30);
      const { ports } = await fakePorts();
      const files = memoryFiles();
      const registry = memoryRegistry();
      const open = (files: KeyFiles, registry: EpochRegistryPort) =>
        RootEpochs.open(files, registry, KEYS, NOW.getTime());
      await open(files, registry);
      const countdown = { left: step };
      const { read, write, remove } = files;
      const dyingFiles = dying({ read, write, remove }, countdown, when);
      const dyingRegistry = dying(registry, countdown, when);
      const dyingPorts = { ...ports, decisions: { ...ports.decisions } };
      dyingPorts.decisions.append =
        dying({ append: ports.decisions.append }, countdown, when).append;
      let made;
      try {
        made = await (await open(dyingFiles, dyingRegistry)).rotate(dyingPorts);
        survived = true;
      } catch {
        // killed: whatever was held in memory is gone
      }
      const registered = (await registry.list())[1];
      const epochs = await open(files, registry);
      const finished = await epochs.resume(ports) ?? epochs.list()[1] ?? await epochs.rotate(ports);
      if (made !== undefined) assert.deepEqual(finished.caKey, made.caKey);
      const row = (await registry.list())[1]!;
      if (registered !== undefined) assert.deepEqual(row, registered, `step ${step}`);
      assert.equal(row.k256PublicKey, toHex(k256PublicKey(finished.k256Key)));
      assert.equal(epochs.list().length, 2, `step ${step}`);
      assert.deepEqual([...files.contents.keys()], ["root-epochs.json"], `step ${step}`);
      const log = await ports.decisions.list({ limit: 10 });
      assert.ok(log.some(({ method, outcome }) => method === "Rotate" && outcome === "released"));
      const reopened = await open(files, registry);
      assert.deepEqual(reopened.list(), epochs.list());
      verifyEpochManifest(await reopened.manifest(NOW), k256PublicKey(KEYS.k256Key));
    }
  });
}

test("of two KMSs that rotate at once one wins, and the other says that it lacks the epoch", async () => {
  const registry = memoryRegistry();
  const { ports } = await fakePorts();
  const [a, b] = await Promise.all(
    [0, 1].map(() => RootEpochs.open(memoryFiles(), registry, KEYS, NOW.getTime())),
  ) as [RootEpochs, RootEpochs];
  const ended = await Promise.allSettled([a.rotate(ports), b.rotate(ports)]);
  assert.deepEqual(ended.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  const [winner, loser] = a.list().length === 2 ? [a, b] : [b, a];
  await assert.rejects(loser.all(), {
    code: "kms/not-ready",
    fields: { reason: "kms/epoch-missing" },
  });
  await assert.rejects(loser.rotate(ports), { fields: { reason: "kms/epoch-missing" } });
  await assert.rejects(loser.adopt([{ ...winner.list()[1]!, k256Key: KEYS.k256Key }], {}), {
    code: "upstream/invalid",
  });
  await loser.adopt(winner.list().slice(1), {});
  assert.deepEqual(loser.list()[1], winner.list()[1]);
  await loser.adopt(winner.list().slice(1), {});
  assert.equal((await loser.all()).length, 2);
});

test("a KMS with other root keys does not use the same database", async () => {
  const registry = memoryRegistry();
  await RootEpochs.open(memoryFiles(), registry, KEYS, 0);
  const other = { ...KEYS, caKey: KEYS.tempCaKey };
  await assert.rejects(RootEpochs.open(memoryFiles(), registry, other, 0), {
    code: "config/invalid",
  });
});

test("what an instance re-wrapped to is its own affair", async () => {
  const { ports } = await setup();
  await ports.epochs.rotate(ports);
  await ports.epochs.setRewrapped(APP_ID, "", 1, 0);
  assert.equal(await ports.epochs.rewrapped(APP_ID, ""), 1);
  assert.equal(await ports.epochs.rewrapped(APP_ID, "33".repeat(20)), 0);
});
