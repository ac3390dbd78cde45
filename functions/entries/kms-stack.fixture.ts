import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { stringify } from "smol-toml";
import { serveHttp } from "#adapters/http-server.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { encodeAttestation, stripAttestation } from "#core/attestation/versioned-attestation.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { noMetrics } from "#core/http/metrics.ts";
import { buildCertificate } from "#core/ra-tls/certificate-builder.ts";
import {
  type Certificate,
  certificatePem,
  parseCertificate,
  parseCertificatePem,
  privateKeyPem,
} from "#core/ra-tls/certificate.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { createAuthApp } from "#functions/auth/app.ts";
import { simpleBackend } from "#functions/auth/simple-backend.ts";
import type { KmsDecision } from "#functions/db/kms-decisions.ts";
import { kmsConfigSchema } from "#functions/kms/config.ts";
import { simulatedCvm, type SimulatedCvmSpec } from "../../tests/simulated-cvm.ts";
import { type KmsService, startKms } from "./kms-service.ts";

/**
 * Everything around a KMS on loopback: the auth service over a file, a PCCS of the simulated platform,
 * and what the KMS wrote to its log.
 */
export async function startSurroundings() {
  const directory = await mkdtemp(join(tmpdir(), "kms-service-"));
  const allowlist = join(directory, "allowlist.json");
  const { platform } = simulatedCvm();
  await writeFile(join(directory, "root.pem"), platform.rootCertificatePem);
  const decisions: KmsDecision[] = [];
  const errors: unknown[] = [];
  const lines: { message: string; facts: Record<string, unknown> }[] = [];
  const pccsRequests: string[] = [];
  const pccs = await serveHttp((request) => {
    const { pathname, search } = new URL(request.url);
    pccsRequests.push(pathname);
    const reply = platform.pccs(pathname, search.slice(1), new Date());
    if (reply === undefined) return new Response(null, { status: 404 });
    return new Response(reply.body.slice(), { status: reply.status, headers: reply.headers });
  }, { host: "127.0.0.1", port: 0 });
  const authApp = createAuthApp({
    backend: simpleBackend({
      now: () => new Date(),
      read: async () => ({ allowlist: await readFile(allowlist), signature: undefined }),
      signers: [],
    }),
    logDecision: () => {},
    logError: () => {},
    metrics: noMetrics,
    version: { version: "0.1.0", rev: "unknown" },
  });
  const auth = await serveHttp(authApp.fetch, { host: "127.0.0.1", port: 0 });

  const configOf = (changes: Record<string, unknown>, port = 0) => ({
    rpc: { address: "127.0.0.1", port },
    core: {
      cert_dir: join(directory, "certs"),
      database: join(directory, "kms.db"),
      enforce_self_authorization: false,
      attest_rpc_cert: false,
      attestation: {
        insecure_allow_external_trust_anchors: true,
        root_ca: { tdx: join(directory, "root.pem") },
        urls: { pccs: `http://127.0.0.1:${pccs.port}` },
      },
      auth_api: { webhook: { url: `http://127.0.0.1:${auth.port}`, timeout: "2s" } },
      admin: { enabled: true, address: "127.0.0.1", port: 0, auth_token: "operator" },
      onboard: { auto_bootstrap_domain: "127.0.0.1" },
      ...changes,
    },
  });

  /** `changes` are members of `core`. By default the KMS is a process outside any CVM. */
  const start = (
    changes: Record<string, unknown> = {},
    agentSockets: readonly string[] = [],
  ): Promise<KmsService> =>
    startKms(
      kmsConfigSchema.parse(configOf(changes)),
      {
        version: { version: "0.1.0", rev: "unknown" },
        metrics: noMetrics,
        agentSockets,
        log: {
          decision: (row) => decisions.push(row),
          error: (_, error) => errors.push(error),
          info: (message, facts) => lines.push({ message, facts: { ...facts } }),
        },
      },
    );

  return {
    directory,
    decisions,
    errors,
    lines,
    pccsRequests,
    start,
    /** As `start`, in a process of its own that a test may kill; resolves when it serves on `port`. */
    spawn: async (port: number, changes: Record<string, unknown> = {}): Promise<KmsProcess> => {
      const file = join(directory, `kms-${port}-${randomUUID()}.toml`);
      await writeFile(file, stringify(configOf(changes, port)));
      return await spawnKms(port, file);
    },
    allow: (document: object) => writeFile(allowlist, JSON.stringify(document)),
    close: async () => {
      await Promise.all([pccs.close(), auth.close()]);
      await rm(directory, { recursive: true });
    },
  };
}

export interface KmsProcess {
  readonly port: number;
  readonly pid: number;
  /** Ends it at once and waits until it is gone. */
  kill(signal?: "SIGKILL" | "SIGTERM"): Promise<void>;
}

async function spawnKms(port: number, configFile: string): Promise<KmsProcess> {
  const isDeno = "Deno" in globalThis;
  const name = isDeno ? "./kms.deno.ts" : "./kms.node.ts";
  const entry = fileURLToPath(new URL(name, import.meta.url));
  const runtime = isDeno ? ["run", "--allow-all", "--no-check"] : [];
  const child = spawn(process.execPath, [...runtime, entry, "--config", configFile], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let output = "";
  const serving = new Promise<void>((resolve, reject) => {
    const read = (chunk: Uint8Array) => {
      output = (output + new TextDecoder().decode(chunk)).slice(-4096);
      if (output.includes("KMS is serving")) resolve();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("exit", () => reject(new Error(`The KMS ended: ${output}`)));
  });
  await serving;
  return {
    port,
    pid: child.pid!,
    kill: async (signal = "SIGKILL") => {
      child.kill(signal);
      await ended;
    },
  };
}

type Serving = Pick<KmsService, "port">;

export const baseUrl = (service: Serving) => `https://127.0.0.1:${service.port}/prpc`;

/** A client that knows nobody yet and shows nothing of itself. */
export function stranger(service: Serving) {
  const fetch = makeTlsFetch({ verify: "none", checkHostname: false });
  return prpcClient(KMS, { baseUrl: baseUrl(service), fetch });
}

export interface GuestOptions {
  readonly spec?: SimulatedCvmSpec;
  /** What a host may do to the evidence of a CVM bound to the client's key. */
  readonly tamper?: (attestation: Attestation) => Attestation;
  /** No evidence at all. */
  readonly bare?: boolean;
  /** Sees the certificate of the KMS. */
  readonly onServer?: (certificate: Certificate) => void;
}

/** A guest that asks with evidence in its client certificate, as the reference's do. */
export async function guest(service: Serving, options: GuestOptions = {}) {
  return prpcClient(KMS, { baseUrl: baseUrl(service), fetch: await guestFetch(service, options) });
}

/** The TLS of `guest`. */
export async function guestFetch(
  service: Serving,
  options: GuestOptions = {},
): Promise<FetchLike> {
  const { spec, tamper = (attestation) => attestation, bare, onServer } = options;
  const { tempCaCert, tempCaKey, caCert } = await stranger(service).getTempCaCert();
  const key = randomP256Scalar();
  const publicKey = p256Spki(key);
  const made = simulatedCvm({ stage: "boot", reportData: ratlsReportData(publicKey), ...spec });
  const certificate = buildCertificate({
    subject: { commonName: "RA-TLS TEMP Cert" },
    publicKey,
    issuer: {
      name: parseCertificatePem(tempCaCert).subject,
      key: parseP256Pkcs8(decodeOnePem("PRIVATE KEY", tempCaKey)),
    },
    notAfter: new Date(Date.now() + 3_600_000),
    attestation: bare ? undefined : encodeAttestation(stripAttestation(tamper(made.attestation))),
  });
  const root = parseCertificatePem(caCert);
  return makeTlsFetch({
    verify: "ca",
    checkHostname: true,
    caPem: caCert,
    certPem: certificatePem(certificate),
    keyPem: privateKeyPem(encodeP256Pkcs8(key)),
    onPeerCertificate: (der) => {
      const server = parseCertificate(der);
      if (verifyKmsChain([server], root, new Date()).specialUsage !== "kms:rpc") {
        throw new AppError("certificate/untrusted", "Not the certificate of a KMS");
      }
      onServer?.(server);
    },
  });
}

/** What a refused call says. Throws when the call succeeds. */
export async function refusal(
  call: Promise<unknown>,
): Promise<{ reason: unknown; message: string }> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { reason: error.fields["remoteReason"], message: error.message };
  }
  throw new TypeError("The call was not refused");
}
