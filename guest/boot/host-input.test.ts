import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import process from "node:process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import fc from "fast-check";
import { concatBytes, toHex, utf8 } from "#core/bytes/bytes.ts";
import { composeHash } from "#core/compose/identity.ts";
import { launchTokenHash } from "#core/compose/launch-token.ts";
import { mrConfigIdV3 } from "#core/compose/mr-config.ts";
import { x25519PublicKey } from "#core/crypto/app-keys.ts";
import { encryptEnv, encryptToPublicKey } from "#core/crypto/env-encryption.ts";
import { AppError } from "#core/errors/app-error.ts";
import { copyHostFiles } from "../adapters/host-file-copy.ts";
import { HOST_FILES, type HostFileName } from "./host-files.ts";
import { READY_MARKER } from "./setup.ts";
import { type Scenario, testGuest, testKms } from "./guest.fixture.ts";

const kms = testKms();
const MIB = 1024 * 1024;
const TOKEN = "a launch token of more than 32 bytes";
const KMS_URL = "https://kms.example:8000";

/** Every member that a boot reads, with a value it accepts. */
const COMPOSE = {
  manifest_version: "3",
  name: "app",
  runner: "docker-compose",
  features: ["x"],
  snapshotter: null,
  docker_compose_file: "services: {}",
  init_script: ["true"],
  pre_launch_script: "true",
  public_logs: true,
  public_sysinfo: true,
  public_tcbinfo: true,
  gateway_enabled: true,
  tproxy_enabled: false,
  kms_enabled: true,
  local_key_provider_enabled: false,
  key_provider: "kms",
  key_provider_id: toHex(kms.providerId),
  allowed_envs: ["NAME"],
  no_instance_id: false,
  secure_time: false,
  storage_fs: "ext4",
  swap_size: 4096,
  event_log_version: 1,
  port_policy: { ports: [{ port: 80, pp: false }], restrict_mode: false },
  verity_volumes: [],
  requirements: {
    os_version: null,
    platforms: ["dstack-tdx"],
    tdx_measure_acpi_tables: true,
    launch_token_hash: toHex(launchTokenHash(TOKEN)),
    gpu_policy: {},
  },
};
const SYS_CONFIG = {
  kms_urls: [KMS_URL],
  gateway_urls: ["https://gateway.example"],
  tproxy_urls: ["https://gateway.example"],
  pccs_url: "https://pccs.example",
  collateral_urls: { pccs: "https://pccs.example", amd_kds: "https://kds.example" },
  nvidia_attestation_proxy_url: "",
  docker_registry: "https://mirror.example",
  host_api_url: "http://10.0.2.2:9080/api",
  host_api_token: "token",
  mr_config: "",
  vm_config: '{"os_image_hash":""}',
};
const INSTANCE = { instance_id_seed: "bb".repeat(20), instance_id: "", app_id: "aa".repeat(20) };
const USER_CONFIG = { dstack: { launch_token: TOKEN } };

const json = (value: unknown) => utf8(JSON.stringify(value));
const GOOD: Readonly<Record<HostFileName, Uint8Array>> = {
  "app-compose.json": json(COMPOSE),
  ".sys-config.json": json(SYS_CONFIG),
  ".instance_info": json(INSTANCE),
  ".encrypted-env": encryptEnv(x25519PublicKey(kms.envCryptKey), [{ key: "NAME", value: "v" }]),
  ".user-config": json(USER_CONFIG),
};
const NAMES = HOST_FILES.map(({ name }) => name);
const JSON_NAMES = NAMES.filter((name) => name !== ".encrypted-env");

/** What may be at fault when a host's file stops a boot. */
const BLAMES_HOST_FILE =
  /^(guest\/host-file|input\/|compose\/|config\/invalid|measurement\/|crypto\/)/;

describe("whatever the host puts into its share", () => {
  const root = mkdtempSync(join(tmpdir(), "host-input-"));
  const socket = createServer();
  before(() => new Promise<void>((resolve) => socket.listen(join(root, "socket"), resolve)));
  after(async () => {
    await new Promise((resolve) => socket.close(resolve));
    rmSync(root, { recursive: true });
  });

  /** A boot on a real share: good files, but for what `spoil` does to the folder. */
  async function boot(
    spoil: (share: string) => void,
    scenario: Scenario = {},
  ): Promise<{ code: string | undefined; keyRequests: number; vm: ReturnType<typeof testGuest> }> {
    const dir = mkdtempSync(join(root, "boot-"));
    const share = join(dir, "share");
    mkdirSync(share);
    for (const name of NAMES) writeFileSync(join(share, name), GOOD[name]);
    spoil(share);
    const vm = testGuest({
      kms,
      ...scenario,
      async takeHostFiles() {
        const files = await copyHostFiles(share, join(dir, "work"));
        // A host that changes its mind later is not heard.
        rmSync(share, { recursive: true });
        return files;
      },
    });
    let code: string | undefined;
    try {
      await vm.run();
    } catch (error) {
      assert.ok(error instanceof AppError, `the boot died of ${error}`);
      code = error.code;
    } finally {
      rmSync(dir, { recursive: true });
    }
    const keyRequests = vm.steps.filter((step) => step === "KMS request").length;
    assert.equal(vm.steps.filter((step) => step === "take host files").length, 1);
    assert.deepEqual(vm.steps.filter((step) => /^read .*(host-shared|\/share\/)/.test(step)), []);
    assert.equal(vm.written.has(READY_MARKER), code === undefined);
    assert.equal(vm.consoleLines.length, code === undefined ? 0 : 1);
    if (code !== undefined) {
      assert.match(code, BLAMES_HOST_FILE);
      const line = vm.consoleLines[0]!;
      assert.ok(line.startsWith(`dstack-boot-error code=${code} `), line);
      assert.ok(line.length < 1024 && !/[\r\n]/.test(line));
      const told = vm.notified.filter(([event]) => event === "boot.error");
      // Where the file that names the Host API is the bad one, the console alone tells.
      assert.ok(told.length <= 1 && told.every(([, text]) => text.startsWith(`${code}: `)));
    }
    return { code, keyRequests, vm };
  }

  /** Writes one file, and requires that it either is harmless or stops the boot before keys are asked for. */
  async function bootWith(name: HostFileName, content: Uint8Array, scenario?: Scenario) {
    const result = await boot((share) => writeFileSync(join(share, name), content), scenario);
    // Only the KMS's key tells what is in an environment; its outside is judged before.
    if (result.code !== undefined && name !== ".encrypted-env") {
      assert.equal(result.keyRequests, 0, `asked for keys, then: ${result.vm.consoleLines[0]}`);
    }
    return result;
  }

  test("good files boot, and the environment is the owner's", async () => {
    const { code, vm, keyRequests } = await boot(() => {});
    assert.equal(code, undefined, vm.consoleLines[0]);
    assert.equal(keyRequests, 2);
    const hash = vm.events.find(({ event }) => event === "compose-hash")!.payload;
    assert.equal(toHex(hash), toHex(composeHash(GOOD["app-compose.json"])));
    const env = [...vm.written].find(([path]) => path.endsWith("/.decrypted-env"))![1];
    assert.equal(env.text, "NAME=v\n");
  });

  for (const { name, maxBytes, required } of HOST_FILES) {
    test(`${name} that is no plain file stops the boot`, async () => {
      const kinds: Record<string, (path: string) => void> = {
        directory: (path) => mkdirSync(path),
        "link to a file": (path) => symlinkSync("/etc/hostname", path),
        "link to nothing": (path) => symlinkSync("/nonexistent", path),
        "link to itself": (path) => symlinkSync(path, path),
        "link to a device": (path) => symlinkSync("/dev/zero", path),
        FIFO: (path) => execFileSync("mkfifo", [path]),
        "one byte more": (path) => {
          writeFileSync(path, "");
          truncateSync(path, maxBytes + 1);
        },
        "a sparse tebibyte": (path) => {
          writeFileSync(path, "");
          truncateSync(path, 2 ** 40);
        },
        "link to a socket": (path) => symlinkSync(join(root, "socket"), path),
      };
      if (process.getuid?.() === 0) {
        kinds["device"] = (path) => execFileSync("mknod", [path, "c", "1", "5"]);
      }
      for (const [kind, make] of Object.entries(kinds)) {
        const { code, keyRequests } = await boot((share) => {
          rmSync(join(share, name));
          make(join(share, name));
        });
        assert.equal(code, "guest/host-file", kind);
        assert.equal(keyRequests, 0, kind);
      }
    });

    test(`${name}, missing, empty or of zeros, is told or taken for absent`, async () => {
      const missing = await boot((share) => rmSync(join(share, name)));
      if (required) assert.equal(missing.code, "guest/host-file");
      assert.equal(missing.code === undefined || missing.keyRequests === 0, true);
      await bootWith(name, new Uint8Array());
      const zeros = await bootWith(name, new Uint8Array(Math.min(maxBytes, 4096)));
      assert.notEqual(zeros.code, undefined);
    });
  }

  for (const name of JSON_NAMES) {
    const good = GOOD[name];
    const REFUSED: readonly [string, Uint8Array][] = [
      ["a repeated member", concatBytes(utf8('{"x":1,"\\u0078":2,'), good.subarray(1))],
      [
        "invalid UTF-8",
        concatBytes(good.subarray(0, -1), utf8(',"x":"'), Uint8Array.of(0xc3, 0x28), utf8('"}')),
      ],
      [
        "a surrogate in UTF-8",
        concatBytes(
          good.subarray(0, -1),
          utf8(',"x":"'),
          Uint8Array.of(0xed, 0xa0, 0x80),
          utf8('"}'),
        ),
      ],
      ["a byte order mark", concatBytes(Uint8Array.of(0xef, 0xbb, 0xbf), good)],
      ["UTF-16", new Uint8Array(Buffer.from(new TextDecoder().decode(good), "utf16le"))],
      ["something behind it", concatBytes(good, utf8("{}"))],
      [
        "deep nesting",
        concatBytes(good.subarray(0, -1), utf8(`,"x":${"[".repeat(4000)}${"]".repeat(4000)}}`)),
      ],
      ["nothing but brackets", utf8("[".repeat(10_000))],
      ["an array", utf8("[]")],
      ["null", utf8("null")],
      ["a string", utf8('"x"')],
    ];
    test(`${name} that is not one strict JSON object stops the boot`, async () => {
      for (const [what, content] of REFUSED) {
        const { code } = await bootWith(name, content);
        assert.match(code ?? "none", /^(input\/malformed|compose\/launch-token-mismatch)$/, what);
      }
    });
  }

  test("all the bytes a compose may have, of small values, are refused without building them", async () => {
    const half = 25 * MIB;
    const deep = new Uint8Array(2 * half).fill(0x5b, 0, half).fill(0x5d, half);
    const wide = utf8(`[${"{},".repeat(16 * MIB)}{}]`);
    const before = process.memoryUsage().rss;
    assert.equal((await bootWith("app-compose.json", deep)).code, "input/malformed");
    assert.equal((await bootWith("app-compose.json", wide)).code, "input/too-large");
    // 1.5 GB each when the values are made first, which is more than a small VM has.
    assert.ok(process.memoryUsage().rss - before < 512 * MIB);
  });

  const WRONG: readonly unknown[] = [null, true, -1, 1e300, "", "x", [], ["x"], {}, { x: [{}] }];
  const DOCUMENTS: readonly [HostFileName, object][] = [
    ["app-compose.json", COMPOSE],
    [".sys-config.json", SYS_CONFIG],
    [".instance_info", INSTANCE],
    [".user-config", USER_CONFIG],
  ];
  for (const [name, document] of DOCUMENTS) {
    test(`${name} with a member of the wrong type boots or stops, before keys are asked for`, async () => {
      let stopped = 0;
      for (const member of Object.keys(document)) {
        for (const value of WRONG) {
          const { code } = await bootWith(name, json({ ...document, [member]: value }));
          if (code !== undefined) stopped++;
        }
      }
      assert.ok(stopped >= Object.keys(document).length);
    });
  }

  test("addresses that nobody can ask stop the boot: a KMS that is down would be waited for", async () => {
    for (const url of ["", "kms", "http://kms.example", "vsock://2:1", "https://", "https://[::"]) {
      const kmsUrls = json({ ...SYS_CONFIG, kms_urls: [KMS_URL, url] });
      assert.equal((await bootWith(".sys-config.json", kmsUrls)).code, "config/invalid", url);
    }
    for (const member of ["docker_registry", "host_api_url", "pccs_url"]) {
      const content = json({ ...SYS_CONFIG, collateral_urls: {}, [member]: "no url" });
      assert.equal((await bootWith(".sys-config.json", content)).code, "input/malformed", member);
    }
    const vmConfig = json({ ...SYS_CONFIG, vm_config: "{" });
    assert.equal((await bootWith(".sys-config.json", vmConfig)).code, "input/malformed");
  });

  test("a launch document that is not this app's stops the boot before keys are asked for", async () => {
    const bound = {
      version: 3,
      compose_hash: toHex(composeHash(GOOD["app-compose.json"])),
      key_provider: "kms",
      key_provider_id: toHex(kms.providerId),
      init_script_hashes: [toHex(sha256(utf8("true")))],
    };
    const launch = async (document: string) => {
      const content = json({ ...SYS_CONFIG, mr_config: document });
      return await bootWith(".sys-config.json", content, {
        mrConfigId: mrConfigIdV3(utf8(document)),
      });
    };
    const { code, vm } = await launch(JSON.stringify(bound));
    assert.equal(code, undefined, vm.consoleLines[0]);
    const wrong: readonly [string, string][] = [
      ["{", "input/malformed"],
      ["[]", "input/malformed"],
      [JSON.stringify({ ...bound, unknown: 1 }), "input/malformed"],
      [JSON.stringify({ ...bound, compose_hash: 1 }), "input/malformed"],
      [
        JSON.stringify({ ...bound, compose_hash: "00".repeat(32) }),
        "measurement/mr-config-mismatch",
      ],
      [JSON.stringify({ ...bound, init_script_hashes: [] }), "measurement/mr-config-mismatch"],
      [JSON.stringify({ ...bound, key_provider: "none" }), "measurement/mr-config-mismatch"],
    ];
    for (const [document, expected] of wrong) assert.equal((await launch(document)).code, expected);
  });

  test("an environment that is not one stops the boot, and its text stays secret", async () => {
    const sealed = (text: string | Uint8Array) =>
      encryptToPublicKey(
        x25519PublicKey(kms.envCryptKey),
        typeof text === "string" ? utf8(text) : text,
      );
    const short = await bootWith(".encrypted-env", new Uint8Array(43));
    assert.deepEqual([short.code, short.keyRequests], ["input/malformed", 0]);
    for (
      const plaintext of [
        "hunter2",
        "NAME=hunter2",
        '{"env":[{"key":"NAME","value":"hunter2"}',
        '{"env":{"NAME":"hunter2"}}',
        '{"env":[{"key":"NAME","value":["hunter2"]}]}',
        utf8('"hunter2').map((byte) => byte | 0x80),
      ]
    ) {
      const { code, vm } = await bootWith(".encrypted-env", sealed(plaintext));
      assert.equal(code, "input/malformed");
      assert.doesNotMatch(JSON.stringify([vm.notified, vm.consoleLines]), /hunter/);
    }
    const changed = sealed('{"env":[]}');
    changed[changed.length - 1]! ^= 1;
    const { code } = await bootWith(".encrypted-env", changed);
    assert.equal(code, "crypto/decryption-failed");
  });

  test("files with bytes changed, cut out and put in boot, or stop with a reason", async () => {
    const change = fc.record({
      name: fc.constantFrom(...NAMES),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      removed: fc.nat(8),
      inserted: fc.oneof(
        fc.uint8Array({ maxLength: 8 }),
        fc.constantFrom('"', "}", '{"a":', ",", "null", "\\u0000", "1e999", "__proto__").map(utf8),
      ),
    });
    await fc.assert(
      fc.asyncProperty(change, async ({ name, at, removed, inserted }) => {
        const good = GOOD[name];
        const start = Math.floor(at * good.length);
        await bootWith(
          name,
          concatBytes(good.subarray(0, start), inserted, good.subarray(start + removed)),
        );
      }),
      { numRuns: 60 },
    );
  });
});
