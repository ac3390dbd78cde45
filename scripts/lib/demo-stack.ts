/** What the demo runs, where it keeps it, and how each program is told about the others. */
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import process from "node:process";
import { stringify as toToml } from "smol-toml";
import { buildCertificate, defaultNotAfter, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { encodeP256Pkcs8, p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { encodePem } from "#core/encoding/pem.ts";
import type { ServiceSpec } from "./service.ts";

export const BASE_DOMAIN = "dstack.localhost";

/** TCP on loopback, but for `wireguard`, which is UDP. */
export interface DemoPorts {
  readonly registry: number;
  readonly kms: number;
  readonly auth: number;
  readonly dstackd: number;
  readonly hostApi: number;
  readonly gateway: number;
  readonly gatewayAdmin: number;
  readonly verifier: number;
  readonly ingress: number;
  readonly wireguard: number;
}

export function demoPorts(base: number): DemoPorts {
  return {
    registry: base + 1,
    kms: base + 2,
    auth: base + 3,
    dstackd: base + 4,
    hostApi: base + 5,
    gateway: base + 6,
    gatewayAdmin: base + 7,
    verifier: base + 8,
    wireguard: base + 9,
    ingress: base + 10,
  };
}

/** Throws naming the first port somebody else holds, and what to do about it. */
export async function requireFreePorts(ports: DemoPorts, ours: readonly number[]): Promise<void> {
  for (const [name, port] of Object.entries(ports)) {
    if (name === "wireguard" || ours.includes(port)) continue;
    await new Promise<void>((resolve, reject) => {
      const probe = createServer();
      probe.once("error", () =>
        reject(
          new Error(
            `port ${port}, for the demo's ${name}, is already taken; end what listens there ` +
              `(ss -ltnp sport = :${port}) or choose others with --port-base`,
          ),
        ));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve()));
    });
  }
}

export function writeSecret(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  chmodSync(`${path}.new`, 0o600);
  renameSync(`${path}.new`, path);
}

/** A secret made once and kept. */
export function secretFile(path: string, bytes = 32): string {
  if (!existsSync(path)) writeSecret(path, `${randomBytes(bytes).toString("hex")}\n`);
  return readFileSync(path, "utf8").trim();
}

/** The CA that signs the base domain here, where no public one can reach `.localhost`. */
export function demoAuthority(
  dir: string,
  now: Date,
): { caPath: string; chainPath: string; keyPath: string } {
  const paths = {
    caPath: join(dir, "ca.pem"),
    chainPath: join(dir, "wildcard.pem"),
    keyPath: join(dir, "wildcard.key"),
  };
  if (Object.values(paths).every((path) => existsSync(path))) return paths;
  const caKey = randomP256Scalar();
  const caName = { organization: "dstack-edge demo", commonName: "dstack-edge demo CA" };
  const issuer = selfIssuer(caName, caKey);
  const notAfter = defaultNotAfter(now);
  const ca = buildCertificate({
    subject: caName,
    publicKey: p256Spki(caKey),
    issuer,
    notAfter,
    ca: { pathLength: 0 },
  });
  const leafKey = randomP256Scalar();
  const leaf = buildCertificate({
    subject: { commonName: `*.${BASE_DOMAIN}` },
    publicKey: p256Spki(leafKey),
    issuer,
    notAfter,
    altNames: [`*.${BASE_DOMAIN}`, BASE_DOMAIN],
    serverAuth: true,
  });
  writeSecret(paths.keyPath, encodePem("PRIVATE KEY", encodeP256Pkcs8(leafKey)));
  writeSecret(paths.chainPath, encodePem("CERTIFICATE", leaf));
  writeSecret(paths.caPath, encodePem("CERTIFICATE", ca));
  return paths;
}

/** The gateway runs as a process here, so nothing measures an identity for it: it is given this one. */
export const GATEWAY_APP_ID = createHash("sha256").update("dstack-edge demo gateway")
  .digest("hex").slice(0, 40);

export class DemoStack {
  readonly state: string;
  readonly ports: DemoPorts;
  readonly ingressUrl: string;

  readonly #root: string;
  readonly #portBase: number;
  /** First two numbers of the WireGuard network's addresses. */
  readonly #network: string;

  /** `root` is the checkout, `state` the folder for all the demo writes. */
  constructor(root: string, state: string, portBase: number) {
    this.#root = root;
    this.#portBase = portBase;
    this.#network = `10.${64 + Math.floor(portBase / 20) % 128}`;
    this.state = state;
    this.ports = demoPorts(portBase);
    this.ingressUrl = `https://${BASE_DOMAIN}:${this.ports.ingress}`;
    mkdirSync(this.state, { recursive: true, mode: 0o700 });
  }

  path(...parts: string[]): string {
    return join(this.state, ...parts);
  }

  get allowlistPath(): string {
    return this.path("auth", "allowlist.json");
  }
  get consoleToken(): string {
    return secretFile(this.path("dstackd", "token"));
  }
  get simulatedRootPath(): string {
    return this.path("dstackd", "simulated-tee", "root.pem");
  }
  get kmsRootCaPath(): string {
    return this.path("kms", "certs", "root-ca.crt");
  }
  get pccsUrl(): string {
    return `http://127.0.0.1:${this.ports.hostApi}`;
  }

  #program(
    name: string,
    entry: string,
    config: object,
    ready: string | (() => Promise<boolean>),
  ): ServiceSpec {
    const path = this.path(name, `${name}.toml`);
    const text = toToml(config);
    writeSecret(path, text);
    return {
      name,
      argv: [process.execPath, join(this.#root, entry), "--config", path],
      configuration: createHash("sha256").update(text).digest("hex"),
      ready: typeof ready === "string"
        ? async () => (await fetch(ready, { signal: AbortSignal.timeout(2000) })).ok
        : ready,
    };
  }

  /** Whose quotes are believed: Intel's, or those dstackd signs where there is no TDX. */
  #attestation(simulated: boolean): object {
    if (!simulated) return {};
    return {
      insecure_allow_external_trust_anchors: true,
      root_ca: { tdx: this.simulatedRootPath },
      urls: { pccs: this.pccsUrl },
    };
  }

  /** Whether a program whose certificate hangs on the KMS's root says it is ready. */
  async #answersTls(port: number): Promise<boolean> {
    const fetchTls = makeTlsFetch({
      verify: "ca",
      caPem: readFileSync(this.kmsRootCaPath, "utf8"),
      checkHostname: false,
    });
    const url = `https://127.0.0.1:${port}/readyz`;
    return (await fetchTls(url, { method: "GET", headers: {} })).ok;
  }

  registry(): ServiceSpec {
    const path = this.path("registry", "config.json");
    mkdirSync(dirname(path), { recursive: true });
    // JSON is YAML.
    const config = {
      version: "0.1",
      log: { level: "warn", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: this.path("registry", "data") } },
      http: {
        addr: `127.0.0.1:${this.ports.registry}`,
        secret: secretFile(this.path("registry", "secret")),
      },
    };
    writeSecret(path, JSON.stringify(config));
    return {
      name: "registry",
      argv: ["docker-registry", "serve", path],
      configuration: "",
      ready: async () => (await fetch(`http://127.0.0.1:${this.ports.registry}/v2/`)).ok,
    };
  }

  auth(): ServiceSpec {
    return this.#program("auth", "functions/entries/auth.node.ts", {
      address: "127.0.0.1",
      port: this.ports.auth,
      allowlist: this.allowlistPath,
    }, `http://127.0.0.1:${this.ports.auth}/readyz`);
  }

  kms(simulated: boolean): ServiceSpec {
    const certs = this.path("kms", "certs");
    return this.#program("kms", "functions/entries/kms.node.ts", {
      rpc: {
        address: "127.0.0.1",
        port: this.ports.kms,
        tls: {
          key: join(certs, "rpc.key"),
          certs: join(certs, "rpc.crt"),
          mutual: { ca_certs: join(certs, "tmp-ca.crt") },
        },
      },
      core: {
        cert_dir: certs,
        database: this.path("kms", "kms.db"),
        site_name: "dstack-edge demo",
        // A process on this host has no evidence of its own to check or to show.
        enforce_self_authorization: false,
        attest_rpc_cert: false,
        attestation: this.#attestation(simulated),
        image: { verify: true, cache_dir: this.path("kms", "images") },
        auth_api: {
          type: "webhook",
          webhook: { url: `http://127.0.0.1:${this.ports.auth}` },
        },
        onboard: { enabled: true, auto_bootstrap_domain: "10.0.2.2" },
      },
    }, () => this.#answersTls(this.ports.kms));
  }

  dstackd(imageDir: string, qemu: string): ServiceSpec {
    return this.#program("dstackd", "host-daemon/main.ts", {
      address: `127.0.0.1:${this.ports.dstackd}`,
      kms_url: `https://127.0.0.1:${this.ports.kms}`,
      run_path: this.path("dstackd", "vm"),
      state_path: this.path("dstackd"),
      image: { path: imageDir },
      cvm: {
        qemu_path: qemu,
        kms_urls: [`https://10.0.2.2:${this.ports.kms}`],
        gateway_urls: [`https://10.0.2.2:${this.ports.gateway}`],
        docker_registry: `http://10.0.2.2:${this.ports.registry}`,
      },
      gateway: { base_domain: BASE_DOMAIN, port: this.ports.ingress },
      auth: { enabled: true, tokens: [this.consoleToken] },
      host_api: { address: "127.0.0.1", port: this.ports.hostApi },
    }, `http://127.0.0.1:${this.ports.dstackd}/readyz`);
  }

  gateway(authority: { chainPath: string; keyPath: string }): ServiceSpec {
    return this.#program("gateway", "host-daemon/gateway/main.ts", {
      address: `127.0.0.1:${this.ports.gateway}`,
      tls: {
        key: this.path("gateway", "certs", "rpc.key"),
        certs: this.path("gateway", "certs", "rpc.crt"),
        mutual: { ca_certs: this.kmsRootCaPath },
      },
      core: {
        wg: {
          private_key_file: this.path("gateway", "wg.key"),
          listen_port: this.ports.wireguard,
          // Of its own for each port base, so that two stacks can run side by side.
          ip: `${this.#network}.0.1/16`,
          reserved_net: [`${this.#network}.0.1/32`],
          client_ip_range: `${this.#network}.0.0/18`,
          interface: `wg-ds-${this.#portBase}`,
          config_path: this.path("gateway", "wg.conf"),
          endpoint: `10.0.2.2:${this.ports.wireguard}`,
        },
        proxy: {
          listen_addr: "127.0.0.1",
          listen_port: this.ports.ingress,
          base_domain: BASE_DOMAIN,
          cert_chain: authority.chainPath,
          cert_key: authority.keyPath,
          external_port: this.ports.ingress,
          run_dir: this.path("gateway", "run"),
        },
        admin: {
          enabled: true,
          address: `127.0.0.1:${this.ports.gatewayAdmin}`,
          auth_token: secretFile(this.path("gateway", "admin-token")),
        },
        app_id: GATEWAY_APP_ID,
        sync: { data_dir: this.path("gateway", "data") },
      },
    }, () => this.#answersTls(this.ports.gateway));
  }

  verifier(simulated: boolean): ServiceSpec {
    return this.#program("verifier", "functions/entries/verifier.node.ts", {
      address: "127.0.0.1",
      port: this.ports.verifier,
      image_cache_dir: this.path("verifier", "images"),
      attestation: this.#attestation(simulated),
    }, `http://127.0.0.1:${this.ports.verifier}/readyz`);
  }
}
