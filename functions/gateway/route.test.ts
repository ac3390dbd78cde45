import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PortPolicy } from "./port-policy.ts";
import { decideRoute, type RouteInstance, type RouteRows } from "./route.ts";

const BASE = "apps.localhost";
const APP = "a".repeat(40);
const OTHER = "b".repeat(40);
const OPEN: PortPolicy = { ports: [], restrictMode: false };
const SETTINGS = { now: 10_000, connectTopN: 3, handshakeStaleSeconds: 1800 };

function instance(n: number, change: Partial<RouteInstance> = {}): RouteInstance {
  return {
    instanceId: n.toString(16).padStart(40, "0"),
    appId: APP,
    address: `10.0.0.${n}`,
    adminPolicy: undefined,
    reportedPolicy: OPEN,
    lastHandshake: SETTINGS.now - n,
    ...change,
  };
}

function rows(...instances: RouteInstance[]): RouteRows {
  return {
    baseDomains: [BASE],
    instance: (id) => instances.find((i) => i.instanceId === id),
    instancesOf: (id) => instances.filter((i) => i.appId === id),
  };
}

function decide(label: string, table: RouteRows, settings = SETTINGS) {
  return decideRoute(`${label}.${BASE}`, table, settings);
}

function addresses(label: string, table: RouteRows, settings = SETTINGS): string[] | string {
  const decision = decide(label, table, settings);
  if (decision.kind === "refused") return decision.reason;
  return decision.kind === "forward" ? decision.candidates.map((c) => c.address) : decision.kind;
}

test("an app id selects the three freshest of four instances, newest handshake first", () => {
  const table = rows(
    instance(2, { lastHandshake: 9_000 }),
    instance(3, { lastHandshake: 9_900 }),
    instance(4, { lastHandshake: 8_200 }), // exactly handshake_stale old: not healthy
    instance(5, { lastHandshake: 9_500 }),
    instance(6, { lastHandshake: 8_300 }),
  );
  assert.deepEqual(addresses(APP, table), ["10.0.0.3", "10.0.0.5", "10.0.0.2"]);
});

test("an instance id reaches that instance even without a handshake", () => {
  const table = rows(instance(2, { lastHandshake: 0 }));
  assert.deepEqual(addresses(instance(2).instanceId, table), ["10.0.0.2"]);
  assert.equal(addresses(APP, table), "no-healthy-instance");
});

test("an unknown id and an app without instances are refused alike", () => {
  assert.equal(addresses(OTHER, rows(instance(2))), "unknown-app");
});

test("connect_top_n 0 leaves the choice among all healthy instances", () => {
  const table = rows(...[2, 3, 4, 5, 6].map((n) => instance(n)));
  const all = addresses(APP, table, { ...SETTINGS, connectTopN: 0 });
  assert.equal(all.length, 5);
});

const RESTRICTED: PortPolicy = {
  ports: [{ port: 8443, proxyProtocol: true }],
  restrictMode: true,
};

test("port policy: restricted lists, an open one allows all, an unknown one denies", () => {
  const restricted = rows(instance(2, { reportedPolicy: RESTRICTED }));
  assert.deepEqual(addresses(`${APP}-8443s`, restricted), ["10.0.0.2"]);
  assert.equal(addresses(`${APP}-8444s`, restricted), "port-denied");
  const locked = rows(instance(2, { reportedPolicy: { ports: [], restrictMode: true } }));
  assert.equal(addresses(APP, locked), "port-denied");
  assert.equal(
    addresses(APP, rows(instance(2, { reportedPolicy: undefined }))),
    "port-policy-unknown",
  );
});

test("the operator's policy wins over the reported one in both directions", () => {
  const opened = rows(instance(2, { reportedPolicy: RESTRICTED, adminPolicy: OPEN }));
  assert.deepEqual(addresses(`${APP}-22`, opened), ["10.0.0.2"]);
  const closed = rows(instance(2, { reportedPolicy: OPEN, adminPolicy: RESTRICTED }));
  assert.equal(addresses(`${APP}-22`, closed), "port-denied");
});

test("pp comes from the policy of the port, also when ports are not restricted", () => {
  const policy = { ...RESTRICTED, restrictMode: false };
  const table = rows(instance(2, { reportedPolicy: policy }));
  const listed = decide(`${APP}-8443s`, table);
  const without = decide(`${APP}-8444s`, table);
  assert.equal(listed.kind === "forward" && listed.proxyProtocol, true);
  assert.equal(without.kind === "forward" && without.proxyProtocol, false);
});

test("instances that differ in pp are not mixed: the preferred one decides", () => {
  const table = rows(
    instance(2, { reportedPolicy: RESTRICTED }),
    instance(3),
    instance(4, { reportedPolicy: RESTRICTED }),
  );
  assert.deepEqual(addresses(`${APP}-8443s`, table), ["10.0.0.2", "10.0.0.4"]);
});

test("reserved names are answered by the gateway itself, on the default port only", () => {
  assert.deepEqual(decide("gateway", rows()), { kind: "local", service: "gateway" });
  assert.deepEqual(decide("gateway-80", rows()), { kind: "local", service: "gateway" });
  assert.deepEqual(decide("HEALTH", rows()), { kind: "local", service: "health" });
  for (const label of ["gateway-81", "gateway-s", "gateway-g", "health-443s"]) {
    assert.equal(addresses(label, rows()), "reserved-name");
  }
});

const arbitraryInstance = fc.record({
  n: fc.integer({ min: 2, max: 250 }),
  app: fc.constantFrom(APP, OTHER),
  age: fc.integer({ min: -60, max: 4000 }),
  policy: fc.constantFrom(OPEN, RESTRICTED, undefined),
  admin: fc.constantFrom(undefined, undefined, OPEN, RESTRICTED),
}).map(({ n, app, age, policy, admin }) =>
  instance(n, {
    appId: app,
    lastHandshake: SETTINGS.now - age,
    reportedPolicy: policy,
    adminPolicy: admin,
  })
);

test("whatever the rows: only healthy instances of the app, fresh first, that allow the port", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(arbitraryInstance, { selector: (i) => i.instanceId, maxLength: 12 }),
      fc.constantFrom(80, 443, 8443),
      fc.integer({ min: 0, max: 4 }),
      (instances, port, connectTopN) => {
        const settings = { ...SETTINGS, connectTopN };
        const decision = decide(`${APP}-${port}s`, rows(...instances), settings);
        if (decision.kind !== "forward") return;
        const chosen = decision.candidates.map((c) =>
          instances.find((i) => i.instanceId === c.instanceId)!
        );
        assert.ok(chosen.length > 0 && (connectTopN === 0 || chosen.length <= connectTopN));
        for (const [i, each] of chosen.entries()) {
          assert.equal(each.appId, APP);
          assert.ok(SETTINGS.now - each.lastHandshake < 1800);
          const policy = each.adminPolicy ?? each.reportedPolicy;
          assert.ok(policy !== undefined && (!policy.restrictMode || port === 8443));
          if (i > 0) assert.ok(chosen[i - 1]!.lastHandshake >= each.lastHandshake);
        }
      },
    ),
  );
});
