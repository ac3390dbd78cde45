import assert from "node:assert/strict";
import { test } from "node:test";
import { fromUtf8, toHex, utf8 } from "../bytes/bytes.ts";
import { parseAppCompose } from "./app-compose.ts";
import { bindLaunch, type Launch } from "./launch-binding.ts";

// The version matrix of spec/vmm.md 4.6, and the document of its vector.
const PIN = "33".repeat(32);

function launch(members: Record<string, unknown>, change: Partial<Launch> = {}): Launch {
  const json = {
    manifest_version: "3",
    name: "a",
    runner: "docker-compose",
    key_provider: "kms",
    ...members,
  };
  return {
    platform: "tdx",
    useMrConfigId: true,
    compose: parseAppCompose(utf8(JSON.stringify(json))),
    composeHash: new Uint8Array(32).fill(0x22),
    appId: new Uint8Array(20).fill(0x11),
    instanceId: new Uint8Array(20).fill(0x44),
    gpuCount: 0,
    ...change,
  };
}

test("TDX binds V1, or V3 when the app pins its key provider", () => {
  assert.equal(bindLaunch(launch({})).version, 1);
  assert.equal(bindLaunch(launch({ key_provider_id: PIN })).version, 3);
  assert.equal(bindLaunch(launch({}, { useMrConfigId: false })).version, 0);
  assert.throws(
    () => bindLaunch(launch({ key_provider_id: PIN }, { useMrConfigId: false })),
    /key provider ID requires MrConfigV3, but use_mrconfigid is disabled/,
  );
});

test("SEV-SNP always binds V3", () => {
  const binding = bindLaunch(launch({}, { platform: "amd-sev-snp", useMrConfigId: false }));
  assert.equal(binding.version, 3);
});

test("the V3 document says no more than applies", () => {
  const bind = (members: Record<string, unknown>, change: Partial<Launch> = {}) => {
    const binding = bindLaunch(launch({ key_provider_id: PIN, ...members }, change));
    if (binding.version !== 3) throw new TypeError("not V3");
    return binding;
  };
  const base = {
    app_id: "11".repeat(20),
    compose_hash: "22".repeat(32),
    instance_id: "44".repeat(20),
    key_provider: "kms",
    key_provider_id: PIN,
    version: 3,
  };
  const documentOf = (...args: Parameters<typeof bind>) =>
    JSON.parse(fromUtf8(bind(...args).document));
  assert.deepEqual(documentOf({ manifest_version: 2 }), base);
  assert.deepEqual(documentOf({}), { ...base, init_script_hashes: [] });
  assert.deepEqual(
    documentOf({ manifest_version: 2, no_instance_id: true }, { instanceId: new Uint8Array() }),
    (({ instance_id: _, ...rest }) => rest)(base),
  );
  const emptyPolicy = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
  assert.equal(documentOf({}, { gpuCount: 1 }).gpu_policy_hash, emptyPolicy);
  const { mrConfigId, hostData } = bind({});
  assert.equal(toHex(mrConfigId), "03" + toHex(hostData) + "00".repeat(15));
});
