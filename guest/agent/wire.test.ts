import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { sha384 } from "@noble/hashes/sha2.js";
import { serveHttp } from "#adapters/http-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { serveUnix } from "#adapters/unix-http.ts";
import { concatBytes, fromHex, fromUtf8, toHex, utf8 } from "#core/bytes/bytes.ts";
import { hasVectors, vectorPath } from "../../tests/vectors.ts";
import { simulatedAgent } from "../commands/simulate.ts";
import { dstackSocketApp, externalApp, tappdSocketApp } from "./agent-app.ts";
import { guestApiApp } from "./guest-api-service.ts";

const APP_ID = "5bb4ff9a3837357f19dc176407a5709c62eb6c56";
const TOKEN = "host-token";
const MIB = 1024 * 1024;

interface Reply {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
}
type Target = { readonly path: string } | { readonly port: number };

/** A request as bytes, and the answer as bytes; `end` closes the client's half before it reads. */
function exchange(target: Target, request: Uint8Array, end = false): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    const socket = connect({ ...target, allowHalfOpen: true }, () => {
      socket.write(request);
      if (end) socket.end();
    });
    // Resolves as the JavaScript SDK does: when the server has closed.
    socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    socket.on("end", () => {
      socket.destroy();
      const bytes = concatBytes(...chunks);
      const at = Buffer.from(bytes).indexOf("\r\n\r\n");
      const [status = "", ...lines] = fromUtf8(bytes.subarray(0, at)).split("\r\n");
      const headers = lines.map((line) => {
        const [name = "", value = ""] = line.split(": ", 2);
        return [name.toLowerCase(), value] as const;
      });
      const code = Number(status.split(" ")[1]);
      resolve({ status: code, headers: new Map(headers), body: bytes.subarray(at + 4) });
    });
    socket.on("error", reject);
  });
}

function head(line: string, headers: Readonly<Record<string, string | number>>): Uint8Array {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return utf8(`${line} HTTP/1.1\r\n${lines.join("")}\r\n`);
}

function call(
  target: Target,
  line: string,
  body: string | Uint8Array = "",
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  const bytes = typeof body === "string" ? utf8(body) : body;
  const all = { Host: "x", Connection: "close", "Content-Length": bytes.length, ...headers };
  return exchange(target, concatBytes(head(line, all), bytes));
}

const JSON_TYPE = { "Content-Type": "application/json" };
const text = ({ body }: Reply) => fromUtf8(body);
const json = (reply: Reply) => {
  assert.equal(reply.status, 200, text(reply));
  assert.equal(reply.headers.get("content-type"), "application/json");
  assert.equal(reply.headers.get("content-length"), String(reply.body.length));
  return JSON.parse(text(reply));
};

const TLS_REPLY = ["key", "certificate_chain"];
const QUOTE_REPLY = ["quote", "event_log", "report_data", "vm_config", "attestation"];
const TAPPD_QUOTE_REPLY = ["quote", "event_log", "hash_algorithm", "prefix"];
const INFO_REPLY = [
  "app_id",
  "instance_id",
  "app_cert",
  "tcb_info",
  "app_name",
  "device_id",
  "mr_aggregated",
  "os_image_hash",
  "key_provider_info",
  "compose_hash",
  "vm_config",
  "cloud_vendor",
  "cloud_product",
];
const SIGNED = {
  algorithm: "ed25519",
  data: "00",
  signature: "00".repeat(64),
  public_key: "50c1bfb9452a56317338272a252bd7430b38843d10fa4d491351a434a13bdc21",
};

interface Method {
  readonly name: string;
  readonly request: Readonly<Record<string, unknown>>;
  /** The same request as protobuf, hex: field numbers of spec/guest-agent.md 13. */
  readonly binary: string;
  /** Members of the JSON answer, in any order; null for an empty one. */
  readonly reply: readonly string[] | null;
}
const method = (
  name: string,
  reply: Method["reply"],
  request: Method["request"] = {},
  binary = "",
): Method => ({ name, request, binary, reply });

// spec/guest-agent.md 13
const DSTACK_GUEST: readonly Method[] = [
  method("GetTlsKey", TLS_REPLY, { subject: "a", alt_names: ["b"] }, "0a0161120162"),
  method("GetKey", ["key", "signature_chain"], { path: "/", purpose: "p" }, "0a012f120170"),
  method("GetQuote", QUOTE_REPLY, { report_data: "ff" }, "0a01ff"),
  method("Attest", ["attestation"], { report_data: "ff" }, "0a01ff"),
  method("Info", INFO_REPLY),
  method("GpuInfo", ["attestation"]),
  method(
    "Sign",
    ["signature", "signature_chain", "public_key"],
    { algorithm: "ed25519", data: "00" },
    `0a07${toHex(utf8("ed25519"))}120100`,
  ),
  method(
    "Verify",
    ["valid"],
    SIGNED,
    `0a07${toHex(utf8("ed25519"))}1201001a40${SIGNED.signature}2220${SIGNED.public_key}`,
  ),
  method("Version", ["version", "rev"]),
];
const TAPPD: readonly Method[] = [
  method("DeriveKey", TLS_REPLY, { path: "/", subject: "a" }, "0a012f120161"),
  method("DeriveK256Key", ["k256_key", "k256_signature_chain"], { path: "/" }, "0a012f"),
  method("TdxQuote", TAPPD_QUOTE_REPLY, { report_data: "ff" }, "0a01ff"),
  method(
    "RawQuote",
    TAPPD_QUOTE_REPLY,
    { report_data: "ff".repeat(64) },
    `0a40${"ff".repeat(64)}`,
  ),
  method("Info", INFO_REPLY),
  method("Version", ["version", "rev"]),
];
const WORKER: readonly Method[] = [
  method("Info", INFO_REPLY),
  method("Version", ["version", "rev"]),
  method(
    "GetAttestationForAppKey",
    QUOTE_REPLY,
    { algorithm: "ed25519" },
    `0a07${toHex(utf8("ed25519"))}`,
  ),
];
const GUEST_API: readonly Method[] = [
  method("Info", ["version", "app_id", "instance_id", "app_cert", "tcb_info", "device_id"]),
  method("SysInfo", [
    "os_name",
    "os_version",
    "kernel_version",
    "cpu_model",
    "num_cpus",
    "total_memory",
    "available_memory",
    "used_memory",
    "free_memory",
    "total_swap",
    "used_swap",
    "free_swap",
    "uptime",
    "loadavg_one",
    "loadavg_five",
    "loadavg_fifteen",
    "disks",
  ]),
  method("NetworkInfo", ["dns_servers", "gateways", "interfaces", "wg_info"]),
  method("ListContainers", ["containers"]),
  method("Shutdown", null),
];

describe("the agent's listeners on the wire", { skip: !hasVectors }, () => {
  const dir = mkdtempSync(join(tmpdir(), "wire-"));
  const dstack = { path: join(dir, "dstack.sock") };
  const tappd = { path: join(dir, "tappd.sock") };
  let external: Target;
  let guestApi: Target;
  const servers: Listening[] = [];

  before(async () => {
    const agent = await simulatedAgent(vectorPath("dstack/simulator"));
    agent.demoCertificate();
    const docker = () => Promise.resolve(Response.json([]));
    const systemInfo = () =>
      Promise.resolve({
        osName: "dstack",
        osVersion: "0.1.0",
        kernelVersion: "6",
        cpuModel: "cpu0",
        numCpus: 1,
        memory: { total: 1, available: 1, used: 0, free: 1 },
        swap: { total: 0, used: 0, free: 0 },
        uptimeSeconds: 1,
        loadAverages: [0, 0, 0] as const,
        disks: [],
      });
    const network = { dnsServers: [], gateways: [], interfaces: [], wireGuard: "" };
    const apps = {
      dstack: dstackSocketApp(agent),
      tappd: tappdSocketApp(agent),
      external: externalApp(agent, { docker, systemInfo, now: () => new Date(0) }),
      guest: guestApiApp(agent, {
        docker,
        systemInfo,
        networkInfo: () => Promise.resolve(network),
        powerOff: () => Promise.resolve(),
      }, TOKEN),
    };
    const local = { host: "127.0.0.1", port: 0 };
    const [one, two] = await Promise.all([
      serveHttp((request) => apps.external.fetch(request), local),
      serveHttp((request) => apps.guest.fetch(request), local),
    ]);
    external = { port: one.port };
    guestApi = { port: two.port };
    servers.push(
      one,
      two,
      await serveUnix((request) => apps.dstack.fetch(request), { socket: dstack }),
      await serveUnix((request) => apps.tappd.fetch(request), { socket: tappd }),
    );
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close(0)));
    rmSync(dir, { recursive: true });
  });

  const LISTENERS: readonly [
    string,
    () => Target,
    readonly Method[],
    readonly string[],
    Readonly<Record<string, string>>,
  ][] = [
    [
      "dstack.sock",
      () => dstack,
      DSTACK_GUEST,
      ["/", "/prpc/", "/prpc/DstackGuest.", "/DstackGuest."],
      {},
    ],
    ["tappd.sock", () => tappd, TAPPD, ["/prpc/Tappd.", "/prpc/", "/", "/Tappd."], {}],
    [
      "tappd.sock, as clients that inherit from the newer ones,",
      () => tappd,
      DSTACK_GUEST,
      ["/"],
      {},
    ],
    ["port 8090", () => external, WORKER, ["/prpc/", "/prpc/Worker."], {}],
    [
      "the host's API",
      () => guestApi,
      GUEST_API,
      ["/api/", "/api/GuestApi."],
      { Authorization: `Bearer ${TOKEN}` },
    ],
  ];
  for (const [listener, target, methods, paths, headers] of LISTENERS) {
    test(`${listener} answers each method in both codecs, at each path`, async () => {
      for (const { name, request, binary, reply } of methods) {
        const members = (value: object | null) => value === null ? null : Object.keys(value).sort();
        const expected = reply === null ? null : [...reply].sort();
        const body = JSON.stringify(request);
        for (const path of paths) {
          const typed = await call(target(), `POST ${path}${name}`, body, {
            ...headers,
            ...JSON_TYPE,
          });
          assert.deepEqual(members(json(typed)), expected, `${path}${name}`);
        }
        const path = `${paths[0]}${name}`;
        // The flag alone, as the reference's own clients send it.
        const flagged = await call(target(), `POST ${path}?json`, body, headers);
        assert.deepEqual(members(json(flagged)), expected);
        const query = new URLSearchParams(
          Object.entries(request).flatMap(([member, value]) =>
            Array.isArray(value)
              ? value.map((item, i) => [`${member}[${i}]`, String(item)])
              : [[member, String(value)]]
          ),
        );
        const asked = await call(target(), `GET ${path}?${query}`, "", headers);
        assert.deepEqual(members(json(asked)), expected);

        const answer = await call(target(), `POST ${path}`, fromHex(binary), headers);
        assert.equal(answer.status, 200, name);
        assert.equal(answer.headers.get("content-type"), "application/octet-stream");
        // Empty protobuf, or a first field: number 1 to 15, varint or bytes.
        if (
          reply === null || name === "GpuInfo" || name === "Verify" || name === "ListContainers"
        ) {
          assert.equal(answer.body.length, 0, name);
        } else if (name !== "NetworkInfo") {
          assert.ok(answer.body.length > 0 && [0, 2].includes(answer.body[0]! & 7), name);
        }
      }
    });
  }

  test("protobuf and JSON say the same", async () => {
    const path = "0a012f120474657374"; // path "/", purpose "test"
    const binary = await call(dstack, "POST /GetKey", fromHex(path));
    const { key, signature_chain } = json(
      await call(dstack, "POST /GetKey", '{"path":"/","purpose":"test"}', JSON_TYPE),
    );
    const chain = signature_chain.map((item: string) => `1241${item}`).join("");
    assert.equal(toHex(binary.body), `0a20${key}${chain}`);
    const refused = await call(dstack, "POST /GetKey", fromHex(`1a03${toHex(utf8("rsa"))}`));
    assert.equal(refused.status, 400);
    assert.equal(refused.body[0], 0x0a);
    assert.match(text({ ...refused, body: refused.body.subarray(2) }), /Unsupported algorithm/);
  });

  test("keys are not to be had on the outer listeners", async () => {
    for (const { name } of [...DSTACK_GUEST, ...TAPPD]) {
      if (WORKER.some((method) => method.name === name)) continue;
      for (const path of ["/", "/prpc/", "/prpc/DstackGuest.", "/prpc/Tappd.", "/api/"]) {
        for (const target of [external, guestApi]) {
          const reply = await call(target, `POST ${path}${name}`, "{}", {
            ...JSON_TYPE,
            Authorization: `Bearer ${TOKEN}`,
          });
          assert.ok(reply.status === 400 || reply.status === 404, `${path}${name}`);
        }
      }
    }
  });

  test("errors are 400 and a JSON object with `error` alone, indented as the reference's", async () => {
    const reply = await call(dstack, "POST /Sign", '{"algorithm":"rsa","data":"00"}', JSON_TYPE);
    assert.equal(reply.status, 400);
    const { error } = JSON.parse(text(reply));
    assert.equal(text(reply), JSON.stringify({ error }, null, 2));
    for (const [line, body] of [["POST /GetKey", "{"], ["POST /GetQuote", '{"report_data":"x"}']]) {
      const bad = await call(dstack, line!, body, JSON_TYPE);
      assert.deepEqual([bad.status, Object.keys(JSON.parse(text(bad)))], [400, ["error"]]);
    }
    for (
      const [target, path] of [[dstack, "/a/b/c"], [external, "/nope"], [guestApi, "/x"]] as const
    ) {
      const headers = { Authorization: `Bearer ${TOKEN}` };
      const nowhere = await call(target, `GET ${path}`, "", headers);
      assert.equal(nowhere.status, 404);
      assert.equal(typeof JSON.parse(text(nowhere)).error, "string");
    }
  });

  test("a body over 10 MiB is refused by its length, before it is read", async () => {
    const request = head("POST /GetQuote", {
      Host: "x",
      ...JSON_TYPE,
      "Content-Length": 10 * MIB + 1,
      Connection: "close",
    });
    const reply = await exchange(dstack, request);
    assert.equal(reply.status, 400);
    assert.match(text(reply), /payload too large/);
  });

  describe("what the SDKs send", () => {
    test("JavaScript: ends its half, and waits for the server to close", async () => {
      const body = '{"path":"/","purpose":"test"}';
      const request = concatBytes(
        head("POST /GetKey", {
          Host: "localhost",
          "Content-Type": "application/json",
          "Content-Length": body.length,
          "User-Agent": "dstack-sdk-js/0.5.6",
        }),
        utf8(body),
      );
      // No Connection header: without an answer to the client's end this waits for the idle timeout.
      const reply = await exchange(dstack, request, true);
      assert.match(json(reply).key, /^f6c1ed94/);
      assert.equal(reply.headers.has("transfer-encoding"), false);
    });

    test("JavaScript: counts characters where HTTP counts bytes", async () => {
      const body = JSON.stringify({ path: "größe" });
      const request = concatBytes(
        head("POST /GetKey", { Host: "x", ...JSON_TYPE, "Content-Length": body.length }),
        utf8(body),
      );
      const reply = await exchange(dstack, request, true);
      assert.equal(reply.status, 400);
    });

    test("JavaScript, Python: extra members, upper-case hex and a 0x are taken", async () => {
      const body = JSON.stringify({ report_data: "0xAB", unknown: [1] });
      const { report_data } = json(await call(dstack, "POST /GetQuote", body, JSON_TYPE));
      assert.equal(report_data, "ab".padEnd(128, "0"));
    });

    test("Python: asks for raw quotes by default, of 64 bytes", async () => {
      const body = { report_data: "74657374".padStart(128, "0"), hash_algorithm: "raw" };
      const reply = await call(tappd, "POST /prpc/Tappd.TdxQuote", JSON.stringify(body), JSON_TYPE);
      const { quote, prefix, hash_algorithm } = json(reply);
      assert.equal(quote.slice(568 * 2, 632 * 2), body.report_data);
      assert.deepEqual([prefix, hash_algorithm], ["", "raw"]);
    });

    test("Rust: has neither Host nor Connection, and may send no body", async () => {
      const body = `{"report_data":"${"00".repeat(64)}"}`;
      const request = concatBytes(
        head("POST /prpc/Tappd.RawQuote", { ...JSON_TYPE, "Content-Length": body.length }),
        utf8(body),
      );
      json(await exchange(tappd, request, true));
      const info = await exchange(
        dstack,
        head("POST /Info?json", { Host: "x", "Content-Length": 0 }),
        true,
      );
      assert.equal(json(info).app_id, APP_ID);
    });

    test("Go: null where nothing is asked", async () => {
      assert.equal(json(await call(dstack, "POST /Info", "null", JSON_TYPE)).app_id, APP_ID);
    });

    test("test runners: many connections at once", async () => {
      const replies = await Promise.all(
        Array.from(
          { length: 64 },
          (_, i) => call(dstack, "POST /GetKey", `{"path":"${i % 4}"}`, JSON_TYPE),
        ),
      );
      const keys = new Set(replies.map((reply) => json(reply).key));
      assert.equal(keys.size, 4);
    });

    test("published SDKs: EmitEvent is 400 in a simulator", async () => {
      const reply = await call(
        dstack,
        "POST /EmitEvent",
        '{"event":"e","payload":"00"}',
        JSON_TYPE,
      );
      assert.equal(reply.status, 400);
      assert.match(text(reply), /unavailable in simulator mode/);
    });

    test("published SDKs: the event log of a quote replays to its registers", async () => {
      const { event_log } = json(
        await call(dstack, "POST /GetQuote", '{"report_data":""}', JSON_TYPE),
      );
      const { tcb_info } = json(await call(dstack, "POST /Info", "{}", JSON_TYPE));
      const tcb = JSON.parse(tcb_info);
      for (const imr of [0, 1, 2, 3]) {
        let register = new Uint8Array(48);
        for (const event of JSON.parse(event_log)) {
          if (event.imr !== imr) continue;
          const digest = new Uint8Array(48);
          digest.set(fromHex(event.digest));
          register = new Uint8Array(sha384(concatBytes(register, digest)));
        }
        assert.equal(toHex(register), tcb[`rtmr${imr}`], `RTMR${imr}`);
      }
    });

    test("Rust: every member of Info that it unwraps is there", async () => {
      const info = json(await call(dstack, "POST /Info", "{}", JSON_TYPE));
      for (
        const member of ["app_id", "instance_id", "app_cert", "tcb_info", "app_name", "device_id"]
      ) {
        assert.notEqual(info[member], "", member);
      }
      assert.match(info.app_cert, /^-----BEGIN CERTIFICATE-----\n/);
      assert.deepEqual(Object.keys(JSON.parse(info.key_provider_info)), ["name", "id"]);
    });
  });
});

describe("scripts/dstack-guest simulate", { skip: !hasVectors }, () => {
  const dir = mkdtempSync(join(tmpdir(), "simulate-"));
  after(() => rmSync(dir, { recursive: true }));

  test("serves the reference's folder from source, and again over what it left behind", async () => {
    const script = new URL("../../scripts/dstack-guest", import.meta.url).pathname;
    const [dstack, tappd] = [join(dir, "dstack.sock"), join(dir, "tappd.sock")];
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const child = spawn(script, [
        "simulate",
        "--dir",
        vectorPath("dstack/simulator"),
        "--dstack-socket",
        dstack,
        "--tappd-socket",
        tappd,
      ], { stdio: ["ignore", "ignore", "pipe"] });
      const ended = new Promise((resolve) => child.once("exit", resolve));
      try {
        for await (const chunk of child.stderr) {
          if (String(chunk).includes("simulator is up")) break;
        }
        assert.ok(existsSync(tappd));
        assert.equal(statSync(dstack).mode & 0o777, 0o777);
        const info = await call({ path: dstack }, "POST /Info", "{}", JSON_TYPE);
        assert.equal(json(info).app_id, APP_ID);
        assert.notEqual(json(info).app_cert, "");
        json(await call({ path: tappd }, "POST /prpc/Tappd.DeriveKey", '{"path":"/"}', JSON_TYPE));
      } finally {
        child.kill(signal);
        await ended;
      }
    }
  });
});
