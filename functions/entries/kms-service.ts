import { existsSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "@noble/hashes/sha2.js";
import { hostCrypto, nodePublicPoint } from "#adapters/crypto.ts";
import { readFileBounded } from "#adapters/files.ts";
import { serveHttp } from "#adapters/http-server.ts";
import { serveHttps } from "#adapters/https-server.ts";
import { ImageCache } from "#adapters/image-cache.ts";
import type { Listening } from "#adapters/listening.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { unixFetch } from "#adapters/unix-http.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8 } from "#core/crypto/p256.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import { privateKeyPem } from "#core/ra-tls/certificate.ts";
import { CollateralCache } from "#core/tdx/collateral-cache.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { DEFAULT_PCCS_URL, fetchCollateral } from "#core/tdx/pccs-client.ts";
import { CircuitBreaker } from "#functions/circuit-breaker.ts";
import type { EpochRegistry } from "#functions/db/kms-epochs.ts";
import { createAdminApp } from "#functions/kms/admin-app.ts";
import { createKmsApp } from "#functions/kms/app.ts";
import { createAppraiser } from "#functions/kms/appraiser.ts";
import { devAuthApi, webhookAuthApi } from "#functions/kms/auth-api.ts";
import { bootstrap } from "#functions/kms/bootstrap.ts";
import type { KmsConfig } from "#functions/kms/config.ts";
import { RootEpochs } from "#functions/kms/epochs.ts";
import { guestAgent } from "#functions/kms/guest-agent.ts";
import {
  completePending,
  hasKeys,
  type KeyFiles,
  type KmsIdentity,
  loadIdentity,
  readBootstrapInfo,
} from "#functions/kms/key-store.ts";
import { parseHtpasswd } from "#functions/kms/htpasswd.ts";
import { Admission, type Limits, RateLimiter } from "#functions/kms/limits.ts";
import { kmsMetrics } from "#functions/kms/metrics.ts";
import type { PeerFetch } from "#functions/kms/onboard.ts";
import { createOnboardApp } from "#functions/kms/onboard-app.ts";
import type { Appraise, DecidingPorts, KmsLog, SelfAttestation } from "#functions/kms/ports.ts";
import { attestationExtension } from "#functions/kms/sign-cert.ts";
import { imageCacheDirectory } from "./image-cache.ts";
import { keyDirectory } from "./key-directory.ts";
import { openKmsDatabase } from "./kms-database.ts";
import { openLogHeadFile } from "./log-head-file.ts";
import { readTrustAnchors } from "./trust-anchors.ts";

const MAX_HTPASSWD_BYTES = 1024 * 1024;
const MAX_IMAGE_STORE_BYTES = 4 * 1024 ** 3;

export interface KmsServiceOptions {
  readonly version: AppVersion;
  readonly metrics: Metrics;
  readonly log: KmsLog & { readonly info: (message: string, facts?: object) => void };
  /** Unix sockets the guest agent may listen on; the first that is there counts. */
  readonly agentSockets: readonly string[];
  /** Of a libSQL server that asks for one. */
  readonly databaseToken?: string | undefined;
  /** Of the admin listener, where the configuration has none. */
  readonly adminToken?: string | undefined;
}

export interface KmsService {
  readonly identity: KmsIdentity;
  /** Of the RPC listener. */
  readonly port: number;
  readonly adminPort: number | undefined;
  close(): Promise<void>;
}

/** What both the service and `issue-cert` open first. */
export interface KmsState {
  readonly files: KeyFiles;
  readonly ports: DecidingPorts;
  readonly registry: EpochRegistry;
  readonly appraiserFor: (rootPublicKey: Uint8Array | undefined) => Appraise;
  close(): Promise<void>;
}

/** Opens keys directory, decision log and outward connections; serves nothing yet. */
export async function openKms(config: KmsConfig, options: KmsServiceOptions): Promise<KmsState> {
  const { core } = config;
  const files = await keyDirectory(core.cert_dir);
  await completePending(files);
  const trustAnchors = await readTrustAnchors(core.attestation);
  const agentSocket = options.agentSockets.find((path) => existsSync(path));
  const now = () => new Date();
  const collateral = collateralCache(config, options, now);
  const counted = kmsMetrics(options.metrics);
  const images = imageStore(config, options, now);
  const appraiserFor = (rootPublicKey: Uint8Array | undefined): Appraise => {
    const appraise = createAppraiser({
      now,
      trustAnchors,
      collateralFor: (quote) => collateral.get(quote),
      crypto: hostCrypto,
      endorsements: new EndorsementCache(),
      verifyImage: core.image.verify,
      registersOf: images?.registersOf,
      rootPublicKey,
    });
    return async (request) => {
      const verdict = await appraise(request);
      counted.verdict(verdict, now().getTime());
      return verdict;
    };
  };
  for (const { name, simulated } of trustAnchors) {
    options.log.info("trust anchor", { trust_anchor: name, simulated });
  }
  const heads = await openLogHeadFile(core.cert_dir);
  const database = await openKmsDatabase(core.database, heads, options.databaseToken)
    .catch(async (error) => {
      await heads.close();
      throw error;
    });
  return {
    files,
    registry: database.epochs,
    appraiserFor,
    ports: {
      now,
      appraise: appraiserFor(undefined),
      authApi: authApiOf(config, options.version),
      decisions: database.decisions,
      log: options.log,
      policy: {
        enforceSelfAuthorization: core.enforce_self_authorization,
        sevSnpKeyRelease: core.sev_snp_key_release,
        awsNitroTpmKeyRelease: core.aws_nitro_tpm_key_release,
        isDev: core.auth_api.type === "dev",
        siteName: core.site_name,
      },
      limits: limitsOf(config, now),
      self: agentSocket === undefined ? undefined : guestAgent(unixFetch(agentSocket)),
    },
    close: async () => {
      database.close();
      await heads.close();
    },
  };
}

/** Starts a KMS: gets keys where it has none, then serves (kms.md 5.1). */
export async function startKms(
  config: KmsConfig,
  options: KmsServiceOptions,
): Promise<KmsService> {
  requireOwnTlsFiles(config);
  const admin = await adminListener(config, options);
  const state = await openKms(config, options);
  const listening: Listening[] = [];
  const close = async () => {
    await Promise.all(listening.map((server) => server.close()));
    await state.close();
  };
  try {
    await ensureKeys(config, options, state);
    const identity = await openIdentity(config, options, state);
    const epochs = await RootEpochs.open(state.files, state.registry, identity, Date.now());
    const resumed = await epochs.resume(state.ports);
    if (resumed !== undefined) {
      options.log.info("finished an interrupted rotation", { epoch: resumed.epoch });
    }
    const counted = kmsMetrics(options.metrics);
    counted.epoch(epochs.list().length - 1);
    const ports = {
      ...state.ports,
      appraise: state.appraiserFor(identity.rootCa.publicKey),
      identity,
      epochs,
      publicPointOf: "Deno" in globalThis ? undefined : nodePublicPoint,
      bootstrapInfo: () => readBootstrapInfo(state.files),
      metrics: options.metrics,
      version: options.version,
    };
    const server = await serveHttps(createKmsApp(ports).fetch, {
      host: config.rpc.address,
      port: config.rpc.port,
      certPem: identity.rpcCertPem,
      keyPem: privateKeyPem(encodeP256Pkcs8(identity.rpcKey)),
      clientCaPem: identity.tempCaPem,
      maxConnections: config.core.limits.connections,
      requestTimeoutMs: config.core.limits.request_timeout,
    });
    listening.push(server);
    let adminServer: Listening | undefined;
    if (admin !== undefined) {
      const app = createAdminApp({
        ...ports,
        auth: admin.auth,
        peerFetch,
        imageCache: imageCacheDirectory(config.core.image.cache_dir),
      });
      adminServer = await serveHttp(app.fetch, { host: admin.address, port: admin.port });
      listening.push(adminServer);
    }
    options.log.info("KMS is serving", {
      address: `${config.rpc.address}:${server.port}`,
      domain: identity.domain,
      root_public_key_sha256: toHex(sha256(identity.rootCa.publicKey)),
    });
    return { identity, port: server.port, adminPort: adminServer?.port, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const peerFetch: PeerFetch = (tls) =>
  makeTlsFetch({ ...tls, verify: "none", checkHostname: false });

async function ensureKeys(
  config: KmsConfig,
  options: KmsServiceOptions,
  { files, ports }: KmsState,
): Promise<void> {
  if (await hasKeys(files)) return;
  const { enabled, auto_bootstrap_domain: domain, address, port } = config.core.onboard;
  if (!enabled) throw new AppError("config/invalid", "There are no keys, and onboarding is off");
  if (domain !== "") {
    await bootstrap(ports, files, domain);
    return;
  }
  const finished = Promise.withResolvers<void>();
  const app = createOnboardApp({
    ...ports,
    files,
    peerFetch,
    version: options.version,
    finish: () => finished.resolve(),
  });
  const server = await serveHttp(app.fetch, { host: address, port });
  options.log.info("KMS has no keys: waiting to be bootstrapped", {
    address: `${address}:${server.port}`,
  });
  await finished.promise;
  await server.close();
  if (!await hasKeys(files)) throw new AppError("kms/not-ready", "Failed to onboard");
}

/** With `attest_rpc_cert` the server certificate carries evidence, or there is no start. */
async function openIdentity(
  config: KmsConfig,
  options: KmsServiceOptions,
  { files, ports }: KmsState,
): Promise<KmsIdentity> {
  const { onboard, attest_rpc_cert: attestRpcCert } = config.core;
  const domain = onboard.auto_bootstrap_domain || undefined;
  const { self } = ports;
  if (attestRpcCert && self === undefined) {
    throw new AppError(
      "config/invalid",
      "core.attest_rpc_cert needs a guest agent, and none is there: this is not a CVM",
    );
  }
  if (!attestRpcCert) {
    options.log.info("the server certificate carries no evidence: core.attest_rpc_cert is off");
    return await loadIdentity(files, ports.now(), { domain });
  }
  return await loadIdentity(files, ports.now(), {
    domain,
    attest: async (spki) => await attestedExtension(self!, spki),
  });
}

async function attestedExtension(self: SelfAttestation, spki: Uint8Array): Promise<Uint8Array> {
  return attestationExtension(decodeAttestation(await self.attest(ratlsReportData(spki))));
}

function limitsOf({ core: { limits } }: KmsConfig, now: () => Date): Limits {
  const { peer_per_second, peer_burst, app_per_second, app_burst } = limits;
  return {
    perPeer: new RateLimiter({ perSecond: peer_per_second, burst: peer_burst, now }),
    perApp: new RateLimiter({ perSecond: app_per_second, burst: app_burst, now }),
    admission: new Admission(limits.concurrent, limits.waiting),
  };
}

function collateralCache(
  { core }: KmsConfig,
  { log }: KmsServiceOptions,
  now: () => Date,
): CollateralCache {
  const pccs = {
    baseUrl: core.attestation.urls.pccs || DEFAULT_PCCS_URL,
    fetch: makeWebFetch(),
    timeoutMs: core.collateral.timeout,
  };
  return new CollateralCache({
    fetch: (quote) => fetchCollateral(quote, pccs),
    now,
    maxAgeMs: core.collateral.max_age,
    logError: log.error,
  });
}

/** Undefined where no images are kept. */
function imageStore(
  { core: { image } }: KmsConfig,
  { log }: KmsServiceOptions,
  now: () => Date,
): ImageCache | undefined {
  if (image.download_url === "") return undefined;
  return new ImageCache({
    directory: image.cache_dir,
    downloadUrl: image.download_url,
    timeoutMs: image.download_timeout,
    maxBytes: MAX_IMAGE_STORE_BYTES,
    now,
    fetch,
    logError: log.error,
  });
}

function authApiOf({ core }: KmsConfig, { version }: AppVersion) {
  const { type, webhook, dev } = core.auth_api;
  if (type === "dev") return devAuthApi(dev.gateway_app_id);
  return webhookAuthApi({
    url: webhook.url,
    fetch: makeWebFetch(),
    timeoutMs: webhook.timeout,
    userAgent: `dstack-kms/${version}`,
    breaker: new CircuitBreaker({ name: "auth api", now: () => new Date() }),
  });
}

/** The reference reads its TLS files by these keys; here they can only be those of cert_dir. */
function requireOwnTlsFiles({ rpc, core }: KmsConfig): void {
  const expected = [
    ["rpc.tls.key", rpc.tls.key, "rpc.key"],
    ["rpc.tls.certs", rpc.tls.certs, "rpc.crt"],
    ["rpc.tls.mutual.ca_certs", rpc.tls.mutual.ca_certs, "tmp-ca.crt"],
  ] as const;
  for (const [name, path, file] of expected) {
    if (path !== undefined && path !== join(core.cert_dir, file)) {
      throw new AppError("config/invalid", `${name} must be ${file} in core.cert_dir`);
    }
  }
}

async function adminListener({ core }: KmsConfig, { adminToken }: KmsServiceOptions) {
  const { enabled, address, port, auth_token, htpasswd_file, insecure_no_auth } = core.admin;
  if (!enabled) return undefined;
  const token = auth_token.trim() || adminToken?.trim() || undefined;
  const password = htpasswd_file === ""
    ? undefined
    : parseHtpasswd(fromUtf8(await readFileBounded(htpasswd_file, MAX_HTPASSWD_BYTES)));
  const auth = token === undefined && password === undefined ? undefined : { token, password };
  if (auth === undefined && !insecure_no_auth) {
    throw new AppError("config/invalid", "core.admin is enabled without core.admin.auth_token");
  }
  return { address, port, auth };
}
