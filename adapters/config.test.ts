import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { loadConfig, parseConfig } from "./config.ts";

const Config = z.strictObject({
  rpc: z.strictObject({
    address: z.string().default("127.0.0.1"),
    port: z.int().min(0).max(65535),
    tls: z.strictObject({ key: z.string(), certs: z.string() }).optional(),
  }),
  core: z.strictObject({
    cert_dir: z.string().default("/etc/kms/certs"),
    urls: z.array(z.string()).default([]),
    nodes: z.array(z.strictObject({ name: z.string() })).default([]),
  }).prefault({}),
});

const read = (text: string, env: Record<string, string> = {}, otherVariables: string[] = []) =>
  parseConfig(Config, text, { file: "kms.toml", envPrefix: "DSTACK_KMS_", env, otherVariables });

test("values come from the file, then defaults", () => {
  assert.deepEqual(read("[rpc]\nport = 8000"), {
    rpc: { address: "127.0.0.1", port: 8000 },
    core: { cert_dir: "/etc/kms/certs", urls: [], nodes: [] },
  });
});

test("variables override the file and create missing tables", () => {
  const config = read("[rpc]\nport = 8000", {
    DSTACK_KMS_RPC__PORT: "9000",
    DSTACK_KMS_RPC__TLS__KEY: "/run/key",
    DSTACK_KMS_RPC__TLS__CERTS: '"/run/certs"',
    DSTACK_KMS_CORE__URLS: '["http://a", "http://b"]',
    DSTACK_VMM_RPC__PORT: "1",
    DSTACK_KMS_ADMIN_TOKEN: "secret",
  }, ["DSTACK_KMS_ADMIN_TOKEN"]);
  assert.equal(config.rpc.port, 9000);
  assert.deepEqual(config.rpc.tls, { key: "/run/key", certs: "/run/certs" });
  assert.deepEqual(config.core.urls, ["http://a", "http://b"]);
});

for (
  const [what, text, env, faults] of [
    ["an unknown key near a known one", "[rpc]\nprot = 1\nport = 1", {}, [
      "rpc.prot: unknown key, did you mean rpc.port?",
    ]],
    ["an unknown key near none", "[rpc]\nport = 1\nworkers = 8", {}, ["rpc.workers: unknown key"]],
    ["an unknown table", "[cor]\n[rpc]\nport = 1", {}, ["cor: unknown key, did you mean core?"]],
    ["an unknown key in an optional table", "[rpc]\nport=1\ntls={key='a',certs='b',cert='c'}", {}, [
      "rpc.tls.cert: unknown key, did you mean rpc.tls.certs?",
    ]],
    ["an unknown key in a list", "[rpc]\nport=1\n[[core.nodes]]\nname='a'\nnames='b'", {}, [
      "core.nodes.0.names: unknown key, did you mean core.nodes.0.name?",
    ]],
    ["an unknown variable", "[rpc]\nport = 1", { DSTACK_KMS_RPC__PRT: "1" }, [
      "rpc.prt: unknown key, did you mean rpc.port?",
    ]],
    ["every fault at once", "[rpc]\nport = 70000\n[core]\ncert_dirs = 1", {}, [
      "rpc.port: Too big: expected number to be <=65535",
      "core.cert_dirs: unknown key, did you mean core.cert_dir?",
    ]],
  ] as [string, string, Record<string, string>, string[]][]
) {
  test(`parseConfig() names ${what}`, () => {
    assert.throws(() => read(text, env), {
      code: "config/invalid",
      message: `Cannot use kms.toml: ${faults.join("; ")}`,
      fields: { faults },
    });
  });
}

test("parseConfig() says where the TOML ends to make sense", () => {
  assert.throws(() => read("[rpc]\nport = = 1"), {
    code: "config/invalid",
    message: /^Cannot use kms\.toml: line 2, column 8: /,
  });
});

test("loadConfig() names a file it cannot read", async () => {
  await assert.rejects(loadConfig(Config, { file: "/no/such.toml", envPrefix: "X_" }), {
    code: "config/invalid",
    message: "Cannot read /no/such.toml",
  });
});
