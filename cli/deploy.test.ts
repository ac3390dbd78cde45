import assert from "node:assert/strict";
import { test } from "node:test";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { fakeApi } from "#host-daemon/api/fake-api.fixture.ts";
import { fetchOf, terminal } from "./terminal.fixture.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const COMPOSE = `# kept
services:
  web:
    image: nginx@${DIGEST} # pinned
`;

/** RFC 8785 by hand; its SHA-256 by sha256sum. */
const APP_COMPOSE = '{"allowed_envs":[],"docker_compose_file":"# kept\\nservices:\\n  web:\\n' +
  `    image: nginx@${DIGEST} # pinned\\n","gateway_enabled":true,"key_provider":"kms",` +
  '"kms_enabled":true,"manifest_version":2,"name":"web","no_instance_id":false,' +
  '"public_logs":false,"public_sysinfo":false,"public_tcbinfo":true,"runner":"docker-compose",' +
  '"secure_time":false,"storage_fs":"ext4"}';
const COMPOSE_HASH = "872c212d19db25b9a97aec48146182c13dd232a5ae6b2e41eb7724468d263a54";
const APP_ID = COMPOSE_HASH.slice(0, 40);

test("deploy --dry-run prints the very bytes, asks nobody", async () => {
  const { dstack } = terminal({ files: { "c.yaml": COMPOSE } });
  const { code, stdout, stderr } = await dstack("deploy", "c.yaml", "-n", "web", "--dry-run");
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.equal(
    stdout,
    `${APP_COMPOSE}\napp id        ${APP_ID}\ncompose hash  ${COMPOSE_HASH}\n`,
  );
  const json = await dstack("deploy", "c.yaml", "-n", "web", "--dry-run", "--json");
  assert.deepEqual(JSON.parse(json.stdout), {
    appId: APP_ID,
    composeHash: COMPOSE_HASH,
    appCompose: APP_COMPOSE,
    dryRun: true,
  });
});

test("options change what is deployed, and so its hash", async () => {
  const { dstack } = terminal({ files: { "c.yaml": COMPOSE } });
  const { stdout } = await dstack(
    "deploy",
    "c.yaml",
    "--no-gateway",
    "--public-logs",
    "--public-sysinfo",
    "--key-provider",
    "none",
    "--app-id",
    `0x${"CD".repeat(20)}`,
    "--dry-run",
    "--json",
  );
  const { appId, appCompose } = JSON.parse(stdout);
  assert.equal(appId, "cd".repeat(20));
  const members = JSON.parse(appCompose);
  assert.equal(members.name, "app");
  assert.equal(members.gateway_enabled, false);
  assert.deepEqual([members.public_logs, members.public_sysinfo], [true, true]);
  assert.deepEqual([members.key_provider, members.kms_enabled], ["none", false]);
});

test("images named by tag are warned about, or pinned by the registry's digest", async () => {
  const asked: string[] = [];
  const registry: FetchLike = (url, { method }) => {
    asked.push(`${method} ${url}`);
    const known = url.endsWith("/v2/team/web/manifests/1.2");
    const headers = { "docker-content-digest": DIGEST };
    return Promise.resolve(new Response(null, known ? { headers } : { status: 404 }));
  };
  const files = {
    "c.yaml": `services:\n  web: { image: "team/web:1.2" } # a\n`,
    "unknown.yaml": "services:\n  web:\n    image: team/web\n",
  };
  const { dstack } = terminal({ files, fetch: registry });
  const loose = await dstack("deploy", "c.yaml", "--dry-run");
  assert.match(loose.stderr, /^warning: team\/web:1\.2 named by tag/);
  assert.deepEqual(asked, []);

  const pin = ["--pin", "http://registry.test:5000/"];
  const pinned = await dstack("deploy", "c.yaml", ...pin, "--dry-run", "--json");
  assert.equal(pinned.stderr, "");
  assert.equal(
    JSON.parse(JSON.parse(pinned.stdout).appCompose).docker_compose_file,
    `services:\n  web: { image: team/web@${DIGEST} } # a\n`,
  );
  assert.deepEqual(asked, ["HEAD http://registry.test:5000/v2/team/web/manifests/1.2"]);

  const unknown = await dstack("deploy", "unknown.yaml", ...pin, "--dry-run");
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /has no image team\/web \(upstream\/invalid\)/);
  assert.match(asked.at(-1)!, /\/manifests\/latest$/);
});

for (
  const [what, argv, message] of [
    ["a compose file that is not there", ["deploy", "none.yaml"], /ENOENT/],
    ["a compose file that is no YAML", ["deploy", "bad.yaml"], /Compose file: /],
    ["a compose file without services", ["deploy", "empty.yaml"], /has no services/],
    ["an unknown key provider", ["deploy", "c.yaml", "--key-provider", "x"], /kms, local, tpm or/],
    ["an app id of the wrong length", ["deploy", "c.yaml", "--app-id", "ab"], /--app-id/],
    ["memory without sense", ["deploy", "c.yaml", "--memory", "much"], /--memory takes a size/],
    ["half a GiB of disk", ["deploy", "c.yaml", "--disk", "512M"], /whole GiB/],
    ["a fraction of a CPU", ["deploy", "c.yaml", "--vcpu", "0.5"], /--vcpu takes a whole number/],
    ["a port that is none", ["deploy", "c.yaml", "--port", "0:80"], /--port takes/],
    ["an unknown option", ["deploy", "c.yaml", "--memroy", "2G"], /Did you mean --memory/],
    ["two files", ["deploy", "c.yaml", "d.yaml"], /too many arguments/],
  ] as [string, string[], RegExp][]
) {
  test(`deploy refuses ${what} with exit 2, before anything is changed`, async () => {
    const api = await fakeApi();
    using _ = api.host;
    const files = {
      "c.yaml": COMPOSE,
      "bad.yaml": "services: [",
      "empty.yaml": "{}",
      "allow.json": "{}",
    };
    const { dstack, written } = terminal({ files, fetch: fetchOf(api.app) });
    const { code, stdout, stderr } = await dstack(...argv, "--allowlist", "allow.json");
    assert.match(stderr, message);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.deepEqual(written, []);
    assert.equal(api.host.inventory.all().length, 0);
  });
}

async function deployable() {
  const api = await fakeApi({ gateway: { base_domain: "apps.test", port: 443 } });
  const booted = async () => {
    for (const entry of api.host.inventory.all().filter(({ cvm }) => !cvm.removing)) {
      await api.host.vmm.notify(entry, "boot.progress", "done");
    }
  };
  const allowlist = {
    gatewayAppId: "any",
    osImages: ["11"],
    apps: { ["22".repeat(20)]: { composeHashes: ["33"] } },
  };
  const { dstack, text, written } = terminal({
    files: { "c.yaml": COMPOSE, "allow.json": JSON.stringify(allowlist) },
    fetch: fetchOf(api.app),
    onSleep: booted,
  });
  const deploy = (...more: string[]) =>
    dstack("deploy", "c.yaml", "-n", "web", "--image", "dstack-dev-0.6.0", ...more);
  return { api, deploy, dstack, text, written };
}

test("deploy allows the app, creates the CVM and waits for its boot", async () => {
  const { api, deploy, text } = await deployable();
  using _ = api.host;
  const { code, stdout, stderr } = await deploy(
    "--allowlist",
    "allow.json",
    "--port",
    "18080:80",
    "--wait",
    "--json",
  );
  assert.equal(stderr, "");
  assert.equal(code, 0);
  const [entry] = api.host.inventory.all();
  const answer = JSON.parse(stdout);
  assert.equal(answer.vmId, entry!.cvm.id);
  assert.deepEqual([answer.appId, answer.composeHash], [APP_ID, COMPOSE_HASH]);
  assert.deepEqual(answer.ports, [{ vmPort: 80, hostPort: 18080, hostAddress: "127.0.0.1" }]);
  const allowed = JSON.parse(text("allow.json"));
  assert.deepEqual(allowed.apps[APP_ID], {
    devices: [],
    allowAnyDevice: true,
    composeHashes: [COMPOSE_HASH],
  });
  assert.deepEqual(allowed.apps["22".repeat(20)], { composeHashes: ["33"] });
  assert.equal(allowed.gatewayAppId, "any");
  assert.equal(allowed.osImages.length, 2);
  assert.match(allowed.osImages[1], /^[0-9a-f]{64}$/);
});

test("deploying again with --reuse changes neither allowlist nor CVM", async () => {
  const { api, deploy, written } = await deployable();
  using _ = api.host;
  const again = ["--allowlist", "allow.json", "--reuse", "--wait", "--json"];
  const first = JSON.parse((await deploy(...again)).stdout);
  assert.deepEqual(written, ["allow.json"]);
  const second = JSON.parse((await deploy(...again)).stdout);
  assert.equal(second.vmId, first.vmId);
  assert.deepEqual(written, ["allow.json"], "an allowlist that allows it is left alone");

  const other = JSON.parse((await deploy(...again, "--public-logs")).stdout);
  assert.notEqual(other.vmId, first.vmId, "another compose is another CVM");
  assert.deepEqual(api.host.inventory.all().map(({ cvm }) => cvm.id), [other.vmId]);
});

test("deploy needs an image named where there are several", async () => {
  const { api, dstack } = await deployable();
  using _ = api.host;
  const which = await dstack("deploy", "c.yaml");
  assert.equal(which.code, 1);
  assert.match(which.stderr, /--image is needed: dstackd has dstack-/);
  const unknown = await dstack("deploy", "c.yaml", "--image", "no-such");
  assert.match(unknown.stderr, /has no image 'no-such'/);
  assert.equal(api.host.inventory.all().length, 0);
});

test("an allowlist that is no JSON stops the deployment", async () => {
  const { api, dstack } = await deployable();
  using _ = api.host;
  const argv = ["deploy", "c.yaml", "--image", "dstack-dev-0.6.0", "--allowlist", "c.yaml"];
  assert.equal((await dstack(...argv)).code, 2);
  assert.equal(api.host.inventory.all().length, 0);
});
