import { z } from "zod";

/** `<integer>(s|m|h|d)` or `never`; parsed to milliseconds, undefined for never. */
const optionalDuration = z.string().regex(
  /^(\d{1,9}[smhd]|never)$/,
  "expected 30s, 5m, 10h, 1d or never",
)
  .transform(durationMs);
const duration = optionalDuration.refine((ms) => ms !== undefined, "must not be never")
  .transform((ms) => ms ?? 0);
const port = z.int().min(0).max(65535);
/** `address` and `port` apart, or together in `address`. */
const address = z.string().min(1);

/** Tunes a part of the reference that HAProxy or the runtime is here: accepted, without effect. */
const ignored = z.unknown().optional();

const tls = z.strictObject({
  key: z.string().min(1),
  certs: z.string().min(1),
  mutual: z.strictObject({
    ca_certs: z.string().min(1),
    /** Every client needs a certificate; without it only RegisterCvm and GetPeers do. */
    mandatory: z.literal(false).default(false),
  }),
});

const admin = z.strictObject({
  enabled: z.boolean().default(false),
  address: address.default("127.0.0.1:8011"),
  port: port.optional(),
  auth_token: z.string().default(""),
  /** Former name of `auth_token`. */
  admin_token: z.string().default(""),
  htpasswd_file: z.literal("").default(""),
  insecure_no_auth: z.boolean().default(false),
});

const wg = z.strictObject({
  public_key: z.string().default(""),
  private_key: z.string().default(""),
  /** File with the private key; made on first start when it is missing. */
  private_key_file: z.string().default(""),
  listen_port: port.default(51820),
  ip: z.string().default("10.0.0.1/24"),
  reserved_net: z.array(z.string()).default(["10.0.0.1/32"]),
  client_ip_range: z.string().default("10.0.0.0/25"),
  config_path: z.string().default("/etc/wireguard/wg0.conf"),
  interface: z.string().default("wg0"),
  endpoint: z.string().default("10.0.2.2:51820"),
});

/** `cache_top_n`, `dns_resolve`, `write`, `shutdown`, `total` and `pp_header` have no effect yet. */
const timeouts = z.strictObject({
  connect: duration.prefault("5s"),
  handshake: duration.prefault("5s"),
  cache_top_n: optionalDuration.prefault("30s"),
  handshake_stale: duration.prefault("30m"),
  dns_resolve: optionalDuration.prefault("5s"),
  data_timeout_enabled: z.boolean().default(true),
  idle: duration.prefault("10m"),
  write: optionalDuration.prefault("5s"),
  shutdown: optionalDuration.prefault("5s"),
  total: optionalDuration.prefault("5h"),
  pp_header: optionalDuration.prefault("5s"),
});

const proxy = z.strictObject({
  listen_addr: z.ipv4().default("0.0.0.0"),
  listen_port: z.union([port, z.string().regex(/^\d{1,5}(-\d{1,5})?$/)]).default(8443)
    .transform(portRange).refine(({ first, last }) => 0 < first && first <= last && last < 65536),
  tls_versions: z.array(z.enum(["1.2", "1.3"])).min(1).default(["1.2", "1.3"]),
  agent_port: port.default(8090),
  connect_top_n: z.int().min(0).max(16).default(3),
  max_connections_per_app: z.int().min(0).default(2000),
  inbound_pp_enabled: z.boolean().default(false),
  app_address_ns_prefix: z.string().default("_dstack-app-address"),
  base_domain: z.string().optional(),
  cert_chain: z.string().optional(),
  cert_key: z.string().optional(),
  /** What clients connect to for `base_domain`; other domains name their own. */
  external_port: port.default(443),
  /** Threads of HAProxy; 0 is one a core. */
  workers: z.int().min(0).max(64).default(0),
  timeouts: timeouts.prefault({}),
  tls_crypto_provider: ignored,
  buffer_size: ignored,
  thread_per_core: ignored,
  connection_rebalance: ignored,
  tcp_splice: ignored,
  ktls: ignored,
  port_policy_fetch: ignored,
  app_address_ns_compat: ignored,
  app_address_dns_servers: ignored,
  /** Port that sends browsers from http:// to https://; 0 is none. */
  redirect_port: port.default(0),
  /** Sockets, certificates and configuration of HAProxy. */
  run_dir: z.string().default("/run/dstack-gateway"),
  haproxy: z.string().default("/usr/sbin/haproxy"),
  /** Backends set aside for apps with several instances. */
  upstream_slots: z.int().min(0).max(1024).default(64),
});

const core = z.strictObject({
  /** HAProxy raises its own limit of open files. */
  set_ulimit: ignored,
  /** Certificates come from files; asking a guest agent for them is for a gateway in a CVM. */
  rpc_domain: z.literal("").default(""),
  /** The gateway's own app id, hex; GetPeers answers only callers with the same. */
  app_id: z.string().regex(/^([0-9a-f]{40})?$/).default(""),
  auth: z.strictObject({
    enabled: z.boolean().default(false),
    url: z.url({ protocol: /^https?$/ }).default("http://localhost/app-auth"),
    timeout: duration.prefault("5s"),
  }).prefault({}),
  admin: admin.prefault({}),
  debug: z.strictObject({ insecure_skip_attestation: z.boolean().default(false) }).prefault({}),
  wg: wg.prefault({}),
  proxy: proxy.prefault({}),
  recycle: z.strictObject({
    enabled: z.boolean().default(true),
    interval: duration.prefault("5m"),
    timeout: duration.prefault("10h"),
    node_timeout: optionalDuration.prefault("10m"),
  }).prefault({}),
  sync: z.strictObject({
    /** Nodes that share a database need no copying of rows. */
    enabled: z.literal(false).default(false),
    node_id: z.int().min(0).max(0xffff_ffff).default(0),
    my_url: z.url({ protocol: /^https?$/ }).default("https://localhost:8011"),
    bootnode: z.string().default(""),
    data_dir: z.string().default("/dstack-gateway/data"),
    interval: ignored,
    timeout: ignored,
    persist_interval: ignored,
    sync_connections_enabled: ignored,
    sync_connections_interval: ignored,
  }).prefault({}),
  /** libSQL database: `file:` path or the URL of a server; default a file in `sync.data_dir`. */
  database_url: z.string().default(""),
});

/** gateway.toml, in the reference's names (gateway.md 7.2); ours are documented beside them. */
export const gatewayConfigSchema = z.strictObject({
  address: address.default("127.0.0.1:8010"),
  port: port.optional(),
  log_level: z.string().default("info"),
  workers: ignored,
  max_blocking: ignored,
  keep_alive: ignored,
  ident: ignored,
  temp_dir: ignored,
  tls,
  core: core.prefault({}),
}).superRefine(({ core }, context) => {
  const { base_domain, cert_chain, cert_key } = core.proxy;
  const given = [base_domain, cert_chain, cert_key].filter((value) => value !== undefined).length;
  const fault = (path: string[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  if (given !== 0 && given !== 3) {
    fault(["core", "proxy"], "base_domain, cert_chain and cert_key belong together");
  }
  if ((core.wg.private_key === "") === (core.wg.private_key_file === "")) {
    fault(["core", "wg"], "needs either private_key or private_key_file");
  }
});

export type GatewayConfig = z.output<typeof gatewayConfigSchema>;

const UNIT_MS = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

function durationMs(text: string): number | undefined {
  if (text === "never") return undefined;
  return Number(text.slice(0, -1)) * UNIT_MS[text.at(-1) as keyof typeof UNIT_MS];
}

function portRange(value: number | string): { first: number; last: number } {
  const [first, last = first] = `${value}`.split("-").map(Number);
  return { first: first!, last: last! };
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Joins `address` and `port`; undefined when neither names a port. */
export function listenAddress(
  { address, port }: { address: string; port?: number | undefined },
): ListenAddress | undefined {
  const combined = /^(.+):(\d{1,5})$/.exec(address);
  const bracketed = /^\[(.+)\]$/;
  const plain = (host: string) => bracketed.exec(host)?.[1] ?? host;
  if (port !== undefined) return { host: plain(combined?.[1] ?? address), port };
  if (combined === null) return undefined;
  return { host: plain(combined[1]!), port: Number(combined[2]) };
}
