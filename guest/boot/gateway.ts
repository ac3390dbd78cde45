import { fromUtf8, toHex } from "#core/bytes/bytes.ts";
import type { AppCompose } from "#core/compose/app-compose.ts";
import { parseP256Pkcs8 } from "#core/crypto/p256.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { parseCertificate } from "#core/ra-tls/certificate.ts";
import { readIssuerClaims } from "#core/ra-tls/claims.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { Gateway, type RegisterCvmResponse } from "#core/rpc/gen/gateway_pb.ts";
import type { IssueCertificate } from "../certificate-issuer.ts";
import type { Files, Log, Run } from "../ports.ts";
import type { AppKeys } from "./app-keys.ts";
import { type MakeTlsFetch, prpcBase } from "./kms-client.ts";
import type { HostNotifier } from "./host-notifier.ts";
import type { SysConfig } from "./sys-config.ts";
import { applyTunnel, checkedTunnel, createWireGuardKey } from "./wireguard.ts";

const CACHE = "/run/dstack/gateway-cache.json";
const CERTIFICATE_LIFETIME_S = 10 * 24 * 3600;
/** A cached certificate is used while it is valid for longer than this. */
const CERTIFICATE_MARGIN_S = 600;
const TIMEOUT_MS = 60_000;

export interface GatewayPorts {
  readonly files: Files;
  readonly run: Run;
  readonly log: Log;
  readonly now: () => Date;
  readonly makeTlsFetch: MakeTlsFetch;
  readonly issueCertificate: IssueCertificate;
}

export interface GatewayApp {
  readonly compose: AppCompose;
  readonly sysConfig: SysConfig;
  readonly keys: AppKeys;
}

/** What a guest keeps between registrations; the whole file is secret. Unix seconds. */
export interface GatewayCredentials {
  readonly clientCert: string;
  /** For gateways before 0.5.6, made when one asks for it. */
  readonly clientCertWithQuote: string | undefined;
  readonly clientKey: string;
  readonly certNotAfter: number;
  readonly wireGuardPrivateKey: string;
  readonly wireGuardPublicKey: string;
}

/** Throws `config/invalid` when the app wants a gateway that nobody named. */
export function requireGatewayConfig({ sysConfig, keys }: GatewayApp): void {
  if (keys.gatewayAppId === "") {
    throw new AppError("config/invalid", "The KMS named no gateway app id");
  }
  if (sysConfig.gatewayUrls.length === 0) {
    throw new AppError("config/invalid", "No gateway URLs are set");
  }
}

/**
 * Registers this instance with the first gateway that takes it and applies the tunnel (spec/os.md
 * 3.10). Throws the first gateway's error when none does.
 */
export async function refreshGateway(
  app: GatewayApp,
  force: boolean,
  ports: GatewayPorts,
): Promise<"unchanged" | "applied"> {
  requireGatewayConfig(app);
  const credentials = await gatewayCredentials(ports);
  ports.log("gateway credentials ready");
  let first: unknown;
  for (const url of app.sysConfig.gatewayUrls) {
    try {
      const answer = await register(url, app, credentials, ports);
      return await applyTunnel(tunnelOf(answer, credentials), force, ports);
    } catch (error) {
      ports.log("gateway did not register this instance", { url });
      first ??= error;
    }
  }
  throw new AppError("guest/gateway", "dstack-gateway registration failed", { cause: first });
}

/**
 * The boot's registration. An app without a route is still an app: the checker tries again, and until
 * then the host shows why.
 */
export async function connectGateway(
  app: GatewayApp,
  notifier: HostNotifier,
  ports: GatewayPorts,
): Promise<void> {
  if (!app.compose.gatewayEnabled) return;
  notifier.notify("boot.progress", "setting up dstack-gateway");
  try {
    await refreshGateway(app, true, ports);
    ports.log("gateway connected");
  } catch (error) {
    const text = errorChain(error);
    ports.log("gateway registration failed", { error: text });
    notifier.notify(
      "boot.error",
      `guest/gateway: dstack-gateway registration failed, the app has no ingress route: ${text}`,
    );
  }
}

/** Saved before the first registration: a gateway that is down must not become a load on the KMS. */
async function gatewayCredentials(ports: GatewayPorts): Promise<GatewayCredentials> {
  const cached = parseCredentials(await ports.files.read(CACHE));
  const now = Math.floor(ports.now().getTime() / 1000);
  if (cached !== undefined && isUsable(cached, now)) return cached;
  const notAfter = now + CERTIFICATE_LIFETIME_S;
  const { keyPem, chain } = await ports.issueCertificate({
    subject: "dstack-guest-agent",
    altNames: [],
    serverAuth: false,
    clientAuth: true,
    includeAttestation: false,
    includeAppInfo: true,
    notAfter: BigInt(notAfter),
  });
  const wireGuard = cached === undefined ? await createWireGuardKey() : {
    privateKey: cached.wireGuardPrivateKey,
    publicKey: cached.wireGuardPublicKey,
  };
  const credentials: GatewayCredentials = {
    clientCert: chain.join(""),
    clientCertWithQuote: undefined,
    clientKey: keyPem,
    certNotAfter: notAfter,
    wireGuardPrivateKey: wireGuard.privateKey,
    wireGuardPublicKey: wireGuard.publicKey,
  };
  await ports.files.makeDirectory("/run/dstack");
  await ports.files.write(CACHE, encodeCredentials(credentials), 0o600);
  return credentials;
}

export function isUsable(credentials: GatewayCredentials, now: number): boolean {
  return credentials.certNotAfter > now + CERTIFICATE_MARGIN_S;
}

/** undefined for a missing or unreadable cache, which is then made anew. */
export function parseCredentials(bytes: Uint8Array | undefined): GatewayCredentials | undefined {
  if (bytes === undefined) return undefined;
  try {
    const o = new JsonObject(JSON.parse(fromUtf8(bytes)), "gateway cache");
    return {
      clientCert: o.string("client_cert"),
      clientCertWithQuote: o.string("client_cert_with_quote") || undefined,
      clientKey: o.string("client_key"),
      certNotAfter: o.unsigned("cert_not_after", Number.MAX_SAFE_INTEGER),
      wireGuardPrivateKey: o.string("wg_sk"),
      wireGuardPublicKey: o.string("wg_pk"),
    };
  } catch {
    return undefined; // not ours, or cut short: as good as none
  }
}

export function encodeCredentials(credentials: GatewayCredentials): string {
  return JSON.stringify({
    client_cert: credentials.clientCert,
    client_cert_with_quote: credentials.clientCertWithQuote ?? "",
    client_key: credentials.clientKey,
    cert_not_after: credentials.certNotAfter,
    wg_sk: credentials.wireGuardPrivateKey,
    wg_pk: credentials.wireGuardPublicKey,
  });
}

async function register(
  url: string,
  app: GatewayApp,
  credentials: GatewayCredentials,
  ports: GatewayPorts,
): Promise<RegisterCvmResponse> {
  const { ports: portList, restrictMode } = app.compose.portPolicy;
  const request = {
    clientPublicKey: credentials.wireGuardPublicKey,
    portPolicy: { ports: portList.map(({ port, pp }) => ({ port, pp })), restrictMode },
  };
  const call = (clientCert: string) => {
    const fetch = gatewayFetch(app.keys, { ...credentials, clientCert }, ports.makeTlsFetch);
    return prpcClient(Gateway, { baseUrl: prpcBase(url), fetch })
      .registerCvm(request, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  };
  try {
    return await call(credentials.clientCert);
  } catch (error) {
    // Gateways before 0.5.6 want the quote itself; their text is the only sign.
    const wantsQuote = error instanceof AppError && /no attestation provided/i.test(error.message);
    if (!wantsQuote) throw error;
    return await call(
      credentials.clientCertWithQuote ?? await quotedCertificate(credentials, ports),
    );
  }
}

async function quotedCertificate(
  credentials: GatewayCredentials,
  ports: GatewayPorts,
): Promise<string> {
  const { chain } = await ports.issueCertificate({
    subject: "dstack-guest-agent",
    altNames: [],
    serverAuth: false,
    clientAuth: true,
    includeAttestation: true,
    includeAppInfo: true,
    notAfter: BigInt(credentials.certNotAfter),
  }, parseP256Pkcs8(decodeOnePem("PRIVATE KEY", credentials.clientKey)));
  const clientCertWithQuote = chain.join("");
  await ports.files.write(CACHE, encodeCredentials({ ...credentials, clientCertWithQuote }), 0o600);
  return clientCertWithQuote;
}

/** mTLS under the app's CA; the gateway's certificate must name an app id the KMS allows for gateways. */
function gatewayFetch(
  keys: AppKeys,
  credentials: Pick<GatewayCredentials, "clientCert" | "clientKey">,
  makeTlsFetch: MakeTlsFetch,
): FetchLike {
  const client = { certPem: credentials.clientCert, keyPem: credentials.clientKey };
  if (keys.gatewayAppId === "any") {
    return makeTlsFetch({ ...client, verify: "none", checkHostname: false });
  }
  return makeTlsFetch({
    ...client,
    caPem: keys.caCertPem,
    verify: "ca",
    checkHostname: true,
    onPeerCertificate(der) {
      const { appId } = readIssuerClaims(parseCertificate(der));
      if (appId === undefined || !isGatewayAppId(keys.gatewayAppId, appId)) {
        throw new AppError("guest/gateway", "The server is no gateway that the KMS named");
      }
    },
  });
}

/** The KMS's text may name several ids; each stands alone, whatever separates them. */
export function isGatewayAppId(named: string, appId: Uint8Array): boolean {
  const ids = named.toLowerCase().split(/[^0-9a-fx]+/).map((id) => id.replace(/^0x/, ""));
  return ids.includes(toHex(appId));
}

function tunnelOf(answer: RegisterCvmResponse, credentials: GatewayCredentials) {
  return checkedTunnel({
    privateKey: credentials.wireGuardPrivateKey,
    clientIp: answer.wg?.clientIp ?? "",
    peers: (answer.wg?.servers ?? []).map(({ pk, ip, endpoint }) => ({
      publicKey: pk,
      ip: ip.split("/")[0]!,
      endpoint,
    })),
  });
}
