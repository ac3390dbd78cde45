import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { checkManifestRules, parseAppCompose } from "./app-compose.ts";
import { gpuPolicyHash } from "./gpu-policy.ts";

const MINIMAL = { manifest_version: "3", name: "app", runner: "docker-compose" };

function parse(members: Record<string, unknown>) {
  return parseAppCompose(utf8(JSON.stringify({ ...MINIMAL, ...members })));
}

function parseComplete(members: Record<string, unknown>) {
  return parse({ docker_compose_file: "services: {}", ...members });
}

test("defaults are those of spec/os.md 4.1", () => {
  const app = parse({});
  assert.equal(app.publicTcbinfo, true);
  assert.equal(app.publicLogs, false);
  assert.equal(app.secureTime, true);
  assert.equal(app.keyProvider, "none");
  assert.equal(app.eventLogVersion, 1);
  assert.equal(app.swapSize, 0);
  assert.equal(app.requirements, undefined);
  assert.deepEqual(app.initScripts, []);
});

test("manifest_version takes canonical strings and the numbers 1 and 2 (spec/os.md 8.1)", () => {
  assert.equal(parse({ manifest_version: " 3 " }).manifestVersion, 3);
  assert.equal(parse({ manifest_version: 2 }).manifestVersion, 2);
  const refused: [unknown, RegExp][] = [
    [3, /legacy versions 1 and 2/],
    [-1, /positive integer/],
    [2.5, /positive integer/],
    ["0", /greater than 0/],
    ["03", /canonical integer string/],
    ["+3", /canonical integer string/],
    ["3.0", /canonical integer string/],
    ["", /must not be empty/],
    [null, /must be a string or a number/],
  ];
  for (const [version, text] of refused) {
    assert.throws(() => parse({ manifest_version: version }), text);
  }
  assert.throws(
    () => checkManifestRules(parseComplete({ manifest_version: "4" })),
    /Unsupported manifest_version/,
  );
});

test("requirements, nerdctl and several init scripts need manifest version 3", () => {
  const version2 = [
    { requirements: {} },
    { runner: "nerdctl-compose" },
    { init_script: ["true", "true"] },
  ];
  for (const members of version2) {
    const app = parseComplete({ manifest_version: 2, ...members });
    assert.throws(() => checkManifestRules(app), /requires manifest_version/);
    checkManifestRules(parseComplete(members));
  }
});

test("snapshotter belongs to nerdctl-compose and has two values", () => {
  assert.throws(() => checkManifestRules(parseComplete({ snapshotter: "stargz" })), /snapshotter/);
  assert.throws(() => parse({ snapshotter: "unknown" }), /snapshotter must be one of/);
  checkManifestRules(parseComplete({ runner: "nerdctl-compose", snapshotter: "stargz" }));
});

test("a runner without its source or an unknown runner is refused", () => {
  assert.throws(() => checkManifestRules(parse({})), /needs docker_compose_file/);
  assert.throws(() => checkManifestRules(parse({ runner: "bash" })), /needs bash_script/);
  assert.throws(() => checkManifestRules(parse({ runner: "none" })), /Unsupported runner "none"/);
});

test("init_script is one script, up to five, or null", () => {
  assert.deepEqual(parse({ init_script: "a" }).initScripts, ["a"]);
  assert.deepEqual(parse({ init_script: ["a", "b"] }).initScripts, ["a", "b"]);
  assert.deepEqual(parse({ init_script: null }).initScripts, []);
  assert.throws(() => parse({ init_script: ["a", 1] }), /array of strings/);
  assert.throws(() => parse({ init_script: Array(6).fill("a") }), /at most 5/);
});

test("unknown members are kept out of requirements and gpu_policy only", () => {
  parse({ something_new: 1 });
  assert.throws(() => parse({ requirements: { os: 1 } }), /unknown field/);
  assert.throws(() => parse({ requirements: { gpu_policy: { gpu: 1 } } }), /unknown field/);
});

test("a member that repeats is refused at every depth", () => {
  const texts = [
    '{"manifest_version":"3","name":"a","name":"b","runner":"bash"}',
    '{"manifest_version":"3","name":"a","runner":"bash","requirements":{"os_version":"1","os_version":"2"}}',
    '{"manifest_version":"3","name":"a","runner":"bash","x":[{"y":1,"\\u0079":2}]}',
  ];
  for (const text of texts) assert.throws(() => parseAppCompose(utf8(text)), /repeats/);
});

test("bytes that are not UTF-8 are refused", () => {
  const bytes = utf8('{"manifest_version":"3","name":"a?","runner":"bash"}');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  assert.throws(() => parseAppCompose(bytes), /UTF-8/);
});

test("key_provider wins over the legacy flags", () => {
  assert.equal(parse({ kms_enabled: true }).keyProvider, "kms");
  assert.equal(parse({ local_key_provider_enabled: true }).keyProvider, "local");
  assert.equal(parse({ key_provider: "tpm", kms_enabled: true }).keyProvider, "tpm");
  assert.throws(() => parse({ key_provider: "other" }), /key_provider must be one of/);
});

test("the gateway is on by either spelling or by the old feature", () => {
  assert.equal(parse({}).gatewayEnabled, false);
  assert.equal(parse({ gateway_enabled: true }).gatewayEnabled, true);
  assert.equal(parse({ tproxy_enabled: true, gateway_enabled: false }).gatewayEnabled, true);
  assert.equal(parse({ features: ["tproxy-net"] }).gatewayEnabled, true);
});

test("swap_size takes bytes, suffixes and hex, and refuses what overflows", () => {
  assert.equal(parse({ swap_size: 4096 }).swapSize, 4096);
  assert.equal(parse({ swap_size: "4G" }).swapSize, 4 * 2 ** 30);
  assert.equal(parse({ swap_size: "512m" }).swapSize, 512 * 2 ** 20);
  assert.equal(parse({ swap_size: "0x1000" }).swapSize, 4096);
  for (const bad of ["1GG", "1.5G", "-1", "", "99999999999999T", -1, 1.5, true]) {
    assert.throws(() => parse({ swap_size: bad }), /swap_size/);
  }
});

test("the GPU policy hash covers the value as written (spec/os.md 4.2)", () => {
  const empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
  const hashOf = (requirements?: unknown) =>
    toHex(
      gpuPolicyHash(
        parse(requirements === undefined ? {} : { requirements }).requirements?.gpuPolicy,
      ),
    );
  assert.equal(hashOf(), empty);
  assert.equal(hashOf({}), empty);
  assert.equal(hashOf({ gpu_policy: {} }), empty);
  assert.notEqual(hashOf({ gpu_policy: { attest_gpu: true } }), empty);
});

test("verity volumes need an absolute target of their own and a 32-byte root", () => {
  const volume = { source: "a.img", verity_root: "ab".repeat(32), target: "/models" };
  assert.equal(parse({ verity_volumes: [volume] }).verityVolumes[0]!.verityRoot.length, 32);
  assert.throws(
    () => parse({ verity_volumes: [volume, volume] }),
    /duplicate verity volume target/,
  );
  assert.throws(
    () => parse({ verity_volumes: [{ ...volume, target: "models" }] }),
    /absolute path/,
  );
  assert.throws(() => parse({ verity_volumes: [{ ...volume, verity_root: "ab" }] }), /expected 32/);
});

test("ports keep to 16 bits", () => {
  const app = parse({ port_policy: { ports: [{ port: 8080, pp: true }], restrict_mode: true } });
  assert.deepEqual(app.portPolicy, { ports: [{ port: 8080, pp: true }], restrictMode: true });
  assert.throws(() => parse({ port_policy: { ports: [{ port: 65536 }] } }), /port must be/);
});
