import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { composeHash } from "#core/compose/identity.ts";
import { mrConfigIdV1 } from "#core/compose/mr-config.ts";
import { encryptEnv } from "#core/crypto/env-encryption.ts";
import { x25519PublicKey } from "#core/crypto/app-keys.ts";
import { READY_MARKER } from "./setup.ts";
import { type Scenario, testGuest as guest, WORK_DIR } from "./guest.fixture.ts";

describe("setup of an app without a key provider", () => {
  test("measures in the reference's order and ends ready", async () => {
    const vm = guest({});
    await vm.run();
    assert.deepEqual(vm.events.map(({ event }) => event), [
      "system-preparing",
      "app-id",
      "compose-hash",
      "gpu-policy-hash",
      "instance-id",
      "boot-mr-done",
      "key-provider",
      "storage-fs",
      "system-ready",
    ]);
    const payload = (name: string) => vm.events.find(({ event }) => event === name)!.payload;
    const hash = composeHash(vm.composeBytes);
    assert.equal(toHex(payload("compose-hash")), toHex(hash));
    assert.equal(toHex(payload("app-id")), toHex(hash.slice(0, 20)));
    assert.equal(new TextDecoder().decode(payload("key-provider")), '{"name":"none","id":""}');
    assert.equal(new TextDecoder().decode(payload("storage-fs")), "ext4");
    assert.ok(vm.written.has(READY_MARKER));
    assert.deepEqual(vm.notified.map(([event, text]) => event === "instance.info" ? event : text), [
      "requesting app keys",
      "instance.info",
      "initializing data disk",
      "data disk ready",
      "setting up docker",
    ]);
  });

  test("keys and decrypted environment are for root alone", async () => {
    const vm = guest({});
    await vm.run();
    for (const name of [".appkeys.json", ".decrypted-env", ".decrypted-env.json"]) {
      assert.equal(vm.written.get(`${WORK_DIR}/.host-shared/${name}`)?.mode, 0o600, name);
    }
    const keys = JSON.parse(vm.written.get(`${WORK_DIR}/.host-shared/.appkeys.json`)!.text);
    assert.deepEqual(Object.keys(keys.key_provider), ["None"]);
    assert.equal(keys.env_crypt_key, "");
  });

  test("the header reaches the disk after the file system is made, and the host knows the seed", async () => {
    const vm = guest({});
    await vm.run();
    const told = vm.steps.findIndex((step) => step.startsWith("notify instance.info"));
    assert.ok(told >= 0 && told < vm.steps.indexOf("cryptsetup luksFormat"));
    const order = ["cryptsetup luksFormat", "cryptsetup open", "mkfs.ext4 -F", "write header"];
    const at = order.map((step) => vm.steps.indexOf(step));
    assert.deepEqual([...at].sort((a, b) => a - b), at);
    assert.ok(at[0]! >= 0);
    assert.ok(vm.steps.indexOf("write header") < vm.steps.indexOf("mount -t"));
    assert.equal(vm.written.has("/run/dstack/luks/header"), false, "the copy is gone");
  });

  test("docker starts as soon as its directories are there, on the mirror the host names", async () => {
    const vm = guest({ sysConfig: { docker_registry: "http://10.0.2.2:5000" } });
    await vm.run();
    const config = JSON.parse(vm.written.get("/etc/docker/daemon.json")!.text);
    assert.deepEqual(config, {
      "registry-mirrors": ["http://10.0.2.2:5000"],
      "insecure-registries": ["10.0.2.2:5000"],
    });
    for (const path of ["/var/lib/docker", "/var/lib/containerd", "/dstack"]) {
      assert.ok(vm.mounted.has(path), path);
    }
    assert.ok(vm.steps.lastIndexOf("mount --rbind") < vm.steps.indexOf("systemctl start"));
    assert.ok(vm.steps.indexOf("meanwhile") < vm.steps.indexOf("systemctl start"));
  });

  test("init scripts run before docker does", async () => {
    const vm = guest({ compose: { initScripts: ["echo one"] } });
    await vm.run();
    assert.ok(vm.steps.indexOf("bash -e") < vm.steps.indexOf("systemctl start"));
    assert.equal(vm.events.filter(({ event }) => event === "init-script-hash").length, 1);
  });

  test("accepts the host's launch binding when it is this app's, and no other", async () => {
    const own = guest({}).composeBytes;
    await guest({ mrConfigId: mrConfigIdV1(composeHash(own)) }).run();
    const vm = guest({ mrConfigId: mrConfigIdV1(new Uint8Array(32).fill(1)) });
    await assert.rejects(vm.run(), { code: "measurement/mr-config-mismatch" });
    assert.equal(vm.written.has(`${WORK_DIR}/.host-shared/.appkeys.json`), false);
    assert.equal(vm.events.some(({ event }) => event === "key-provider"), false);
  });

  test("keeps the app id and forgets the seed of an earlier boot", async () => {
    const info = { app_id: "aa".repeat(20), instance_id_seed: "bb".repeat(20), instance_id: "" };
    const vm = guest({ instanceInfo: JSON.stringify(info) });
    await vm.run();
    const sent = JSON.parse(vm.notified.find(([event]) => event === "instance.info")![1]);
    assert.equal(sent.app_id, "aa".repeat(20));
    assert.equal(sent.instance_id_seed, "09".repeat(20));
  });

  test("a second run in a boot that is ready does nothing", async () => {
    const vm = guest({});
    await vm.run();
    const before = vm.steps.length;
    await vm.run();
    assert.equal(vm.steps.length, before);
  });

  test("a boot that was measured before and failed is not measured twice", async () => {
    const event = { event: "system-preparing", payload: new Uint8Array(), version: 1 as const };
    const vm = guest({ loggedBefore: [event] });
    await assert.rejects(vm.run(), { code: "guest/tee" });
    assert.equal(vm.events.length, 1);
  });
});

describe("what stops a boot", () => {
  const REFUSED: [string, Scenario, RegExp][] = [
    ["a compose that is no JSON", { composeText: "nope" }, /^input\/malformed: /],
    ["a repeated member", { composeText: '{"name":"a","name":"b"}' }, /^input\/malformed: /],
    ["zfs", { compose: { storageFs: "zfs" } }, /^compose\/unsupported: .*ZFS/],
    ["a local key provider", { compose: { keyProvider: "local" } }, /^compose\/unsupported: /],
    ["a tpm key provider", { compose: { keyProvider: "tpm" } }, /^compose\/unsupported: /],
    [
      "another platform",
      { compose: { requirements: { platforms: ["dstack-amd-sev-snp"] } } },
      /^compose\/requirement-unmet: /,
    ],
    ["no KMS", { compose: { keyProvider: "kms" } }, /^config\/invalid: No KMS URLs are set/],
    ["a sys-config without vm_config", { sysConfig: { vm_config: null } }, /vm_config/],
    ["a pin on the KMS", { compose: { keyProviderId: utf8("x") } }, /^guest\/kms-untrusted: /],
    [
      "a disk that cannot be opened",
      { failing: { program: "cryptsetup", stderr: "No key available" } },
      /^guest\/disk: .*No key available/,
    ],
  ];
  for (const [name, scenario, expected] of REFUSED) {
    test(`${name} is told to the host and printed`, async () => {
      const vm = guest(scenario);
      await assert.rejects(vm.run());
      const errors = vm.notified.filter(([event]) => event === "boot.error");
      if (!name.startsWith("a sys-config")) {
        assert.equal(errors.length, 1);
        assert.match(errors[0]![1], expected);
      }
      assert.equal(vm.consoleLines.length, 1);
      assert.match(vm.consoleLines[0]!, /^dstack-boot-error code=[a-z]+\/[a-z-]+ \S/);
      assert.equal(vm.consoleLines[0]!.includes("\n"), false);
      assert.equal(vm.written.has(READY_MARKER), false);
    });
  }

  test("policy comes before the first key request, and before anything is measured", async () => {
    const requirements = { os_version: ">=99.0.0" };
    const vm = guest({
      compose: { keyProvider: "kms", requirements },
      sysConfig: { kms_urls: ["https://kms"] },
    });
    await assert.rejects(vm.run());
    assert.equal(vm.steps.includes("KMS request"), false);
    assert.equal(vm.events.length, 0);
  });

  test("keys are asked for after boot-mr-done, and a refusal ends the boot", async () => {
    const vm = guest({
      compose: { keyProvider: "kms" },
      sysConfig: { kms_urls: ["https://kms"] },
    });
    await assert.rejects(vm.run(), { code: "guest/kms-refused" });
    assert.ok(vm.steps.indexOf("event boot-mr-done") < vm.steps.indexOf("KMS request"));
    assert.equal(vm.events.at(-1)?.event, "boot-mr-done");
    assert.match(vm.notified.at(-1)![1], /^guest\/kms-refused: .*Boot denied: not today/);
  });

  test("the console never shows the plaintext of an environment", async () => {
    const secret = new Uint8Array(32).fill(5);
    const env = encryptEnv(x25519PublicKey(secret), [{ key: "PASSWORD", value: "hunter2" }]);
    const vm = guest({ encryptedEnv: env });
    await vm.run(); // no KMS, no key for it: it stays closed
    assert.equal(vm.written.get(`${WORK_DIR}/.host-shared/.decrypted-env`)?.text, "");
    assert.doesNotMatch(JSON.stringify([vm.notified, vm.consoleLines]), /hunter2/);
  });
});
