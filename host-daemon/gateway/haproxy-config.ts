/**
 * The configuration file of the data plane. It names no CVM: routes, candidates and certificates
 * arrive over the runtime socket, so it changes only when the settings below do. Everything in it is
 * understood by HAProxy 2.6 (Debian 12) up to 3.x.
 */

/** Files and sockets below one private directory. */
export interface DataPlanePaths {
  readonly config: string;
  readonly pid: string;
  /** Where the process that runs is recorded, for adoption. */
  readonly record: string;
  readonly lua: string;
  readonly routeMap: string;
  readonly certificateList: string;
  readonly certificates: string;
  /** HAProxy's command socket. */
  readonly runtimeSocket: string;
  /** Where HAProxy asks for routes it has not cached. */
  readonly routeSocket: string;
  /** Plain HTTP for `gateway.<base>` and `health.<base>`. */
  readonly localSocket: string;
  readonly metricsSocket: string;
  readonly tlsSocket: string;
  readonly h2Socket: string;
}

/** sockaddr_un holds 107 characters; HAProxy binds to `<path>.<pid>.tmp` first. */
const MAX_SOCKET_PATH = 90;

export function dataPlanePaths(runDir: string): DataPlanePaths {
  if (runDir.length + "/runtime.sock".length > MAX_SOCKET_PATH) {
    throw new TypeError(`Run directory is too long for unix sockets: ${runDir}`);
  }
  if (!/^\/[A-Za-z0-9._/-]+$/.test(runDir)) {
    throw new TypeError(`Run directory must be an absolute path of plain characters: ${runDir}`);
  }
  const at = (name: string) => `${runDir}/${name}`;
  return {
    config: at("haproxy.cfg"),
    pid: at("haproxy.pid"),
    record: at("haproxy.json"),
    lua: at("route.lua"),
    routeMap: at("routes.map"),
    certificateList: at("certs.list"),
    certificates: at("certs"),
    runtimeSocket: at("runtime.sock"),
    routeSocket: at("route.sock"),
    localSocket: at("local.sock"),
    metricsSocket: at("metrics.sock"),
    tlsSocket: at("tls.sock"),
    h2Socket: at("h2.sock"),
  };
}

export type TlsVersion = "1.2" | "1.3";

export interface DataPlaneSettings {
  readonly paths: DataPlanePaths;
  /** IPv4 address and inclusive port range of the ingress. */
  readonly listen: { readonly address: string; readonly first: number; readonly last: number };
  /** Every ingress connection starts with a PROXY header (only behind a trusted balancer). */
  readonly inboundProxyProtocol: boolean;
  readonly tlsVersions: readonly TlsVersion[];
  /** 0 is unlimited. */
  readonly maxConnectionsPerApp: number;
  /** Threads; undefined leaves it to HAProxy, one a core. */
  readonly threads: number | undefined;
  readonly timeouts: {
    /** One connection attempt to an instance. */
    readonly connectMs: number;
    /** From accept to a complete ClientHello, and again to the end of the TLS handshake. */
    readonly handshakeMs: number;
    /** Silence in both directions; undefined is never. */
    readonly idleMs: number | undefined;
  };
  /** Account HAProxy changes to once its listeners are bound; undefined keeps the present one. */
  readonly account: { readonly user: string; readonly group: string } | undefined;
  readonly slots: SlotSettings;
  /** HAProxy has its Prometheus exporter built in. */
  readonly prometheus: boolean;
  /** Plain HTTP that sends browsers to `https://<host>[:<httpsPort>]`. */
  readonly redirect: { readonly port: number; readonly httpsPort: number } | undefined;
}

/**
 * Backends for apps with several instances. Their servers get addresses at run time, so a failed
 * connect is tried on the next instance by HAProxy itself.
 */
export interface SlotSettings {
  /** Number of backends without, and with, a PROXY header. */
  readonly plain: number;
  readonly proxied: number;
  /** Servers of each. */
  readonly servers: number;
}

/** HAProxy's timers end at 2^31 ms. */
const NEVER_MS = 24 * 86_400_000;
/** Names of the backends a route value may select. */
export const BACKEND = {
  plain: "plain",
  proxied: "proxied",
  local: "local",
  plainSlot: (index: number) => `slot-plain-${index}`,
  proxiedSlot: (index: number) => `slot-proxied-${index}`,
  slotServer: (index: number) => `i${index}`,
} as const;

/** Stick table with the live connections of each app and instance, key `a:<app id>`, `i:<instance id>`. */
export const CONNECTION_TABLE = "connections";
/** Ring with connections that failed, read over the runtime socket. */
export const EVENT_RING = "failures";

/** Fields of a route value, separated by `/`, counted from 1 as HAProxy's `field` does. */
const FIELD = { mode: 1, backend: 2, address: 3, port: 4, app: 5, instance: 6 } as const;

const ROUTE = "var(txn.route)";
const field = (name: keyof typeof FIELD) => `${ROUTE},field(${FIELD[name]},/)`;

export function haproxyConfig(settings: DataPlaneSettings): string {
  const { paths, timeouts, slots } = settings;
  const sections = [
    globalSection(settings),
    [
      "defaults",
      "  mode tcp",
      "  log global",
      "  option dontlognull",
      "  option dontlog-normal",
      `  log-format "${FAILURE_FORMAT}"`,
      "  option splice-auto",
      "  option clitcpka",
      "  option srvtcpka",
      "  retries 0",
      `  timeout connect ${timeouts.connectMs}`,
      // client and server bound the handshakes; tunnel takes over once bytes flow both ways.
      `  timeout client ${timeouts.handshakeMs + timeouts.connectMs}`,
      `  timeout server ${timeouts.handshakeMs + timeouts.connectMs}`,
      `  timeout tunnel ${timeouts.idleMs ?? NEVER_MS}`,
    ],
    ingress(settings),
    terminator("tls", paths.tlsSocket, "", settings),
    terminator("h2", paths.h2Socket, " alpn h2", settings),
    ["backend tls", `  server loop unix@${paths.tlsSocket} send-proxy-v2`],
    ["backend h2", `  server loop unix@${paths.h2Socket} send-proxy-v2`],
    [`backend ${BACKEND.plain}`, "  server instance 0.0.0.0:0"],
    [`backend ${BACKEND.proxied}`, "  server instance 0.0.0.0:0 send-proxy-v2"],
    [`backend ${BACKEND.local}`, `  server control unix@${paths.localSocket}`],
    ...range(slots.plain).map((i) => slot(BACKEND.plainSlot(i), "", settings)),
    ...range(slots.proxied).map((i) => slot(BACKEND.proxiedSlot(i), " send-proxy-v2", settings)),
    [
      `backend ${CONNECTION_TABLE}`,
      "  stick-table type string len 64 size 200k expire 10m store conn_cur,conn_cnt",
    ],
  ];
  if (settings.redirect !== undefined) {
    const { port, httpsPort } = settings.redirect;
    const suffix = httpsPort === 443 ? "" : `:${httpsPort}`;
    sections.push([
      "frontend redirect",
      "  mode http",
      "  no log",
      "  timeout client 10s",
      "  timeout http-request 5s",
      `  bind ${settings.listen.address}:${port}`,
      "  http-request deny if !{ hdr(host) -m reg ^[A-Za-z0-9.-]+(:[0-9]+)?$ }",
      `  http-request redirect code 308 location https://%[hdr(host),field(1,:)]${suffix}%[capture.req.uri]`,
    ]);
  }
  if (settings.prometheus) {
    sections.push([
      "frontend metrics",
      "  mode http",
      "  timeout client 10s",
      "  no log",
      `  bind unix@${paths.metricsSocket}${socketOwner(settings)} mode 600`,
      "  http-request use-service prometheus-exporter if { path /metrics }",
      "  http-request return status 404",
    ]);
  }
  return sections.map((lines) => lines.join("\n")).join("\n\n") + "\n";
}

/** What the ring keeps of a connection that failed: frontend, backend, server, why, ms, host, route. */
const FAILURE_FORMAT = [
  "%ft",
  "%b",
  "%s",
  "%ts",
  "%Tw/%Tc/%Tt",
  "%[var(txn.host)]",
  `%[${ROUTE}]`,
].join(" ");

function globalSection({ paths, tlsVersions, threads, account }: DataPlaneSettings): string[] {
  const lowest = tlsVersions.includes("1.2") ? "1.2" : "1.3";
  const highest = tlsVersions.includes("1.3") ? "1.3" : "1.2";
  return [
    `ring ${EVENT_RING}`,
    "  format raw",
    "  maxlen 1200",
    "  size 1048576",
    "",
    "global",
    ...(threads === undefined ? [] : [`  nbthread ${threads}`]),
    ...(account === undefined ? [] : [`  user ${account.user}`, `  group ${account.group}`]),
    `  log ring@${EVENT_RING} len 1200 format raw daemon`,
    `  stats socket ${paths.runtimeSocket} mode 600 level admin expose-fd listeners`,
    "  stats timeout 24d",
    "  hard-stop-after 60s",
    `  lua-load-per-thread ${paths.lua}`,
    `  ssl-default-bind-options ssl-min-ver TLSv${lowest} ssl-max-ver TLSv${highest}`,
    "  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
    "  tune.ssl.default-dh-param 2048",
  ];
}

function ingress(settings: DataPlaneSettings): string[] {
  const { address, first, last } = settings.listen;
  const ports = first === last ? `${first}` : `${first}-${last}`;
  const proxy = settings.inboundProxyProtocol ? " accept-proxy" : "";
  const limit = settings.maxConnectionsPerApp;
  return [
    "frontend ingress",
    `  bind ${address}:${ports}${proxy} backlog 4096`,
    `  tcp-request inspect-delay ${settings.timeouts.handshakeMs}`,
    // Waits for a whole ClientHello: -m found is undecided while more bytes may come.
    "  tcp-request content set-var(txn.host) req.ssl_sni,lower if { req.ssl_sni -m found }",
    "  tcp-request content reject if !{ var(txn.host) -m found }",
    ...resolveRoute(settings.paths),
    `  tcp-request content track-sc0 ${field("app")} table ${CONNECTION_TABLE}`,
    `  tcp-request content track-sc1 ${field("instance")} table ${CONNECTION_TABLE}`,
    ...(limit === 0 ? [] : [`  tcp-request content reject if { sc0_conn_cur gt ${limit} }`]),
    `  use_backend tls if { ${field("mode")} -m str tls }`,
    `  use_backend h2 if { ${field("mode")} -m str h2 }`,
    ...aimAtInstance(),
  ];
}

/** The same ClientHello again, now with the TLS layer taken off. */
function terminator(
  name: string,
  socket: string,
  alpn: string,
  settings: DataPlaneSettings,
): string[] {
  const list = settings.paths.certificateList;
  return [
    `frontend ${name}`,
    `  bind unix@${socket}${
      socketOwner(settings)
    } mode 600 accept-proxy ssl crt-list ${list} strict-sni${alpn}`,
    `  tcp-request inspect-delay ${settings.timeouts.handshakeMs}`,
    "  tcp-request content set-var(txn.host) ssl_fc_sni,lower",
    ...resolveRoute(settings.paths),
    ...aimAtInstance(),
  ];
}

/** Cached decision, else the routing handler's. */
function resolveRoute(paths: DataPlanePaths): string[] {
  return [
    `  tcp-request content set-var(txn.route) var(txn.host),map_str(${paths.routeMap})`,
    `  tcp-request content lua.ask_route if !{ ${ROUTE} -m found }`,
    `  tcp-request content reject if !{ ${ROUTE} -m found }`,
    `  tcp-request content reject if { ${field("mode")} -m str deny }`,
  ];
}

function aimAtInstance(): string[] {
  return [
    `  tcp-request content set-dst ${field("address")} if !{ ${field("address")} -m str -- - }`,
    `  tcp-request content set-dst-port ${field("port")} if !{ ${field("port")} -m str -- - }`,
    `  use_backend %[${field("backend")}]`,
  ];
}

/**
 * Servers start disabled and without an address; port 0 means the port the route set. Every attempt
 * goes to another server, and all of them together take no longer than one connection may.
 */
function slot(name: string, options: string, { slots, timeouts }: DataPlaneSettings): string[] {
  const { servers } = slots;
  return [
    `backend ${name}`,
    "  balance leastconn",
    `  retries ${servers - 1}`,
    "  option redispatch 1",
    `  timeout connect ${Math.ceil(timeouts.connectMs / servers)}`,
    ...range(servers).map((i) => `  server ${BACKEND.slotServer(i)} 0.0.0.0:0 disabled${options}`),
  ];
}

function socketOwner({ account }: DataPlaneSettings): string {
  return account === undefined ? "" : ` user ${account.user} group ${account.group}`;
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}

/**
 * Asks the routing handler over its unix socket: one line with the host name, one line back with
 * the route value. Any failure leaves the route unset, which refuses the connection.
 */
export function routeLua(paths: DataPlanePaths, timeoutMs: number): string {
  return `core.register_action("ask_route", { "tcp-req" }, function(txn)
  local host = txn:get_var("txn.host")
  if host == nil or #host > 253 or host:find("[^%w%.%-]") then return end
  local socket = core.tcp()
  socket:settimeout(${Math.max(1, Math.round(timeoutMs / 1000))})
  if not socket:connect("unix@${paths.routeSocket}") then return end
  if socket:send(host .. "\\n") then
    local route = socket:receive("*l")
    if route ~= nil and route ~= "" then txn:set_var("txn.route", route) end
  end
  socket:close()
end)
`;
}
