import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { serveHttps } from "#adapters/https-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { serveUnix, unixFetch } from "#adapters/unix-http.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { fromUtf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { ServerFetch } from "#core/http/bindings.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import { createGatewayAdminApp } from "#functions/gateway/admin-app.ts";
import { parseAddressPlan } from "#functions/gateway/allocation.ts";
import { createGatewayApp } from "#functions/gateway/app.ts";
import { normalizeDomain } from "#functions/gateway/domains.ts";
import { createLocalApp } from "#functions/gateway/local-app.ts";
import type { GatewayPorts } from "#functions/gateway/ports.ts";
import { RouteTable } from "#functions/gateway/route-table.ts";
import { webhookAuthorization } from "../authorization.ts";
import { type GatewayConfig, listenAddress } from "../config.ts";
import { checkCertificate } from "../certificates.ts";
import { DataPlane } from "../data-plane.ts";
import { dataPlanePaths, type DataPlaneSettings } from "../haproxy-config.ts";
import { parseHaproxyBuild } from "../haproxy.ts";
import { Reconciler } from "../reconciler.ts";
import { generateWireguardKeyPair, Wireguard, wireguardPublicKey } from "../wireguard.ts";
import { type Account, haproxyAccount, isReachableByOthers } from "./account.ts";
import { runCommand } from "./command.ts";
import { openGatewayStore } from "./database.ts";
import { hostDataPlanePorts, hostWireguardPorts } from "./host-ports.ts";
import { inspectCertificate } from "./inspect-certificate.ts";
import { restrictSocket } from "./line-socket.ts";

/** How often handshakes are read (gateway.md 6.8). */
const HANDSHAKE_INTERVAL_MS = 10_000;
/** And how often while a new CVM's first one is awaited. */
const FIRST_HANDSHAKE_INTERVAL_MS = 500;
const MAX_PEM_BYTES = 1024 * 1024;
const COMMAND_TIMEOUT_MS = 10_000;

export type GatewayLog = (
  level: "info" | "warning" | "error",
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

export interface GatewayOptions {
  readonly config: GatewayConfig;
  readonly version: AppVersion;
  readonly metrics: Metrics;
  readonly log: GatewayLog;
}

export interface RunningGateway {
  /** Of the RPC listener. */
  readonly port: number;
  /** Ends everything: HAProxy, the tunnel interface, the listeners. */
  readonly stop: () => Promise<void>;
  /** Ends this process's part; HAProxy and the tunnel go on, and the next process adopts them. */
  readonly detach: () => Promise<void>;
}

/** A gateway node by its configuration. What was started before a failure is stopped again. */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { config, log } = options;
  const { core } = config;
  const now = () => new Date();
  const addressPlan = planOf(config);
  const adminTokens = adminTokensOf(config);
  await mkdir(core.proxy.run_dir, { recursive: true, mode: 0o711 });
  const { settings, account } = await dataPlaneSettings(config);
  if (account === undefined) {
    log("warning", "HAProxy keeps the account of the gateway", { run_dir: core.proxy.run_dir });
  }
  await mkdir(core.sync.data_dir, { recursive: true, mode: 0o700 });
  const tls = await readTls(config);
  const wireguard = await wireguardOf(config);
  const nodeId = core.sync.node_id;
  const databaseUrl = core.database_url || `file:${join(core.sync.data_dir, "gateway.db")}`;

  await using cleanup = new AsyncDisposableStack();
  // First of all: a second gateway of this configuration ends here, before it can touch HAProxy.
  const notNow: ServerFetch = () => new Response(null, { status: 503 });
  let answer = notNow;
  const rpc = await serveHttps((request, bindings) => answer(request, bindings), {
    ...requireAddress(config, "address"),
    ...tls,
  });
  const listeners: Listening[] = [rpc];
  cleanup.defer(async () => {
    await Promise.all(listeners.map((listener) => listener.close(1000)));
  });
  const { store, close } = await openGatewayStore(databaseUrl, nodeId, now);
  cleanup.defer(close);
  await store.putOwnNode({
    id: nodeId,
    url: core.sync.my_url,
    wgPublicKey: wireguard.publicKey,
    wgAddress: core.wg.ip,
    wgEndpoint: core.wg.endpoint,
    lastSeen: Math.floor(now().getTime() / 1000),
  }, crypto.randomUUID().replaceAll("-", ""));

  const certificates = await readStaticCertificate(config);
  for (const { domain } of certificates) {
    await store.putDomain({ domain, port: core.proxy.external_port, nodeId, priority: 0 });
  }

  const table = new RouteTable({
    connectTopN: core.proxy.connect_top_n,
    handshakeStaleSeconds: Math.floor(core.proxy.timeouts.handshake_stale / 1000),
    baseDomains: () => plane.certificates.domains.keys(),
    now,
  });
  const refusals = options.metrics.counter({
    name: "dstack_gateway_route_refusals_total",
    help: "Host names the routing handler refused, by reason",
    labels: ["reason"],
  });
  const plane: DataPlane = new DataPlane(
    core.proxy.haproxy,
    settings,
    hostDataPlanePorts(settings.paths, {
      decide: (host) => table.decide(host),
      onRefused: (host, reason) => {
        refusals.add(1, { reason });
        log("info", "route refused", { host, reason });
      },
      log,
    }, account),
  );
  const reconciler = new Reconciler({
    instances: store.instances,
    table,
    syncPeers: (peers) => wireguard.device.syncPeers(peers),
    handshakes: () => wireguard.device.handshakes(),
    interfaceUp: () => wireguard.device.up(),
    refreshRoutes: () => plane.routes.refresh(),
    storeHandshakes: (handshakes) => store.putHandshakes(handshakes),
    removeInstance: (instance, reason) => store.removeInstance(instance, reason),
    now,
    onError: (message, error) => log("error", message, { error }),
  });

  const tunnel = await wireguard.device.up();
  cleanup.defer(() => wireguard.device.down());
  log("info", "WireGuard interface is up", { interface: core.wg.interface, driver: tunnel });

  // Ours alone: one that seems to answer is only held open by the HAProxy of a killed predecessor.
  await rm(settings.paths.localSocket, { force: true });
  const local = await serveUnix(
    createLocalApp({
      appInfo: () => Promise.resolve(undefined),
      logError: (message) => log("error", message),
    }).fetch,
    { socket: { path: settings.paths.localSocket } },
  );
  cleanup.defer(() => local.close(0));
  await restrictSocket(settings.paths.localSocket, account);

  table.setRows(await store.instances());
  await plane.start(certificates);
  cleanup.defer(() => plane.stop());
  await reconciler.tick();
  for (const [domain, { fingerprint, notAfter }] of plane.certificates.domains) {
    await store.putCertificate({ domain, fingerprint, notAfter });
  }

  const ports: GatewayPorts = {
    rows: store,
    nodeId,
    appId: core.app_id,
    now,
    addressPlan,
    applyRows: () => reconciler.apply(),
    handshakes: () => table.handshakes,
    connections: () => plane.connections(table.instances),
    decide: (host) => table.decide(host),
    authorize: authorizationOf(config),
    version: options.version,
    metrics: withHaproxyMetrics(options.metrics, settings),
    ready: () =>
      Promise.resolve({
        haproxy: plane.haproxy.pid !== undefined,
        certificate: plane.certificates.domains.size > 0,
      }),
    settings: {
      agentPort: core.proxy.agent_port,
      appAddressPrefix: core.proxy.app_address_ns_prefix,
      bootnodeUrl: core.sync.bootnode,
      skipPeerCheck: core.debug.insecure_skip_attestation,
      adminTokens,
      adminWithoutAuth: core.admin.insecure_no_auth,
    },
    logError: (error) => log("error", "request failed", { error }),
    logEvent: (event) => log("info", event.kind, { ...event }),
  };
  answer = createGatewayApp(ports).fetch;
  if (core.admin.enabled) listeners.push(await serveAdmin(config, ports));

  const ended = new AbortController();
  let lastTick = performance.now();
  const loops = [
    every(FIRST_HANDSHAKE_INTERVAL_MS, ended.signal, async () => {
      const due = performance.now() - lastTick >= HANDSHAKE_INTERVAL_MS;
      if (!due && !reconciler.awaitsHandshake) return;
      lastTick = performance.now();
      await reconciler.tick();
    }),
    core.recycle.enabled
      ? every(
        core.recycle.interval,
        ended.signal,
        () => reconciler.recycle(Math.floor(core.recycle.timeout / 1000)),
      )
      : Promise.resolve(),
  ];
  log("info", "gateway serves", {
    rpc: rpc.port,
    ingress: core.proxy.listen_port.first,
    domains: [...plane.certificates.domains.keys()],
  });
  const started = cleanup.move();
  const quiet = async () => {
    answer = notNow;
    ended.abort();
    await Promise.all(loops);
  };
  return {
    port: rpc.port,
    async stop() {
      await quiet();
      await started.disposeAsync();
    },
    async detach() {
      await quiet();
      await Promise.all([...listeners, local].map((listener) => listener.close(1000)));
      await plane.detach();
      close();
    },
  };
}

/** Ends what a gateway of this configuration left running, whether or not its process still is. */
export async function takeDown(config: GatewayConfig, log: GatewayLog): Promise<void> {
  const { settings } = await dataPlaneSettings(config);
  const plane = new DataPlane(
    config.core.proxy.haproxy,
    settings,
    hostDataPlanePorts(settings.paths, {
      decide: () => ({ kind: "refused", reason: "unknown-app" }),
      onRefused: () => {},
      log,
    }),
  );
  await plane.stop();
  const { device } = await wireguardOf(config);
  await device.down();
}

/** Checks what --check-config can without starting anything. Throws `config/invalid`. */
export async function checkGateway(config: GatewayConfig): Promise<void> {
  planOf(config);
  adminTokensOf(config);
  requireAddress(config, "address");
  await dataPlaneSettings(config);
  await readTls(config);
  for (const { domain, chainPem, keyPem } of await readStaticCertificate(config)) {
    checkCertificate(domain, inspectCertificate(chainPem, keyPem), new Date());
  }
}

async function dataPlaneSettings(
  config: GatewayConfig,
): Promise<{ settings: DataPlaneSettings; account: Account | undefined }> {
  const { proxy } = config.core;
  const { stdout } = await runCommand([proxy.haproxy, "-vv"], COMMAND_TIMEOUT_MS);
  const build = parseHaproxyBuild(stdout);
  const account = await isReachableByOthers(proxy.run_dir) ? await haproxyAccount() : undefined;
  const settings: DataPlaneSettings = {
    paths: dataPlanePaths(proxy.run_dir),
    listen: { address: proxy.listen_addr, ...proxy.listen_port },
    inboundProxyProtocol: proxy.inbound_pp_enabled,
    tlsVersions: proxy.tls_versions,
    maxConnectionsPerApp: proxy.max_connections_per_app,
    threads: proxy.workers === 0 ? undefined : proxy.workers,
    timeouts: {
      connectMs: proxy.timeouts.connect,
      handshakeMs: proxy.timeouts.handshake,
      idleMs: proxy.timeouts.data_timeout_enabled ? proxy.timeouts.idle : undefined,
    },
    account: account && { user: account.user, group: account.group },
    slots: {
      plain: proxy.upstream_slots,
      proxied: Math.ceil(proxy.upstream_slots / 4),
      servers: proxy.connect_top_n === 0 ? 16 : Math.max(2, proxy.connect_top_n),
    },
    prometheus: build.prometheus,
    redirect: proxy.redirect_port === 0
      ? undefined
      : { port: proxy.redirect_port, httpsPort: proxy.external_port },
  };
  return { settings, account };
}

function planOf({ core }: GatewayConfig) {
  return parseAddressPlan({
    ip: core.wg.ip,
    reservedNet: core.wg.reserved_net,
    clientIpRange: core.wg.client_ip_range,
  });
}

/** Nobody is let in by accident: an admin listener needs a token or an explicit word (7.4). */
function adminTokensOf({ core }: GatewayConfig): readonly string[] {
  const { enabled, auth_token, admin_token, insecure_no_auth } = core.admin;
  const tokens = [auth_token.trim(), admin_token.trim()].filter((token) => token !== "");
  if (enabled && !insecure_no_auth && tokens.length === 0) {
    throw new AppError(
      "config/invalid",
      "core.admin needs auth_token (or DSTACK_GATEWAY_ADMIN_TOKEN), or insecure_no_auth",
    );
  }
  return tokens;
}

async function wireguardOf({ core }: GatewayConfig) {
  const privateKey = core.wg.private_key || await readOrMakeKey(core.wg.private_key_file);
  const publicKey = wireguardPublicKey(privateKey);
  if (core.wg.public_key !== "" && core.wg.public_key !== publicKey) {
    throw new AppError("config/invalid", "core.wg.public_key does not belong to the private key");
  }
  const device = new Wireguard({
    interface: core.wg.interface,
    privateKey,
    listenPort: core.wg.listen_port,
    address: core.wg.ip,
    configPath: core.wg.config_path,
    markerPath: join(core.proxy.run_dir, "interface"),
  }, hostWireguardPorts);
  return { publicKey, device };
}

async function readOrMakeKey(path: string): Promise<string> {
  const bytes = await readFileIfExists(path, 1024);
  if (bytes !== undefined) return fromUtf8(bytes, path).trim();
  const { privateKey } = generateWireguardKeyPair();
  await writeFileAtomic(path, `${privateKey}\n`);
  return privateKey;
}

async function readTls({ tls }: GatewayConfig) {
  const [certPem, keyPem, clientCaPem] = await Promise.all([
    readPem(tls.certs, "tls.certs"),
    readPem(tls.key, "tls.key"),
    readPem(tls.mutual.ca_certs, "tls.mutual.ca_certs"),
  ]);
  return { certPem, keyPem, clientCaPem };
}

async function readStaticCertificate({ core }: GatewayConfig) {
  const { base_domain, cert_chain, cert_key } = core.proxy;
  if (base_domain === undefined || cert_chain === undefined || cert_key === undefined) return [];
  const domain = normalizeDomain(base_domain);
  if (domain === undefined) {
    throw new AppError("config/invalid", "core.proxy.base_domain is not a domain name");
  }
  const [chainPem, keyPem] = await Promise.all([
    readPem(cert_chain, "core.proxy.cert_chain"),
    readPem(cert_key, "core.proxy.cert_key"),
  ]);
  return [{ domain, chainPem, keyPem }];
}

async function readPem(path: string, key: string): Promise<string> {
  const bytes = await readFileIfExists(path, MAX_PEM_BYTES);
  if (bytes === undefined) throw new AppError("config/invalid", `${key}: no file ${path}`);
  return fromUtf8(bytes, path);
}

function authorizationOf({ core }: GatewayConfig): GatewayPorts["authorize"] {
  const { enabled, url, timeout } = core.auth;
  if (!enabled) return () => Promise.resolve();
  return webhookAuthorization({ url, timeoutMs: timeout, fetch: makeWebFetch() });
}

function requireAddress(
  part: { address: string; port?: number | undefined },
  name: string,
) {
  const listen = listenAddress(part);
  if (listen === undefined) throw new AppError("config/invalid", `${name} names no port`);
  return listen;
}

async function serveAdmin({ core }: GatewayConfig, ports: GatewayPorts): Promise<Listening> {
  const app = createGatewayAdminApp(ports);
  if (core.admin.address.startsWith("unix:")) {
    const path = core.admin.address.slice("unix:".length);
    return await serveUnix(app.fetch, { socket: { path, mode: 0o600 } });
  }
  return await serveHttp(app.fetch, requireAddress(core.admin, "core.admin.address"));
}

/** Our own metrics and those of HAProxy, as one text. */
function withHaproxyMetrics(own: Metrics, settings: DataPlaneSettings): Metrics {
  if (!settings.prometheus) return own;
  const fetch = unixFetch(settings.paths.metricsSocket);
  return {
    counter: (options) => own.counter(options),
    gauge: (options) => own.gauge(options),
    histogram: (options) => own.histogram(options),
    async text() {
      const response = await fetch("http://haproxy/metrics", { method: "GET", headers: {} });
      return `${await own.text() ?? ""}${await response.text()}`;
    },
  };
}

async function every(
  intervalMs: number,
  signal: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await sleep(intervalMs, undefined, { signal });
    } catch {
      return; // aborted: the gateway ends
    }
    await work();
  }
}
