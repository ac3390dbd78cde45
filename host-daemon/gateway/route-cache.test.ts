import assert from "node:assert/strict";
import { test } from "node:test";
import type { RouteDecision } from "#functions/gateway/route.ts";
import { RouteCache } from "./route-cache.ts";
import { SLOT_QUARANTINE_MS, UpstreamSlots } from "./upstream-slots.ts";

const MAP = "/run/routes.map";
const SLOTS = { plain: 2, proxied: 1, servers: 3 };

/** A cache over a map that is played by an object, as HAProxy's own would be. */
function scene(decide: (host: string) => RouteDecision) {
  const map = new Map<string, string>();
  const commands: string[] = [];
  const refusals: string[] = [];
  const errors: unknown[] = [];
  const clock = { now: 1_000_000 };
  const state = { failing: false, decide };
  const slots = new UpstreamSlots(SLOTS);
  const run = (batch: readonly string[]) => {
    for (const command of batch) {
      commands.push(command);
      const [verb, what, name, host = "", value = ""] = command.split(" ");
      if (state.failing && what === "map" && verb !== "clear") {
        return Promise.reject(new Error("HAProxy refused"));
      }
      if (what !== "map") continue;
      assert.equal(name, MAP);
      if (verb === "clear") map.clear();
      else if (verb === "del") assert.ok(map.delete(host), `no ${host} to delete`);
      else {
        assert.equal(map.has(host), verb === "set", command);
        map.set(host, value);
      }
    }
    return Promise.resolve();
  };
  const cache = new RouteCache({
    decide: (host) => state.decide(host),
    runtime: { run, query: () => Promise.resolve(""), upload: () => Promise.resolve("") },
    routeMap: MAP,
    slots,
    now: () => clock.now,
    onRefused: (host, reason) => refusals.push(`${host} ${reason}`),
    onError: (error) => errors.push(error),
  });
  return { cache, map, commands, refusals, errors, clock, state };
}

function forward(appId: string, addresses: readonly string[]): RouteDecision {
  return {
    kind: "forward",
    mode: "passthrough",
    port: 443,
    appId,
    candidates: addresses.map((address, i) => ({ instanceId: `${appId}${i}`, address })),
    proxyProtocol: false,
  };
}

const REFUSED: RouteDecision = { kind: "refused", reason: "unknown-app" };

test("one instance is named in the route, which the map remembers", async () => {
  const { cache, map } = scene(() => forward("aa", ["10.0.0.2"]));
  const value = await cache.answer("X.example");
  assert.equal(value, "raw/plain/10.0.0.2/443/a:aa/i:aa0");
  assert.deepEqual([...map], [["x.example", value]]);
});

test("several instances get a slot whose servers are set before the answer", async () => {
  const { cache, commands } = scene(() => forward("aa", ["10.0.0.2", "10.0.0.3"]));
  assert.equal(await cache.answer("x.example"), "raw/slot-plain-0/-/443/a:aa/-");
  assert.deepEqual(commands, [
    "set server slot-plain-0/i0 addr 10.0.0.2",
    "set server slot-plain-0/i0 state ready",
    "set server slot-plain-0/i1 addr 10.0.0.3",
    "set server slot-plain-0/i1 state ready",
    "set server slot-plain-0/i2 state maint",
    `add map ${MAP} x.example raw/slot-plain-0/-/443/a:aa/-`,
  ]);
});

test("a slot goes to another app only after the quarantine, and none is shared", async () => {
  const s = scene((host) => forward(host[0]!, [`10.0.${host.charCodeAt(0)}.2`, "10.9.9.9"]));
  const backend = async (host: string) => (await s.cache.answer(host)).split("/")[1];
  assert.equal(await backend("a.example"), "slot-plain-0");
  assert.equal(await backend("b.example"), "slot-plain-1");
  assert.equal(await backend("c.example"), "plain"); // all taken: the freshest instance alone
  const before = s.state.decide;
  s.state.decide = (host) => host[0] === "a" ? REFUSED : before(host);
  await s.cache.refresh();
  assert.equal(await backend("d.example"), "plain");
  s.clock.now += SLOT_QUARANTINE_MS;
  assert.equal(await backend("d.example"), "slot-plain-0");
});

test("the instances of one app may change in its slot at once", async () => {
  const s = scene(() => forward("aa", ["10.0.0.2", "10.0.0.3"]));
  await s.cache.answer("x.example");
  s.state.decide = () => forward("aa", ["10.0.0.2", "10.0.0.4"]);
  await s.cache.refresh();
  s.state.decide = () => forward("aa", ["10.0.0.2", "10.0.0.5"]);
  await s.cache.refresh();
  // Two slots in turn: the one no route names is written while the other serves.
  assert.equal(s.map.get("x.example"), "raw/slot-plain-0/-/443/a:aa/-");
  assert.ok(s.commands.includes("set server slot-plain-0/i1 addr 10.0.0.5"));
});

test("a refusal is remembered until the next refresh, and reported with its reason", async () => {
  const s = scene(() => REFUSED);
  assert.equal(await s.cache.answer("x.example"), "deny/unknown-app/-/-/-/-");
  assert.equal(s.map.size, 1);
  await s.cache.refresh();
  assert.equal(s.map.size, 0);
  assert.deepEqual(s.refusals, ["x.example unknown-app"]);
});

test("names no route can have are refused without a trace in the map", async () => {
  const s = scene(() => assert.fail("asked"));
  for (const host of ["", "a b", "a;del map", "x\n", "é.example", "x".repeat(254)]) {
    assert.match(await s.cache.answer(host), /^deny\//);
  }
  assert.deepEqual(s.commands, []);
});

test("a scan of names fills neither memory nor map", async () => {
  const s = scene((host) => host.startsWith("ok") ? forward("aa", ["10.0.0.2"]) : REFUSED);
  await Promise.all(Array.from({ length: 5000 }, (_, i) => s.cache.answer(`n${i}.example`)));
  assert.equal(s.map.size, 4096);
  await s.cache.answer("ok.example"); // refusals take no room from routes
  assert.ok(s.map.has("ok.example"));
  assert.equal(s.cache.size, 4097);
});

test("when a map command fails both sides start over empty", async () => {
  const s = scene(() => forward("aa", ["10.0.0.2"]));
  await s.cache.answer("x.example");
  s.state.failing = true;
  assert.match(await s.cache.answer("y.example"), /^raw\/plain/); // the answer itself is good
  assert.equal(s.cache.size, 0);
  assert.equal(s.map.size, 0);
  assert.equal(s.errors.length, 1);
  s.state.failing = false;
  await s.cache.answer("x.example");
  assert.equal(s.map.size, 1);
});

test("an adopted HAProxy forgets, and gets slots only after the quarantine", async () => {
  const s = scene(() => forward("aa", ["10.0.0.2", "10.0.0.3"]));
  s.map.set("of.former.example", "raw/slot-plain-0/-/443/a:bb/-");
  await s.cache.adopted();
  assert.equal(s.map.size, 0);
  assert.equal((await s.cache.answer("x.example")).split("/")[1], "plain");
  s.clock.now += SLOT_QUARANTINE_MS;
  await s.cache.refresh();
  assert.equal(s.map.get("x.example")!.split("/")[1], "slot-plain-0");
});

test("a new HAProxy that asks while it starts gets the answer into its own map and slots", async () => {
  const { cache, map, commands } = scene(() => forward("aa", ["10.0.0.2", "10.0.0.3"]));
  const value = await cache.answer("x.example");
  const told = [...commands];
  let asked: Promise<string> | undefined;
  const pid = await cache.restarting(() => {
    map.clear();
    asked = cache.answer("x.example");
    return Promise.resolve(7);
  });
  assert.equal(pid, 7);
  assert.equal(await asked, value);
  assert.deepEqual(commands, [...told, ...told]);
  assert.deepEqual([...map], [["x.example", value]]);
});

test("an HAProxy that does not start leaves nothing remembered", async () => {
  const { cache, map } = scene(() => forward("aa", ["10.0.0.2"]));
  await cache.answer("x.example");
  await assert.rejects(cache.restarting(() => Promise.reject(new Error("no"))), /no/);
  assert.equal(cache.size, 0);
  map.clear();
  await cache.answer("x.example");
  assert.equal(map.size, 1);
});
