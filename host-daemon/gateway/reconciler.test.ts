import assert from "node:assert/strict";
import { test } from "node:test";
import type { Instance } from "#functions/gateway/ports.ts";
import { RouteTable } from "#functions/gateway/route-table.ts";
import { Reconciler } from "./reconciler.ts";

const NOW = 1_000_000;

function instance(n: number, change: Partial<Instance> = {}): Instance {
  return {
    instanceId: `${n}`,
    appId: "app",
    address: `10.0.0.${n}`,
    publicKey: `key${n}`,
    registeredAt: NOW,
    composeHash: "",
    reportedPolicy: { ports: [], restrictMode: false },
    adminPolicy: undefined,
    lastHandshake: 0,
    ...change,
  };
}

function scene() {
  const now = () => new Date(NOW * 1000);
  const table = new RouteTable({
    connectTopN: 3,
    handshakeStaleSeconds: 1800,
    baseDomains: () => ["example.com"],
    now,
  });
  const seen = {
    rows: [instance(2)],
    synced: [] as string[],
    refreshed: 0,
    reads: 0,
    ups: 0,
    removed: [] as string[],
    stored: [] as [string, number][],
    errors: [] as string[],
    handshakes: new Map<string, number>(),
    syncFails: false,
    interfaceGone: false,
  };
  const reconciler = new Reconciler({
    table,
    now,
    instances: async () => {
      seen.reads++;
      await Promise.resolve();
      return seen.rows;
    },
    syncPeers: (peers) => {
      if (seen.syncFails) return Promise.reject(new Error("wg"));
      seen.synced.push(peers.map((peer) => peer.address).join(" "));
      return Promise.resolve();
    },
    handshakes: () =>
      seen.interfaceGone ? Promise.reject(new Error("gone")) : Promise.resolve(seen.handshakes),
    interfaceUp: () => {
      seen.ups++;
      seen.interfaceGone = false;
      return Promise.resolve();
    },
    refreshRoutes: () => {
      seen.refreshed++;
      return Promise.resolve();
    },
    storeHandshakes: (handshakes) => {
      seen.stored = [...handshakes];
      return Promise.resolve();
    },
    removeInstance: ({ instanceId }) => {
      seen.removed.push(instanceId);
      seen.rows = seen.rows.filter((row) => row.instanceId !== instanceId);
      return Promise.resolve(true);
    },
    onError: (message) => seen.errors.push(message),
  });
  return { reconciler, table, seen };
}

test("peers are written when they change, routes each time", async () => {
  const { reconciler, seen } = scene();
  await reconciler.apply();
  await reconciler.apply();
  seen.rows = [instance(2), instance(3)];
  await reconciler.apply();
  assert.deepEqual(seen.synced, ["10.0.0.2", "10.0.0.2 10.0.0.3"]);
  assert.equal(seen.refreshed, 3);
});

test("calls at once share runs, and the last one sees the newest rows", async () => {
  const { reconciler, seen } = scene();
  const first = reconciler.apply();
  seen.rows = [instance(2), instance(3)];
  await Promise.all([first, ...Array.from({ length: 10 }, () => reconciler.apply())]);
  assert.equal(seen.reads, 2);
  assert.equal(seen.synced.at(-1), "10.0.0.2 10.0.0.3");
});

test("peers that could not be written are written by a later tick", async () => {
  const { reconciler, seen } = scene();
  seen.syncFails = true;
  await reconciler.apply();
  assert.deepEqual([seen.synced, seen.errors], [[], ["applying tunnel peers"]]);
  assert.equal(seen.refreshed, 1); // routes do not wait for the tunnel
  seen.syncFails = false;
  await reconciler.tick();
  assert.deepEqual(seen.synced, ["10.0.0.2"]);
});

test("a tunnel interface that is gone is made again with all its peers", async () => {
  const { reconciler, seen } = scene();
  await reconciler.tick();
  seen.interfaceGone = true;
  await reconciler.tick();
  assert.equal(seen.ups, 1);
  assert.deepEqual(seen.synced, ["10.0.0.2", "10.0.0.2"]);
});

test("a handshake makes an app reachable by its app id", async () => {
  const { reconciler, table, seen } = scene();
  await reconciler.apply();
  assert.equal(reconciler.awaitsHandshake, true);
  assert.deepEqual(table.decide("app.example.com"), {
    kind: "refused",
    reason: "no-healthy-instance",
  });
  seen.handshakes = new Map([["key2", NOW - 1]]);
  await reconciler.tick();
  assert.equal(table.decide("app.example.com").kind, "forward");
  assert.equal(reconciler.awaitsHandshake, false);
});

test("CVMs silent for longer than the timeout are removed, by registration and handshake", async () => {
  const { reconciler, seen } = scene();
  const old = NOW - 40_000;
  seen.rows = [
    instance(2, { registeredAt: old }),
    instance(3, { registeredAt: old, lastHandshake: NOW - 100 }),
    instance(4, { registeredAt: old }),
    instance(5),
  ];
  seen.handshakes = new Map([["key4", NOW - 10], ["key5", 0]]);
  await reconciler.tick();
  await reconciler.recycle(36_000);
  assert.deepEqual(seen.removed, ["2"]);
  assert.deepEqual(seen.stored, [["key4", NOW - 10]]);
  assert.equal(seen.synced.at(-1), "10.0.0.3 10.0.0.4 10.0.0.5");
});
