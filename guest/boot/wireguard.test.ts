import assert from "node:assert/strict";
import { test } from "node:test";
import { x25519 } from "@noble/curves/ed25519.js";
import { fromBase64 } from "#core/bytes/bytes.ts";
import {
  applyTunnel,
  checkedTunnel,
  createWireGuardKey,
  renderWireGuardConfig,
  type Tunnel,
  WIREGUARD_CONFIG,
} from "./wireguard.ts";

const KEY_A = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const KEY_B = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

const tunnel: Tunnel = {
  privateKey: "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=",
  clientIp: "10.8.0.2",
  peers: [
    { publicKey: KEY_B, ip: "10.8.0.1", endpoint: "10.0.2.2:51820" },
    { publicKey: KEY_A, ip: "10.9.0.1", endpoint: "203.0.113.5:9202" },
  ],
};

test("renders the reference's configuration, peers sorted by key", () => {
  assert.equal(
    renderWireGuardConfig(checkedTunnel(tunnel)),
    `[Interface]
PrivateKey = ${tunnel.privateKey}
ListenPort = 9182
Address = 10.8.0.2/32

[Peer]
PublicKey = ${KEY_A}
AllowedIPs = 10.9.0.1/32
Endpoint = 203.0.113.5:9202
PersistentKeepalive = 25

[Peer]
PublicKey = ${KEY_B}
AllowedIPs = 10.8.0.1/32
Endpoint = 10.0.2.2:51820
PersistentKeepalive = 25
`,
  );
});

test("refuses texts that would write more than a value into a configuration", () => {
  const peer = tunnel.peers[0]!;
  const bad: Tunnel[] = [
    { ...tunnel, clientIp: "10.8.0.2/32\nPostUp = sh" },
    { ...tunnel, clientIp: "10.8.0.256" },
    { ...tunnel, peers: [] },
    { ...tunnel, peers: [{ ...peer, publicKey: `${KEY_A}\nEndpoint = x` }] },
    { ...tunnel, peers: [{ ...peer, publicKey: "short=" }] },
    { ...tunnel, peers: [{ ...peer, ip: "10.8.0.1 dev eth0" }] },
    { ...tunnel, peers: [{ ...peer, endpoint: "host" }] },
    { ...tunnel, peers: [{ ...peer, endpoint: "a b:1" }] },
  ];
  for (const one of bad) assert.throws(() => checkedTunnel(one), { code: "upstream/invalid" });
});

test("makes keys that WireGuard takes as they are", async () => {
  const { privateKey, publicKey } = await createWireGuardKey();
  const secret = fromBase64(privateKey);
  assert.equal(secret.length, 32);
  assert.deepEqual(fromBase64(publicKey), x25519.getPublicKey(secret));
  assert.notEqual((await createWireGuardKey()).privateKey, privateKey);
  assert.equal(secret[0]! & 7, 0);
  assert.equal(secret[31]! & 0xc0, 0x40);
});

test("the secret reaches wg on standard input, and an unchanged tunnel is left alone", async () => {
  const ran: { argv: readonly string[]; input: string }[] = [];
  const written = new Map<string, string>();
  const ports = {
    run(argv: readonly string[], options: { input?: string | Uint8Array } = {}) {
      ran.push({ argv, input: String(options.input ?? "") });
      return Promise.resolve({ code: argv.includes("-C") ? 1 : 0, stdout: "", stderr: "" });
    },
    files: {
      read: (path: string) =>
        Promise.resolve(
          written.has(path) ? new TextEncoder().encode(written.get(path)) : undefined,
        ),
      write: (path: string, data: string | Uint8Array, mode: number) => {
        assert.equal(mode, 0o600);
        return Promise.resolve(void written.set(path, String(data)));
      },
      makeDirectory: () => Promise.resolve(),
      exists: () => Promise.resolve(false),
      list: () => Promise.resolve([]),
      remove: () => Promise.resolve(),
      symlink: () => Promise.resolve(),
    },
  };
  assert.equal(await applyTunnel(checkedTunnel(tunnel), false, ports), "applied");
  assert.ok(written.has(WIREGUARD_CONFIG));
  for (const { argv } of ran) assert.ok(!argv.join(" ").includes(tunnel.privateKey));
  const setconf = ran.find(({ argv }) => argv[0] === "wg")!;
  assert.ok(setconf.input.includes(tunnel.privateKey));
  assert.doesNotMatch(setconf.input, /Address/);
  const firewall = ran.find(({ argv }) => argv[0] === "iptables-restore")!;
  assert.match(
    firewall.input,
    /-A DSTACK_WG -s 10\.0\.2\.2\/32 -j ACCEPT\n[^]*-A DSTACK_WG -j DROP\n-I INPUT/,
  );
  const before = ran.length;
  assert.equal(await applyTunnel(checkedTunnel(tunnel), false, ports), "unchanged");
  assert.equal(ran.length, before);
  assert.equal(await applyTunnel(checkedTunnel(tunnel), true, ports), "applied");
});
