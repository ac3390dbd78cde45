import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "#core/bytes/bytes.ts";
import { COMPOSE, fakeHost, request } from "./fake-host.fixture.ts";

/** `sha256sum` of COMPOSE. */
const COMPOSE_HASH = "e2b8efcac823b6877899b58dd6f6c7fc0ba81c4068c7313c064c43b972860cb0";
const SHARED = "/run/vm/vm-1/shared";
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

test("a created CVM runs and finds what it needs in its share", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request({ userConfig: "hi" }));
  const entry = host.inventory.require(id);
  assert.equal(entry.running, true);
  assert.equal(entry.cvm.bootProgress, "booting");
  assert.equal(entry.cvm.composeHash, COMPOSE_HASH);
  assert.equal(entry.cvm.appId, entry.cvm.composeHash.slice(0, 40));
  assert.equal(text(host.content.get(`${SHARED}/app-compose.json`)), COMPOSE);
  assert.equal(text(host.content.get(`${SHARED}/.user-config`)), "hi");
  assert.deepEqual(JSON.parse(text(host.content.get(`${SHARED}/.instance_info`))), {
    app_id: entry.cvm.appId,
  });
  const sys = JSON.parse(text(host.content.get(`${SHARED}/.sys-config.json`)));
  assert.deepEqual(sys.kms_urls, ["https://10.0.2.2:9001"]);
  assert.equal(sys.host_api_url, "http://10.0.2.2:9100/api");
  assert.equal(sys.host_api_token, "01".repeat(32));
  assert.deepEqual(sys.collateral_urls, { pccs: "http://10.0.2.2:9100" });
  const vmConfig = JSON.parse(sys.vm_config);
  assert.equal(vmConfig.memory_size, 2 ** 31);
  assert.equal(vmConfig.tdx_attestation_variant, "lite");
  assert.equal(vmConfig.spec_version, 1);
  assert.ok(vmConfig.tdx_measurement.checksum_file);
  assert.ok(!/root_ca|trust_anchor|tee_simulator/.test(JSON.stringify(sys)));
});

test("the argument vector carries forwards for the app and for dstackd itself", async () => {
  using host = await fakeHost();
  await host.vmm.create(request({
    ports: [{ protocol: "tcp", hostPort: 8080, vmPort: 80, hostAddress: "" }],
  }));
  const argv = host.fake.launched[0]!;
  const netdev = argv[argv.indexOf("-netdev") + 1]!;
  assert.match(netdev, /,hostfwd=tcp:127\.0\.0\.1:8080-:80,/);
  assert.match(netdev, /,hostfwd=tcp:127\.0\.0\.1:\d+-:8090,hostfwd=tcp:127\.0\.0\.1:\d+-:8000$/);
  assert.ok(!argv.includes("-bios"), "the simulated TEE starts without the image's firmware");
  assert.ok(!argv.join(" ").includes("01".repeat(32)), "the Host API token is not in argv");
});

test("a start that fails leaves nothing of a new CVM behind", async () => {
  using host = await fakeHost();
  host.fake.state.dieAtOnce =
    "===== boot @ now =====\nqemu: -netdev user: Could not set up host forwarding rule 'tcp::80'\n";
  await assert.rejects(host.vmm.create(request()), { code: "host/port-taken" });
  assert.deepEqual(host.inventory.all(), []);
  assert.deepEqual([...host.content.keys()].filter((path) => path.startsWith("/run/vm")), []);
  assert.deepEqual(await host.store.allCvms(), []);
});

test("stop kills, start runs anew with zero RTMR3, both are idempotent", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const before = await host.store.findSimulatedTd(id);
  await host.tds.extend(id, 3, new Uint8Array(48).fill(1));
  assert.notEqual((await host.store.findSimulatedTd(id))?.rtmr3, before?.rtmr3);

  await host.vmm.stop(id);
  await host.vmm.stop(id);
  const entry = host.inventory.require(id);
  assert.deepEqual([entry.running, entry.cvm.started], [false, false]);
  assert.equal(host.fake.alive.size, 0);

  await host.vmm.start(id);
  await host.vmm.start(id);
  assert.equal(host.fake.launched.length, 2);
  assert.deepEqual(await host.store.findSimulatedTd(id), before);
});

test("a dstackd that was killed adopts its VMs without starting them again", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const pid = host.inventory.require(id).run?.pid;
  await host.restart();
  await host.watcher.adopt();
  const entry = host.inventory.require(id);
  assert.equal(entry.running, true);
  assert.equal(entry.run?.pid, pid);
  assert.equal(host.fake.launched.length, 1);
  assert.ok(host.inventory.findByHostApiToken("01".repeat(32)) === entry);
  await host.vmm.stop(id);
  assert.equal(host.fake.alive.size, 0);
});

test("a process that took over the pid of a dead VM is not taken for it", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const { run } = host.inventory.require(id);
  await host.store.saveRun({ ...run!, startTicks: "1" });
  await host.vmm.stop(id);
  await host.store.saveRun({ ...run!, startTicks: "1", exitedAtMs: null });
  host.fake.alive.add(run!.pid);
  await host.restart();
  await host.watcher.adopt();
  assert.equal(host.inventory.require(id).running, false);
  assert.ok(host.fake.alive.has(run!.pid), "the stranger was left alone");
});

test("a QEMU that a killed dstackd had no time to write down does not run twice", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const { run } = host.inventory.require(id);
  // As if dstackd had been killed between starting QEMU and its row.
  await host.store.endRun(id, host.clock.now);
  await host.restart();
  await host.watcher.adopt();
  const entry = host.inventory.require(id);
  await entry.queue.run(async () => {});
  assert.equal(host.fake.alive.size, 1);
  assert.ok(!host.fake.alive.has(run!.pid), "the stray was ended before its successor started");
  assert.equal(entry.running, true);
});

test("a VM that dies is noticed at the next look and started again within its budget", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const entry = host.inventory.require(id);
  const tick = async (seconds: number) => {
    host.clock.now += seconds * 1000;
    await host.watcher.turn();
    await entry.queue.run(async () => {}); // restarts go through the queue
  };
  await tick(1);
  host.fake.alive.clear();
  await tick(1);
  assert.equal(entry.running, false);
  await tick(2);
  assert.equal(entry.running, true, "restarted after its backoff");
  assert.equal(host.fake.launched.length, 2);

  host.fake.state.dieAtOnce = "boom";
  host.fake.alive.clear();
  for (let i = 0; i < 10; i++) await tick(10);
  const events = (await host.store.eventsOf([id])).map(({ event }) => event);
  assert.equal(events.at(-1), "vmm.auto_restart.exhausted");
  assert.match(entry.cvm.bootError, /^cvm\/launch-failed: QEMU ended at once: boom/);
});

test("the serial log explains a boot that stopped", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const entry = host.inventory.require(id);
  await host.files.append(
    "/run/vm/vm-1/serial.log",
    "[    2.1] device-mapper: verity: 254:1: data block 5 is corrupted\n",
  );
  host.fake.alive.clear();
  await host.watcher.turn();
  assert.equal(entry.running, false);
  assert.match(entry.cvm.bootError, /^boot\/rootfs-corrupt: /);
  const events = (await host.store.eventsOf([id])).map(({ event }) => event);
  assert.deepEqual(events, ["vmm.start", "boot.error", "vmm.exited"]);
});

test("a compose file changed on the host keeps the CVM from starting", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request({ stopped: true }));
  host.content.set(`${SHARED}/app-compose.json`, utf8(COMPOSE.replace("hello", "hullo")));
  await assert.rejects(host.vmm.start(id), { code: "cvm/compose-changed" });
  assert.equal(host.fake.launched.length, 0);
  assert.match(host.inventory.require(id).cvm.bootError, /^cvm\/compose-changed: /);
});

test("an image that does not match its checksum list is not used", async () => {
  using host = await fakeHost();
  host.content.set("/images/dstack-dev-0.6.0/bzImage", utf8("kernel!"));
  await assert.rejects(host.vmm.create(request()), { code: "image/digest-mismatch" });
  assert.equal(host.fake.launched.length, 0);
  await assert.rejects(host.vmm.create(request({ image: "none" })), { code: "image/not-found" });
});

test("a production image is refused where the TEE is simulated", async () => {
  using host = await fakeHost();
  await assert.rejects(host.vmm.create(request({ image: "dstack-0.6.0" })), {
    code: "host/tee-unavailable",
    message: /built for TEE 'tdx', this host offers 'sim'/,
  });
});

test("memory no measurement document covers is refused", async () => {
  using host = await fakeHost();
  for (const memory of [1024, 2047, 2815]) {
    await assert.rejects(host.vmm.create(request({ memory })), { code: "input/unsupported" });
  }
  await host.vmm.create(request({ memory: 2816 }));
});

test("a host port of another CVM is refused whether that one runs or not", async () => {
  using host = await fakeHost();
  const ports = [{ protocol: "tcp", hostPort: 8080, vmPort: 80, hostAddress: "" }];
  await host.vmm.create(request({ ports, stopped: true }));
  await assert.rejects(host.vmm.create(request({ ports })), { code: "host/port-taken" });
});

test("shutdown asks the guest, and presses the power button when it is silent", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  await host.vmm.shutDown(id);
  assert.deepEqual(host.shutdowns, [id]);
  assert.equal(host.inventory.require(id).cvm.started, false);
  host.guest.answers = false;
  await host.vmm.shutDown(id);
  assert.ok(host.fake.commands.includes("system_powerdown"));
});

test("a start during a shutdown waits for its end, then starts anew", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  await host.vmm.shutDown(id);
  const starting = host.vmm.start(id);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(host.fake.launched.length, 1);
  host.fake.alive.clear();
  await starting;
  const entry = host.inventory.require(id);
  assert.deepEqual([host.fake.launched.length, entry.running, entry.cvm.started], [2, true, true]);
});

test("remove ends the VM and leaves neither files nor rows", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const entry = host.inventory.require(id);
  await host.vmm.remove(id);
  await host.vmm.remove(id);
  await entry.queue.run(async () => {});
  assert.equal(host.fake.alive.size, 0);
  assert.equal(host.inventory.find(id), undefined);
  assert.deepEqual(await host.store.allCvms(), []);
  assert.deepEqual(await host.store.allRuns(), []);
  assert.deepEqual([...host.content.keys()].filter((path) => path.startsWith("/run/vm")), []);
});

test("an update replaces what it names and checks before it writes anything", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request({ stopped: true }));
  const nothing = { composeFile: "", encryptedEnv: new Uint8Array(), userConfig: "" };
  const changed = COMPOSE.replace("hello", "hullo");
  const before = host.inventory.require(id).cvm;
  await assert.rejects(
    host.vmm.update(id, { ...nothing, composeFile: changed, diskSize: 5 }),
    { message: "Cannot shrink disk size" },
  );
  assert.deepEqual(host.inventory.require(id).cvm, before);
  assert.equal(text(host.content.get(`${SHARED}/app-compose.json`)), COMPOSE);

  const newAppId = await host.vmm.update(id, {
    ...nothing,
    composeFile: changed,
    kmsUrls: ["https://kms.example"],
    vcpu: 4,
  });
  const { cvm } = host.inventory.require(id);
  assert.equal(cvm.appId, before.appId, "an upgrade keeps its app id");
  assert.equal(newAppId, cvm.composeHash.slice(0, 40));
  assert.deepEqual([cvm.vcpu, cvm.kmsUrls], [4, ["https://kms.example"]]);
  await host.vmm.start(id);
  await assert.rejects(host.vmm.update(id, { ...nothing, vcpu: 2 }), {
    message: `vm should be stopped before resize: ${id}`,
  });
});

test("two requests for one host port at the same time do not both get it", async () => {
  using host = await fakeHost();
  const ports = [{ protocol: "tcp", hostPort: 8080, vmPort: 80, hostAddress: "" }];
  const results = await Promise.allSettled([
    host.vmm.create(request({ ports })),
    host.vmm.create(request({ ports })),
  ]);
  assert.deepEqual(results.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
});

test("a guest that prints without end does not fill the disk", async () => {
  using host = await fakeHost();
  const id = await host.vmm.create(request());
  const path = `/run/vm/${id}/serial.log`;
  await host.files.append(path, "x".repeat(2000) + "\n");
  host.clock.now += 2000;
  await host.watcher.turn();
  const log = text(host.content.get(path));
  assert.match(
    log,
    /^\n===== rotated \d+ bytes to serial\.log\.1 @ 2026-01-01T00:00:02Z =====\n\n$/,
  );
  assert.match(text(host.content.get(`${path}.1`)), /xxx\n$/);
  await host.files.append(path, "[1.0] Kernel panic - not syncing: Attempted to kill init!\n");
  await host.watcher.turn();
  assert.match(host.inventory.require(id).cvm.bootError, /^boot\/kernel-panic: /);
});

test("the simulated TEE, which user networking reaches, needs it", async () => {
  using host = await fakeHost();
  const networks = [{ mode: "bridge", bridgeName: "br0" }];
  await assert.rejects(host.vmm.create(request({ networks })), { code: "input/unsupported" });
  await host.vmm.create(request({ networks, noTee: true }));
});
