import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "#adapters/config.ts";
import { gatewayConfigSchema, listenAddress } from "./config.ts";

const REQUIRED = `
[tls]
key = "k"
certs = "c"
mutual.ca_certs = "ca"
[core.wg]
private_key_file = "wg.key"
`;

function parse(text: string) {
  return parseConfig(gatewayConfigSchema, text, {
    file: "gateway.toml",
    envPrefix: "DSTACK_GATEWAY_",
    env: {},
  });
}

test("defaults are those of gateway.md 7.2", () => {
  const { address, core } = parse(REQUIRED);
  assert.equal(address, "127.0.0.1:8010");
  assert.deepEqual(
    [core.admin.enabled, core.admin.address, core.wg.listen_port, core.wg.ip],
    [false, "127.0.0.1:8011", 51820, "10.0.0.1/24"],
  );
  assert.deepEqual(core.proxy.listen_port, { first: 8443, last: 8443 });
  assert.equal(core.proxy.agent_port, 8090);
  assert.equal(core.proxy.connect_top_n, 3);
  assert.equal(core.proxy.max_connections_per_app, 2000);
  assert.equal(core.proxy.timeouts.connect, 5_000);
  assert.equal(core.proxy.timeouts.handshake_stale, 30 * 60_000);
  assert.equal(core.proxy.timeouts.idle, 10 * 60_000);
  assert.equal(core.recycle.timeout, 10 * 3_600_000);
});

test("the reference's keys for its own data path are accepted", () => {
  parse(`
workers = 8
keep_alive = 10
${REQUIRED}
[core]
set_ulimit = true
[core.proxy]
tls_crypto_provider = "aws-lc-rs"
tls_versions = ["1.2"]
listen_port = "8443-8453"
buffer_size = 65536
thread_per_core = true
[core.proxy.tcp_splice]
after_bytes = 65536
[core.sync]
interval = "1m"
`);
});

const FAULTS: readonly [string, string, RegExp][] = [
  ["an unknown key names the nearest one", "[core.proxy]\nlisten_prot = 1", /listen_port\?/],
  ["a port range must ascend", '[core.proxy]\nlisten_port = "20-10"', /core\.proxy\.listen_port/],
  ["a duration has a unit", '[core.proxy.timeouts]\nconnect = "5"', /timeouts\.connect: expected/],
  ["an endless connect is none", '[core.proxy.timeouts]\nconnect = "never"', /must not be never/],
  ["a wildcard needs all of its parts", '[core.proxy]\nbase_domain = "x"', /belong together/],
];
for (const [name, text, expected] of FAULTS) {
  test(name, () => assert.throws(() => parse(`${REQUIRED}${text}\n`), expected));
}

test("the tunnel key comes from one place", () => {
  assert.throws(
    () => parse(REQUIRED.replace("private_key_file", 'private_key = "x"\nprivate_key_file')),
    /either private_key or private_key_file/,
  );
});

test("address and port may be apart or together", () => {
  assert.deepEqual(listenAddress({ address: "0.0.0.0", port: 8001 }), {
    host: "0.0.0.0",
    port: 8001,
  });
  assert.deepEqual(listenAddress({ address: "1.2.3.4:8000" }), { host: "1.2.3.4", port: 8000 });
  assert.deepEqual(listenAddress({ address: "[::1]:8000" }), { host: "::1", port: 8000 });
  assert.equal(listenAddress({ address: "0.0.0.0" }), undefined);
});
