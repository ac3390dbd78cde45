import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { sha512 } from "@noble/hashes/sha2.js";
import type { Listening } from "#adapters/listening.ts";
import { serveUnix } from "#adapters/unix-http.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { concatBytes, fromHex, toHex, utf8 } from "#core/bytes/bytes.ts";
import { simulatedAgent } from "../commands/simulate.ts";
import { osReleaseValue } from "../boot/guest-facts.ts";
import { dstackSocketApp, externalApp, tappdSocketApp } from "./agent-app.ts";
import type { Agent } from "./agent.ts";
import { guestApiApp } from "./guest-api-service.ts";
import { parseSystemInfo } from "./system-info.ts";

const VECTORS = process.env["DSTACK_VECTORS"] ?? "../shared/vectors";
const FOLDER = join(VECTORS, "dstack/simulator");
const skip = !existsSync(FOLDER) && `skipped: no vectors at ${FOLDER}`;

// Facts of the recorded app: spec/guest-agent.md 10.1.
const APP_ID = "5bb4ff9a3837357f19dc176407a5709c62eb6c56";
const APP_ROOT_PUBLIC = "02818494263695e8839122dbd88e281d7380622999df4e60a14befa0f2d096fc7c";
const KMS_ROOT_PUBLIC = "0321529e458424ab1f710a3a57ec4dad2fb195ddca572f7469242ba6c7563085b6";

const SYSTEM = parseSystemInfo({
  meminfo:
    "MemTotal: 2048 kB\nMemFree: 512 kB\nMemAvailable: 1024 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
  loadavg: "0.15 0.10 1.25 1/100 200",
  uptime: "12.34 20.00",
  cpuinfo: "processor\t: 0\ncpu MHz\t\t: 2400.5\nprocessor\t: 1\n",
  osRelease: "NAME=dstack\nVERSION_ID=0.1.0\n",
  kernelVersion: "7.3",
  disks: [{ name: "/dev/vda", mountPoint: '/a"b', totalBytes: 200, freeBytes: 50 }],
}, osReleaseValue);

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

describe("the agent over the recorded app", { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), "agent-"));
  const paths = { dstack: join(dir, "dstack.sock"), tappd: join(dir, "tappd.sock") };
  const servers: Listening[] = [];
  let agent: Agent;

  before(async () => {
    agent = await simulatedAgent(FOLDER);
    for (
      const [path, app] of [
        [paths.dstack, dstackSocketApp(agent)],
        [paths.tappd, tappdSocketApp(agent)],
      ] as const
    ) {
      servers.push(await serveUnix((request) => app.fetch(request), { socket: { path } }));
    }
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close(0)));
    rmSync(dir, { recursive: true });
  });

  /** Bytes on the wire, as clients that speak HTTP by hand send them. */
  function raw(path: string, request: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const chunks: Uint8Array[] = [];
      const socket = connect(path, () => socket.write(request));
      const finish = () => {
        socket.destroy();
        const text = new TextDecoder().decode(concatBytes(...chunks));
        const [head = "", body = ""] = text.split("\r\n\r\n", 2);
        const [status = "", ...lines] = head.split("\r\n");
        const headers = Object.fromEntries(
          lines.map((line) => [line.split(": ")[0]!.toLowerCase(), line.split(": ")[1] ?? ""]),
        );
        resolve({ status: Number(status.split(" ")[1]), headers, body });
      };
      socket.on("data", (chunk: Uint8Array) => {
        chunks.push(chunk);
        const text = new TextDecoder().decode(concatBytes(...chunks));
        const length = /content-length: (\d+)/i.exec(text)?.[1];
        const at = text.indexOf("\r\n\r\n");
        if (length !== undefined && at !== -1 && text.length - at - 4 >= Number(length)) finish();
      });
      socket.on("end", finish);
      socket.on("error", reject);
    });
  }

  function post(
    path: string,
    method: string,
    body: unknown,
    socket = paths.dstack,
  ): Promise<Reply> {
    const text = JSON.stringify(body);
    return raw(
      socket,
      `POST ${path}${method} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`,
    );
  }
  const call = async (method: string, body: unknown = {}) => {
    const reply = await post("/", method, body);
    assert.equal(reply.status, 200, reply.body);
    return JSON.parse(reply.body);
  };

  // spec/guest-agent.md 12.6
  const KEYS = [
    [
      "/",
      "test",
      "secp256k1",
      "f6c1ed94488394d78e0a4e5ab75d62e9f085d73b0b555d0614fb90ca13d9464d",
      "0b0fa470162c54f108850d143442c48d43f1cc42983b8e9c589679345b831d2b5bb5b97b21c2d2d036520209deae8b6111318c68eafc786190d6edc52e5cf0c201",
    ],
    [
      "/",
      "test",
      "ed25519",
      "f6c1ed94488394d78e0a4e5ab75d62e9f085d73b0b555d0614fb90ca13d9464d",
      "7752352aa2ad8b337a3845661073fb42ef1b1d3313d8ce0b8976ccc21505e0c62e79eb7aaf9b51768b0f9762e62098710ce4e8cabd450670b2fb0040e8551cb300",
    ],
    [
      "/test",
      "purpose",
      "k256",
      "5659d67867ac5487dc181b88d96abf4749728a6282100684d48a04a304e5a06d",
      "044c2670fd19c6562e16dd745d3e2ebaf75b571874259a32f79f92bbfc1caec55b9bc3228cfd9332994e0ed821d4cf145ffd9e5de824f97f88725e32f0a335b800",
    ],
    [
      "/test/path",
      "test-purpose",
      "",
      "b9fbb7171185c421c58610a2acba8ceae93623ae47815618cbad1e98fc042cb7",
      "f50c51735a97072f0c98125ed61fc84e2fdb36e95990b9e57337dadc0e2a9712227f04e07209faecb8891d59ec144a6c13e411dc90b3423f28071bd3fe11978d01",
    ],
  ] as const;
  for (const [path, purpose, algorithm, key, signature] of KEYS) {
    test(`GetKey ${path} ${purpose} ${algorithm || "(default)"} gives the reference's bytes`, async () => {
      const answer = await call("GetKey", { path, purpose, algorithm });
      assert.equal(answer.key, key);
      assert.equal(answer.signature_chain[0], signature);
    });
  }

  test("the signature chain leads from the key to the app's and to the KMS's root", async () => {
    const { key, signature_chain } = await call("GetKey", { path: "/", purpose: "p" });
    const publicKey = toHex(secp256k1.getPublicKey(fromHex(key)));
    const recover = (signature: string, message: Uint8Array) => {
      const bytes = fromHex(signature);
      const recovered = new Uint8Array([bytes[64]!, ...bytes.subarray(0, 64)]);
      return toHex(secp256k1.recoverPublicKey(recovered, keccak_256(message), { prehash: false }));
    };
    assert.equal(recover(signature_chain[0], utf8(`p:${publicKey}`)), APP_ROOT_PUBLIC);
    const message = concatBytes(
      utf8("dstack-kms-issued:"),
      fromHex(APP_ID),
      fromHex(APP_ROOT_PUBLIC),
    );
    assert.equal(recover(signature_chain[1], message), KMS_ROOT_PUBLIC);
  });

  test("an unknown algorithm is 400 with the text SDKs look for, and no key", async () => {
    for (const algorithm of ["rsa", "secp256k1_prehashed"]) {
      const reply = await post("/", "GetKey", { path: "/", algorithm });
      assert.equal(reply.status, 400);
      assert.deepEqual(Object.keys(JSON.parse(reply.body)), ["error"]);
      assert.match(reply.body, /Unsupported algorithm/);
    }
  });

  test("Info tells who the app is, with every field", async () => {
    const info = await call("Info");
    assert.equal(info.app_id, APP_ID);
    assert.equal(info.instance_id, "1691ed1b47506cad7d08834668691d88246f5b1f");
    assert.equal(
      info.mr_aggregated,
      "85334a62c97d0f8bf82d0245d31b539d17a2d7c258e2a13efc928aaea0e107cb",
    );
    assert.equal(
      info.os_image_hash,
      "e61be43dd1cc6a6f5edefd7c51b608983780839b0000ce60dd99737dcffe09b9",
    );
    assert.equal(JSON.parse(info.key_provider_info).name, "kms");
    const tcb = JSON.parse(info.tcb_info);
    for (const register of ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"]) {
      assert.equal(tcb[register].length, 96, register);
    }
    assert.equal(tcb.event_log.length, 33);
    assert.equal(typeof tcb.app_compose, "string");
    const members = [
      "app_cert",
      "app_name",
      "device_id",
      "vm_config",
      "cloud_vendor",
      "cloud_product",
    ];
    for (const member of members) assert.equal(typeof info[member], "string", member);
  });

  test("GetQuote pads report data and puts it into the quote", async () => {
    const answer = await call("GetQuote", { report_data: "0x74657374" });
    const expected = "74657374".padEnd(128, "0");
    assert.equal(answer.report_data, expected);
    assert.equal(answer.quote.slice(568 * 2, 632 * 2), expected);
    assert.equal(JSON.parse(answer.event_log).length, 33);
    const long = await post("/", "GetQuote", { report_data: "00".repeat(65) });
    assert.equal(long.status, 400);
    assert.match(long.body, /Report data is too long/);
  });

  test("Attest answers an attestation over the report data", async () => {
    const { attestation } = await call("Attest", { report_data: "ff" });
    assert.equal(decodeAttestation(fromHex(attestation)).stack.reportData[0], 0xff);
  });

  test("GetTlsKey makes a certificate of the app's CA as asked", async () => {
    const request = {
      subject: "example",
      alt_names: ["localhost", "127.0.0.1"],
      usage_server_auth: true,
      usage_ra_tls: true,
      with_app_info: true,
    };
    const [first, second] = [await call("GetTlsKey", request), await call("GetTlsKey", request)];
    assert.notEqual(first.key, second.key);
    assert.match(first.key, /^-----BEGIN PRIVATE KEY-----\n/);
    const leaf = new X509Certificate(first.certificate_chain[0]);
    const ca = new X509Certificate(first.certificate_chain[1]);
    assert.equal(leaf.verify(ca.publicKey), true);
    assert.equal(leaf.subject, "CN=example");
    assert.equal(leaf.subjectAltName, "DNS:localhost, IP Address:127.0.0.1");
    // extKeyUsage holding serverAuth alone, in DER.
    assert.ok(toHex(new Uint8Array(leaf.raw)).includes("0603551d25040c300a06082b06010505070301"));
    const bound = sha512(concatBytes(
      utf8("ratls-cert:"),
      new Uint8Array(leaf.publicKey.export({ type: "spki", format: "der" })),
    ));
    assert.ok(toHex(new Uint8Array(leaf.raw)).includes(toHex(bound)), "bound to its key");
  });

  test("GetTlsKey without wishes has neither names nor purposes, and refuses inverted validity", async () => {
    const { certificate_chain } = await call("GetTlsKey", {});
    const leaf = new X509Certificate(certificate_chain[0]);
    assert.equal(leaf.subjectAltName, undefined);
    assert.ok(!toHex(new Uint8Array(leaf.raw)).includes("0603551d25"), "no extKeyUsage");
    for (const [not_before, not_after] of [[5, 5], [6, 5]]) {
      const reply = await post("/", "GetTlsKey", { not_before, not_after });
      assert.equal(reply.status, 400);
      assert.match(reply.body, /not_before must be earlier than not_after/);
    }
  });

  test("Sign and Verify agree for each algorithm, and a changed message is false", async () => {
    const digest = "11".repeat(32);
    for (
      const [algorithm, data] of [
        ["ed25519", "68656c6c6f"],
        ["secp256k1", "68656c6c6f"],
        ["secp256k1_prehashed", digest],
      ]
    ) {
      const { signature, public_key, signature_chain } = await call("Sign", { algorithm, data });
      assert.equal(signature_chain.length, 3);
      assert.equal(signature_chain[0], signature);
      const verify = (changed: object) =>
        call("Verify", { algorithm, data, signature, public_key, ...changed });
      assert.deepEqual(await verify({}), { valid: true });
      assert.deepEqual(await verify({ data: data!.replace(/^../, "99") }), { valid: false });
      const short = await post("/", "Verify", { algorithm, data, signature: "00", public_key });
      assert.equal(short.status, 400);
    }
  });

  test("Sign of spec/guest-agent.md 12.6 has the reference's bytes", async () => {
    const data = toHex(utf8("test message for secp256k1"));
    const { signature } = await call("Sign", { algorithm: "secp256k1", data });
    assert.equal(
      signature,
      "45dfe45743728d1b978b5e67b2fa109296bc3fa56e9bba36ba2d0549aab2feaa269b4fc061c795f60c9b279f4028d0c38b8ebee018e7409711119fde251dcc3d",
    );
    const prehashed = await post("/", "Sign", { algorithm: "secp256k1_prehashed", data: "00" });
    assert.match(prehashed.body, /32-byte digest/);
  });

  test("every spelling of a path reaches the method, on both sockets", async () => {
    for (const path of ["/", "/prpc/", "/prpc/DstackGuest.", "/DstackGuest."]) {
      assert.equal((await post(path, "Version", {})).status, 200, path);
    }
    for (const path of ["/prpc/Tappd.", "/prpc/", "/Tappd.", "/"]) {
      assert.equal((await post(path, "Version", {}, paths.tappd)).status, 200, path);
      assert.equal(
        (await post(path, "RawQuote", { report_data: "00".repeat(64) }, paths.tappd)).status,
        200,
        path,
      );
    }
    assert.equal((await post("/", "GetKey", { path: "/" }, paths.tappd)).status, 200);
    const unknown = await post("/", "getKey", {});
    assert.ok(unknown.status === 400 || unknown.status === 404);
    assert.equal(typeof JSON.parse(unknown.body).error, "string");
  });

  test("a client without a Host header, a Content-Type or a body is served", async () => {
    const reply = await raw(
      paths.dstack,
      "POST /GetKey?json HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    );
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-length"], String(reply.body.length));
    const get = await raw(paths.dstack, "GET /GetKey?path=%2F&purpose=test HTTP/1.1\r\n\r\n");
    assert.equal(JSON.parse(get.body).key, KEYS[0][3]);
  });

  test("answers are ASCII, whatever the app is called", async () => {
    const named = { ...agent, compose: { ...agent.compose, name: "Größe 你好" } };
    const reply = await dstackSocketApp(named).request("/Info");
    const text = await reply.text();
    assert.match(text, /^[\x20-\x7e]*$/);
    assert.equal(JSON.parse(text).app_name, "Größe 你好");
  });

  test("Tappd derives the same key for a path, and names the effective hash and prefix", async () => {
    const derive = async () =>
      JSON.parse((await post("/prpc/Tappd.", "DeriveKey", { path: "/" }, paths.tappd)).body);
    const [first, second] = [await derive(), await derive()];
    assert.equal(first.key, second.key);
    // The PKCS#8 hash of spec/guest-agent.md 12.5.
    const der = Uint8Array.from(
      atob(first.key.replace(/-----[^-]+-----|\n/g, "")),
      (char) => char.charCodeAt(0),
    );
    const { createHash } = await import("node:crypto");
    assert.equal(
      createHash("sha256").update(der).digest("hex"),
      "3395d2509f198d0a4d910a132d02b98bc382891ec8f3b03ba992b7b669b75ec2",
    );
    const quote = await post("/prpc/Tappd.", "TdxQuote", { report_data: "74657374" }, paths.tappd);
    const { quote: hex, hash_algorithm, prefix } = JSON.parse(quote.body);
    assert.deepEqual({ hash_algorithm, prefix }, { hash_algorithm: "sha512", prefix: "app-data" });
    // KAT of spec/guest-agent.md 3.4: content `test`, tag `app-data`, sha512.
    assert.equal(
      hex.slice(568 * 2, 632 * 2),
      "1864e059be7e1ec12d9fe9da903d3711e0d72edab19f044cc9d6ac90c32b996b545a9979309bd19c36b803941e8e3485115e9b794001f2b9f367f6e03c52e532",
    );
    const bad = await post("/prpc/Tappd.", "RawQuote", { report_data: "00" }, paths.tappd);
    assert.match(bad.body, /invalid content length/);
    const hash = await post(
      "/prpc/Tappd.",
      "TdxQuote",
      { report_data: "", hash_algorithm: "md5" },
      paths.tappd,
    );
    assert.match(hash.body, /invalid hash algorithm/);
  });

  describe("port 8090", () => {
    const docker = (listing: unknown) => () => Promise.resolve(Response.json(listing));
    const external = (compose: Partial<Agent["compose"]>, list: unknown = []) =>
      externalApp({ ...agent, compose: { ...agent.compose, ...compose } }, {
        docker: docker(list),
        systemInfo: () => Promise.resolve(SYSTEM),
        now: () => new Date(0),
      });

    test("shows no TCB info of an app that keeps it", async () => {
      const open = await (await external({ publicTcbinfo: true }).request("/prpc/Info?json"))
        .json();
      assert.notEqual(open.tcb_info, "");
      const app = external({ publicTcbinfo: false });
      for (const path of ["/prpc/Info?json", "/prpc/Worker.Info?json"]) {
        const info = await (await app.request(path, { method: "POST" })).json();
        assert.deepEqual([info.tcb_info, info.vm_config], ["", ""]);
        assert.equal(info.app_id, APP_ID);
      }
      assert.doesNotMatch(await (await app.request("/")).text(), /rtmr0/);
    });

    test("has no route to keys, logs or metrics unless the compose opens them", async () => {
      const app = external({ publicLogs: false, publicSysinfo: false });
      for (
        const path of [
          "/prpc/GetKey",
          "/prpc/DstackGuest.GetKey",
          "/GetKey",
          "/logs/web",
          "/metrics",
        ]
      ) {
        assert.notEqual((await app.request(path)).status, 200, path);
      }
      const metrics = await external({ publicSysinfo: true }).request("/metrics");
      const text = await metrics.text();
      assert.match(text, /# TYPE system_num_cpus gauge\nsystem_num_cpus 2\n/);
      assert.match(text, /\nsystem_memory_used 1048576\n/);
      assert.match(text, /\nsystem_load_average_15m 125\n/);
      assert.match(text, /\ndisk_usage_percentage\{name="\/dev\/vda",mount_point="\/a\\"b"\} 75\n/);
    });

    test("escapes container names on its page", async () => {
      const list = [{ Names: ["/<script>"], Status: "Up" }];
      const page = await (await external({ publicLogs: true }, list).request("/")).text();
      assert.match(page, /&lt;script&gt;/);
      assert.doesNotMatch(page, /<script>/);
    });

    test("the host's API answers who knows the token, and nobody else", async () => {
      let poweredOff = 0;
      const app = guestApiApp(agent, {
        docker: docker([{ Id: "ab", Names: ["/web"], Created: 5, Status: "Up", State: "running" }]),
        systemInfo: () => Promise.resolve(SYSTEM),
        networkInfo: () =>
          Promise.resolve({
            dnsServers: ["10.0.2.3"],
            gateways: [],
            interfaces: [],
            wireGuard: "",
          }),
        powerOff: () => Promise.resolve(void poweredOff++),
      }, "secret");
      const call = (method: string, token: string) =>
        app.request(`/api/${method}?json`, {
          method: "POST",
          headers: { authorization: `Bearer ${token}` },
        });
      for (const token of ["", "secre", "secret2"]) {
        assert.equal((await call("Shutdown", token)).status, 401);
      }
      assert.equal(poweredOff, 0);
      const { containers } = await (await call("ListContainers", "secret")).json();
      assert.deepEqual(containers[0].names, ["/web"]);
      assert.equal((await (await call("SysInfo", "secret")).json()).uptime, 12);
      assert.deepEqual((await (await call("NetworkInfo", "secret")).json()).dns_servers, [
        "10.0.2.3",
      ]);
      assert.equal((await (await call("Info", "secret")).json()).app_id, APP_ID);
      assert.equal((await call("Shutdown", "secret")).status, 200);
      assert.equal(poweredOff, 1);
    });

    test("names the version on every answer", async () => {
      const reply = await external({}).request("/prpc/Version");
      assert.match(reply.headers.get("x-app-version") ?? "", /^v\d+\.\d+\.\d+ \(.+\)$/);
    });

    test("binds the signing key in a quote", async () => {
      const known = { ...agent, deriveKey: agent.deriveKey };
      const app = externalApp(known, {
        docker: docker([]),
        systemInfo: () => Promise.resolve(SYSTEM),
        now: () => new Date(0),
      });
      const reply = await app.request("/prpc/GetAttestationForAppKey?algorithm=ed25519");
      const { report_data } = await reply.json();
      const text = new TextDecoder().decode(fromHex(report_data));
      // The public key of path `vms`, spec/guest-agent.md 12.6, in base64url.
      const expected = btoa(String.fromCharCode(
        ...fromHex("698f56bd587d8ce3ca8db0e1c361ba9d190089f98dc4d9df800ff92ed073a65d"),
      )).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
      assert.equal(text, `dip1::ed25519-pk:${expected}`.padEnd(64, "\0"));
      assert.equal((await app.request("/prpc/GetAttestationForAppKey")).status, 400);
    });
  });
});
