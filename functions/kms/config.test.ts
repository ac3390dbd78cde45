import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "smol-toml";
import { kmsConfigSchema } from "./config.ts";

const read = (toml: string) => kmsConfigSchema.safeParse(parse(toml));
function faults(toml: string): string[] {
  const { error } = read(toml);
  return error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];
}

test("an empty file has the reference's defaults, all of them closed", () => {
  const { rpc, core } = kmsConfigSchema.parse({});
  assert.deepEqual([rpc.address, rpc.port], ["0.0.0.0", 8000]);
  assert.equal(core.cert_dir, "/etc/kms/certs");
  assert.equal(core.enforce_self_authorization, true);
  assert.equal(core.attest_rpc_cert, true);
  assert.equal(core.sev_snp_key_release, false);
  assert.equal(core.aws_nitro_tpm_key_release, false);
  assert.equal(core.image.verify, true);
  assert.equal(core.image.download_timeout, 120_000);
  assert.equal(core.admin.enabled, false);
  assert.equal(core.attestation.insecure_allow_external_trust_anchors, false);
  assert.deepEqual([core.auth_api.type, core.auth_api.webhook.url], [
    "webhook",
    "http://auth-api:8000",
  ]);
  assert.equal(core.onboard.auto_bootstrap_domain, "");
});

test("a file of the reference's single-host installer is taken", () => {
  const { success, data } = read(`
    [default]
    workers = 8
    ident = "DStack KMS"
    [rpc]
    port = 8000
    [rpc.tls.mutual]
    mandatory = false
    [core]
    enforce_self_authorization = false
    subject_postfix = ".dstack"
    pccs_url = "https://old"
    admin_token_hash = ""
    gpu = {}
    [core.onboard]
    auto_bootstrap_domain = "10.0.2.2"
    quote_enabled = false
    [core.metrics]
    enabled = false
    [core.auth_api.webhook]
    timeout = "500ms"
  `);
  assert.equal(success, true);
  assert.equal(data?.core.auth_api.webhook.timeout, 500);
});

test("unknown keys are refused and named", () => {
  assert.match(faults("[core]\nsite_nam = 'x'")[0]!, /site_nam/);
  assert.match(faults("[core.attestation.root_ca]\nintel = 'x'").join(), /intel/);
});

test("another root needs the insecure flag", () => {
  const root = "[core.attestation.root_ca]\ntdx = 'root.pem'";
  assert.deepEqual(faults(root), [
    "core.attestation.root_ca: needs insecure_allow_external_trust_anchors = true",
  ]);
  const flag = "[core.attestation]\ninsecure_allow_external_trust_anchors = true\n";
  const { data } = read(flag + root);
  assert.equal(data?.core.attestation.external_roots_simulated, true);
});

test("a client certificate cannot be made mandatory", () => {
  assert.equal(faults("[rpc.tls.mutual]\nmandatory = true").length, 1);
});

test("durations carry their unit", () => {
  for (const timeout of ["5", "5 minutes", "-1s", "1.5s", ""]) {
    assert.equal(faults(`[core.auth_api.webhook]\ntimeout = "${timeout}"`).length, 1, timeout);
  }
});
