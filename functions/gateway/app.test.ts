import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type OpenDatabase, openDatabase } from "#adapters/libsql.ts";
import { AppError } from "#core/errors/app-error.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { encodeAppInfo } from "#core/ra-tls/app-info.ts";
import { buildCertificate, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { toBase64 } from "#core/bytes/bytes.ts";
import * as schema from "#functions/db/gateway-schema.ts";
import { GatewayStore } from "#functions/db/gateway-rows.ts";
import { createGatewayAdminApp } from "./admin-app.ts";
import { parseAddressPlan } from "./allocation.ts";
import { createGatewayApp } from "./app.ts";
import type { GatewayEvent, GatewayPorts } from "./ports.ts";
import { RouteTable } from "./route-table.ts";

const APP = "11".repeat(20);
const OTHER_APP = "22".repeat(20);
const TOKEN = "operator-token";
const COMPOSE = "33".repeat(32);

let dir: string;
let database: OpenDatabase<typeof schema>;
let store: GatewayStore;
let ports: GatewayPorts;
let table: RouteTable;
let now: Date;
let events: GatewayEvent[];
let applied: number;

beforeEach(async () => {
  dir = mkdtempSync("/tmp/gw-app-");
  now = new Date("2026-03-01T00:00:00Z");
  database = await openDatabase({
    url: `file:${join(dir, "gateway.db")}`,
    migrationsFolder: new URL("../../migrations/gateway", import.meta.url).pathname,
    schema,
  });
  store = new GatewayStore(database.db, 1, () => now);
  await store.putOwnNode({
    id: 1,
    url: "https://gateway.example.com:9202",
    wgPublicKey: key(200),
    wgAddress: "10.8.0.1/16",
    wgEndpoint: "203.0.113.5:9202",
    lastSeen: seconds(),
  }, "ab".repeat(16));
  await store.putDomain({ domain: "example.com", port: 443, nodeId: undefined, priority: 100 });
  table = new RouteTable({
    connectTopN: 3,
    handshakeStaleSeconds: 1800,
    baseDomains: () => ["example.com"],
    now: () => now,
  });
  events = [];
  applied = 0;
  ports = {
    rows: store,
    nodeId: 1,
    appId: APP,
    now: () => now,
    addressPlan: parseAddressPlan({
      ip: "10.8.0.1/16",
      reservedNet: ["10.8.0.1/32"],
      clientIpRange: "10.8.0.0/18",
    }),
    applyRows: async () => {
      applied++;
      table.setRows(await store.instances());
    },
    handshakes: () => table.handshakes,
    connections: () => Promise.resolve(new Map()),
    decide: (host) => table.decide(host),
    authorize: () => Promise.resolve(),
    version: { version: "0.6.0", rev: "unknown" },
    metrics: noMetrics,
    ready: () => Promise.resolve({ haproxy: true }),
    settings: {
      agentPort: 8090,
      appAddressPrefix: "_dstack-app-address",
      bootnodeUrl: "",
      skipPeerCheck: false,
      adminTokens: [TOKEN],
      adminWithoutAuth: false,
    },
    logError: (error) => assert.fail(error as Error),
    logEvent: (event) => events.push(event),
  };
});

afterEach(() => {
  database.close();
  rmSync(dir, { recursive: true, force: true });
});

function seconds(): number {
  return Math.floor(now.getTime() / 1000);
}

function key(n: number): string {
  return toBase64(new Uint8Array(32).fill(n));
}

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g)!.map((pair) => parseInt(pair, 16)));
}

/** A certificate as the KMS signs it; the chain itself is the TLS server's to check. */
function certificate(
  appId: string,
  instance: number,
  composeHash = COMPOSE,
  claimedAppId: string | undefined = appId,
): Uint8Array {
  const scalar = randomP256Scalar();
  return buildCertificate({
    subject: { commonName: "dstack-guest-agent" },
    publicKey: p256Spki(scalar),
    issuer: selfIssuer({ commonName: "KMS" }, scalar),
    notAfter: new Date("2027-01-01T00:00:00Z"),
    clientAuth: true,
    appId: claimedAppId === "" ? undefined : bytes(claimedAppId),
    appInfo: encodeAppInfo({
      appId: bytes(appId),
      composeHash: bytes(composeHash),
      instanceId: new Uint8Array(20).fill(instance),
      deviceId: new Uint8Array(32),
      mrSystem: new Uint8Array(32),
      mrAggregated: new Uint8Array(32),
      osImageHash: new Uint8Array(32),
      keyProviderInfo: new Uint8Array(),
    }),
  });
}

function instanceId(n: number): string {
  return n.toString(16).padStart(2, "0").repeat(20);
}

interface Answer {
  status: number;
  // deno-lint-ignore no-explicit-any -- JSON under test
  body: any;
}

async function call(method: string, body: unknown, peer?: Uint8Array): Promise<Answer> {
  const app = createGatewayApp(ports);
  const response = await app.request(`/prpc/${method}?json`, {
    method: "POST",
    body: JSON.stringify(body),
  }, peer === undefined ? {} : { peerCertificate: peer });
  return { status: response.status, body: await response.json() };
}

async function admin(method: string, body: unknown = {}): Promise<Answer> {
  const response = await createGatewayAdminApp(ports).request(`/prpc/Admin.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

const OPEN = { ports: [], restrict_mode: false };

function register(appId: string, n: number, publicKey = key(n), policy: unknown = OPEN) {
  return call(
    "RegisterCvm",
    { client_public_key: publicKey, port_policy: policy },
    certificate(appId, n),
  );
}

describe("RegisterCvm", () => {
  test("answers in the form of gateway.md 1.7", async () => {
    const { status, body } = await register(APP, 1);
    assert.equal(status, 200);
    const server = { pk: key(200), ip: "10.8.0.1/16", endpoint: "203.0.113.5:9202" };
    assert.deepEqual(body, {
      wg: { client_ip: "10.8.0.2", servers: [server] },
      agent: {
        external_port: 443,
        internal_port: 8090,
        domain: "example.com",
        app_address_ns_prefix: "_dstack-app-address",
      },
      gateways: [{
        id: 1,
        uuid: "ab".repeat(16),
        url: "https://gateway.example.com:9202",
        last_seen: seconds(),
        wg_public_key: key(200),
        wg_ip: "10.8.0.1/16",
        wg_endpoint: "203.0.113.5:9202",
      }],
    });
    assert.equal(applied, 1);
  });

  test("an instance keeps its address and another gets the next", async () => {
    const ip = async (n: number, publicKey?: string) =>
      (await register(APP, n, publicKey)).body.wg.client_ip;
    assert.equal(await ip(1), "10.8.0.2");
    assert.equal(await ip(2), "10.8.0.3");
    assert.equal(await ip(1), "10.8.0.2");
    assert.equal(await ip(1, key(77)), "10.8.0.2"); // a new key, the old address
    assert.equal((await store.findInstance(instanceId(1)))!.publicKey, key(77));
  });

  test("32 at once get 32 addresses, and each the same one when it comes again", async () => {
    const all = () => Promise.all(Array.from({ length: 32 }, (_, i) => register(APP, i + 1)));
    const first = (await all()).map(({ body }) => body.wg.client_ip);
    assert.equal(new Set(first).size, 32);
    assert.deepEqual((await all()).map(({ body }) => body.wg.client_ip), first);
  });

  test("a registration that lost the race for an address, or for its row, looks again", async () => {
    await register(APP, 1);
    let stale = 2;
    ports = {
      ...ports,
      rows: Object.assign(Object.create(store), {
        // What another gateway over the same database would have read a moment too early.
        takenAddresses: async () => stale-- > 0 ? new Set() : await store.takenAddresses(),
      }),
    };
    assert.equal((await register(APP, 2)).body.wg.client_ip, "10.8.0.3");
    assert.equal(stale, -1);

    const before = (await store.findInstance(instanceId(1)))!;
    const event = { kind: "test", appId: "", instanceId: "", reason: "", detail: "" };
    assert.equal(await store.putInstance({ ...before, publicKey: key(50) }, before, event), true);
    assert.equal(await store.putInstance({ ...before, publicKey: key(51) }, before, event), false);
    assert.equal((await store.findInstance(instanceId(1)))!.publicKey, key(50));
  });

  test("without a certificate, or one without app info, nothing is registered", async () => {
    const { status, body } = await call("RegisterCvm", { client_public_key: key(1) });
    assert.equal(status, 400);
    assert.match(body.error, /client certificate/);
    assert.doesNotMatch(body.error, /no attestation provided/); // guests would retry for it
    assert.deepEqual(await store.instances(), []);
  });

  test("a certificate whose app info is not that of its app id is refused", async () => {
    for (const claimed of [OTHER_APP, ""]) {
      const peer = certificate(APP, 1, COMPOSE, claimed);
      const { status, body } = await call("RegisterCvm", { client_public_key: key(1) }, peer);
      assert.equal(status, 400);
      assert.match(body.error, /two app ids, or none/);
    }
    assert.deepEqual(await store.instances(), []);
  });

  test("a key of another instance and an instance of another app are refused", async () => {
    await register(APP, 1);
    assert.match((await register(APP, 2, key(1))).body.error, /belongs to another instance/);
    assert.match((await register(OTHER_APP, 1, key(9))).body.error, /under another app id/);
    const rows = await store.instances();
    assert.deepEqual(rows.map(({ appId, publicKey }) => [appId, publicKey]), [[APP, key(1)]]);
    const [last] = await store.events(1);
    assert.deepEqual([last!.kind, last!.reason], ["cvm.refused", "auth/forbidden"]);
  });

  test("a key that is not base64 of 32 bytes leaves no state", async () => {
    for (const bad of ["", "AAAA", `${key(1)}\nPostUp = x`, key(1).slice(1)]) {
      assert.equal((await register(APP, 1, bad)).status, 400);
    }
    assert.deepEqual(await store.instances(), []);
  });

  test("ports of a policy must be 1..65535; duplicates collapse", async () => {
    for (const port of [0, 65536]) {
      const bad = { ports: [{ port, pp: false }], restrict_mode: true };
      assert.equal((await register(APP, 1, key(1), bad)).status, 400);
    }
    const twice = {
      ports: [{ port: 443, pp: false }, { port: 443, pp: true }],
      restrict_mode: true,
    };
    assert.equal((await register(APP, 1, key(1), twice)).status, 200);
    assert.deepEqual((await store.findInstance(instanceId(1)))!.reportedPolicy, {
      ports: [{ port: 443, proxyProtocol: true }],
      restrictMode: true,
    });
  });

  test("the reported policy stays until the compose changes, the operator's outlives it", async () => {
    const again = (composeHash: string) =>
      call("RegisterCvm", { client_public_key: key(1) }, certificate(APP, 1, composeHash));
    await register(APP, 1);
    await admin("SetInstancePortPolicy", {
      instance_id: instanceId(1),
      policy: { ports: [], restrict_mode: true },
    });
    await again(COMPOSE);
    assert.notEqual((await store.findInstance(instanceId(1)))!.reportedPolicy, undefined);
    await again("44".repeat(32));
    const row = (await store.findInstance(instanceId(1)))!;
    assert.equal(row.reportedPolicy, undefined);
    assert.deepEqual(row.adminPolicy, { ports: [], restrictMode: true });
  });

  test("a node that is down refuses and is not named to CVMs; up again it accepts", async () => {
    await admin("SetNodeStatus", { id: 1, status: "down" });
    assert.match((await register(APP, 1)).body.error, /marked as down/);
    await admin("SetNodeStatus", { id: 1, status: "up" });
    assert.equal((await register(APP, 1)).status, 200);
  });

  test("the operator's webhook decides", async () => {
    ports = {
      ...ports,
      authorize: () => Promise.reject(new AppError("auth/forbidden", "App authorization failed")),
    };
    assert.match((await register(APP, 1)).body.error, /App authorization failed/);
    assert.deepEqual(await store.instances(), []);
  });
});

describe("the other methods", () => {
  test("Info names the best domain", async () => {
    assert.deepEqual((await call("Info", {})).body, {
      base_domain: "example.com",
      external_port: 443,
      app_address_ns_prefix: "_dstack-app-address",
      version: "0.6.0",
    });
  });

  test("GetPeers answers only callers with the gateway's own app id", async () => {
    assert.equal((await call("GetPeers", {})).status, 400);
    assert.equal((await call("GetPeers", {}, certificate(OTHER_APP, 1))).status, 400);
    assert.deepEqual((await call("GetPeers", {}, certificate(APP, 1))).body, {
      my_id: 1,
      my_url: "https://gateway.example.com:9202",
      peers: [{ id: 1, url: "https://gateway.example.com:9202" }],
    });
  });

  test("health, version header, unknown methods, no admin method here", async () => {
    const app = createGatewayApp(ports);
    const health = await app.request("/health");
    assert.equal(await health.text(), "OK");
    assert.equal(health.headers.get("x-app-version"), "v0.6.0 (unknown)");
    assert.equal((await call("Status", {})).status, 400);
    assert.equal((await app.request("/openapi.json")).status, 200);
  });
});

describe("operators", () => {
  test("every path needs the token", async () => {
    const app = createGatewayAdminApp(ports);
    for (const path of ["/prpc/Status", "/Status", "/v1/routes/x", "/metrics", "/openapi.json"]) {
      const response = await app.request(path);
      assert.equal(response.status, 401, path);
      assert.equal(response.headers.get("www-authenticate"), 'Basic realm="dstack-gateway admin"');
    }
    assert.equal((await app.request(`/Status?token=${TOKEN}`)).status, 200);
  });

  test("Status lists hosts with their newest handshake", async () => {
    await register(APP, 1);
    table.setHandshakes(new Map([[key(1), seconds() - 5]]));
    const { body } = await admin("Status");
    assert.deepEqual(body.hosts, [{
      instance_id: instanceId(1),
      ip: "10.8.0.2",
      app_id: APP,
      base_domain: "example.com",
      latest_handshake: seconds() - 5,
      num_connections: 0,
    }]);
    assert.deepEqual((await admin("GetMeta")).body, { registered: 1, online: 1 });
    assert.equal((await admin("GetInfo", { id: "nobody" })).body.found, false);
  });

  test("a port policy is set, shown with its source, and cleared", async () => {
    await register(APP, 1);
    const id = { instance_id: instanceId(1) };
    await admin("SetInstancePortPolicy", {
      ...id,
      policy: { ports: [{ port: 22, pp: false }], restrict_mode: true },
    });
    const set = (await admin("GetInstancePortPolicy", id)).body;
    assert.deepEqual([set.source, set.effective.ports[0].port], ["admin", 22]);
    assert.equal(table.decide(`${instanceId(1)}-80.example.com`).kind, "refused");
    await admin("ClearInstancePortPolicy", id);
    assert.equal((await admin("GetInstancePortPolicy", id)).body.source, "instance");
    assert.equal(table.decide(`${instanceId(1)}-80.example.com`).kind, "forward");
    const unknown = await admin("SetInstancePortPolicy", { instance_id: "no", policy: OPEN });
    assert.match(unknown.body.error, /not found/i);
  });

  test("/v1/routes explains a decision", async () => {
    await register(APP, 1);
    table.setHandshakes(new Map([[key(1), seconds()]]));
    const explain = async (host: string) => {
      const response = await createGatewayAdminApp(ports).request(`/v1/routes/${host}`, {
        headers: { "x-admin-token": TOKEN },
      });
      return await response.json();
    };
    assert.deepEqual(await explain(`${APP}-8443s.EXAMPLE.com`), {
      host: `${APP}-8443s.EXAMPLE.com`,
      outcome: "forward",
      detail: "TLS passes; port 8443 of 1 instance(s), freshest first.",
      mode: "passthrough",
      port: 8443,
      app_id: APP,
      proxy_protocol: false,
      candidates: [{ instance_id: instanceId(1), address: "10.8.0.2" }],
    });
    assert.equal((await explain("x.elsewhere.org")).reason, "unknown-domain");
    assert.equal((await explain("gateway.example.com")).outcome, "local");
  });
});
