import type { BoundEvidence } from "#core/ra-tls/peer.ts";
import { peerEvidence } from "#core/ra-tls/peer.ts";
import { p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { buildCertificate, defaultNotAfter } from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, parseCertificate, parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { readIssuerClaims } from "#core/ra-tls/claims.ts";
import { SPECIAL_USAGE } from "#core/ra-tls/oids.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import type { Sleep } from "../ports.ts";
import { type AppKeys, p256KeyPem } from "./app-keys.ts";

const REQUEST_TIMEOUT_MS = 60_000;
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 15_000;

/** Codes of a KMS that cannot decide now; any other refusal is its decision. */
const TRANSIENT_REMOTE_CODES: ReadonlySet<unknown> = new Set([
  "kms/not-ready",
  "upstream/unavailable",
  "upstream/invalid",
  "resource/exhausted",
  "internal",
]);

/** As makeTlsFetch of adapters/tls-fetch.ts. */
export type MakeTlsFetch = (options: {
  readonly caPem?: string;
  readonly certPem?: string;
  readonly keyPem?: string;
  readonly verify: "ca" | "none";
  readonly checkHostname: boolean;
  /** Throwing refuses the connection. */
  readonly onPeerCertificate?: (der: Uint8Array) => void | Promise<void>;
}) => FetchLike;

/** How a guest tells whom it talks to. */
export interface KmsTrust {
  readonly makeTlsFetch: MakeTlsFetch;
  /** Appraises what a KMS presents; throws when it is not acceptable. */
  readonly verifyKmsEvidence: (evidence: BoundEvidence) => Promise<void>;
}

export interface KmsPorts extends KmsTrust {
  /** The stripped attestation over a public key (DER SPKI). */
  readonly attestPublicKey: (spki: Uint8Array) => Promise<Uint8Array>;
  readonly now: () => Date;
  readonly sleep: Sleep;
}

export interface KmsAnswer {
  readonly keys: AppKeys;
  /** The image the KMS saw; 32 bytes, or empty from a KMS that does not say. */
  readonly osImageHash: Uint8Array;
}

export interface KmsRequest {
  readonly urls: readonly string[];
  /** The host's vm_config text, forwarded untouched. */
  readonly vmConfig: string;
}

/** What happens while no KMS answers; told to the host. */
export interface KmsWaiting {
  unavailable(error: AppError, retryInMs: number): void;
  recovered(): void;
}

/**
 * Gets the app's keys (spec/os.md 3.6). The URLs come from the host and may lie: the pin of the
 * provider id, or whoever reads the `key-provider` event, catches that. While nobody answers it keeps
 * trying; a refusal is final. Throws `guest/kms-refused`, `guest/kms-untrusted`, `config/invalid`.
 */
export async function requestAppKeys(
  request: KmsRequest,
  ports: KmsPorts,
  waiting: KmsWaiting,
): Promise<KmsAnswer> {
  checkKmsUrls(request.urls);
  for (let attempt = 0;; attempt++) {
    let final: AppError | undefined;
    let transient: AppError | undefined;
    for (const url of request.urls) {
      try {
        const answer = await requestFrom(url, request.vmConfig, ports);
        if (attempt > 0) waiting.recovered();
        return answer;
      } catch (error) {
        const failure = classify(url, error);
        if (failure.code === "guest/kms-unavailable") transient ??= failure;
        else final ??= failure;
      }
    }
    if (final !== undefined) throw final;
    const retryInMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
    waiting.unavailable(transient!, retryInMs);
    await ports.sleep(retryInMs);
  }
}

/** A URL that nobody can ask would look like a KMS that is down, and be waited for. Throws `config/invalid`. */
export function checkKmsUrls(urls: readonly string[]): void {
  if (urls.length === 0) throw new AppError("config/invalid", "No KMS URLs are set");
  for (const url of urls) {
    if (!URL.canParse(url) || new URL(url).protocol !== "https:") {
      throw new AppError("config/invalid", "A KMS URL is not an https URL");
    }
  }
}

/** `<url>/prpc`, once. */
export function prpcBase(url: string): string {
  const trimmed = url.replace(/\/+$/, "");
  return trimmed.endsWith("/prpc") ? trimmed : `${trimmed}/prpc`;
}

/** A TLS client that talks to a KMS under `caPem` only. */
export function kmsFetch(
  tls: { readonly caPem: string; readonly certPem?: string; readonly keyPem?: string },
  trust: KmsTrust,
): FetchLike {
  return trust.makeTlsFetch({
    ...tls,
    verify: "ca",
    checkHostname: true,
    async onPeerCertificate(der) {
      try {
        await judgeKms(der, trust);
      } catch (cause) {
        if (cause instanceof AppError && cause.code === "guest/kms-untrusted") throw cause;
        throw new AppError("guest/kms-untrusted", "The server's certificate is refused", { cause });
      }
    },
  });
}

async function judgeKms(der: Uint8Array, trust: KmsTrust): Promise<void> {
  const certificate = parseCertificate(der);
  const { specialUsage } = readIssuerClaims(certificate);
  if (specialUsage !== SPECIAL_USAGE.kmsRpc) {
    throw new AppError(
      "guest/kms-untrusted",
      `The server's certificate is for ${specialUsage ?? "nothing"}, not ${SPECIAL_USAGE.kmsRpc}`,
    );
  }
  const evidence = peerEvidence(certificate);
  if (evidence !== undefined) await trust.verifyKmsEvidence(evidence);
}

async function requestFrom(url: string, vmConfig: string, ports: KmsPorts): Promise<KmsAnswer> {
  const baseUrl = prpcBase(url);
  // Nothing is known about the server yet; what it says here is bound by the pin or the events.
  const unverified = ports.makeTlsFetch({ verify: "none", checkHostname: false });
  const temporary = await prpcClient(KMS, { baseUrl, fetch: unverified })
    .getTempCaCert({}, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  const root = parseCertificatePem(temporary.caCert);

  const clientKey = randomP256Scalar();
  const certPem = await clientCertificate(clientKey, temporary, ports);
  const fetch = kmsFetch(
    { caPem: temporary.caCert, certPem, keyPem: p256KeyPem(clientKey) },
    ports,
  );
  const answer = await prpcClient(KMS, { baseUrl, fetch })
    .getAppKey({ apiVersion: 1, vmConfig }, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  if (answer.diskCryptKey.length !== 32 || answer.k256Key.length !== 32) {
    throw new AppError("upstream/invalid", "The KMS answered keys of a wrong length");
  }
  return {
    osImageHash: answer.osImageHash,
    keys: {
      diskCryptKey: answer.diskCryptKey,
      envCryptKey: answer.envCryptKey,
      k256Key: answer.k256Key,
      k256Signature: answer.k256Signature,
      gatewayAppId: answer.gatewayAppId || answer.tproxyAppId,
      caCertPem: temporary.caCert,
      provider: {
        kind: "kms",
        url: baseUrl,
        publicKey: root.publicKey,
        temporaryCaKeyPem: temporary.tempCaKey,
        temporaryCaCertPem: temporary.tempCaCert,
      },
    },
  };
}

/** The RA-TLS certificate a KMS wants from its callers: its value is the attestation, not the CA. */
async function clientCertificate(
  key: Uint8Array,
  temporary: { readonly tempCaCert: string; readonly tempCaKey: string },
  ports: KmsPorts,
): Promise<string> {
  const publicKey = p256Spki(key);
  const ca = parseCertificatePem(temporary.tempCaCert);
  return certificatePem(buildCertificate({
    subject: { commonName: "RA-TLS TEMP Cert" },
    publicKey,
    issuer: {
      name: ca.subject,
      key: parseP256Pkcs8(decodeOnePem("PRIVATE KEY", temporary.tempCaKey)),
    },
    notAfter: defaultNotAfter(ports.now()),
    attestation: await ports.attestPublicKey(publicKey),
  }));
}

/** Sorts a failure into: try again, refused, not to be trusted, or our own. */
function classify(url: string, error: unknown): AppError {
  const at = `KMS at ${url}`;
  if (error instanceof AppError) {
    if (error.code === "upstream/refused") {
      return TRANSIENT_REMOTE_CODES.has(error.fields["remoteCode"])
        ? new AppError("guest/kms-unavailable", `${at} cannot decide now`, { cause: error })
        : new AppError("guest/kms-refused", `${at} refused`, {
          cause: error,
          fields: { reason: error.fields["remoteReason"] ?? error.fields["remoteCode"] },
        });
    }
    if (
      error.code === "guest/kms-untrusted" || error.code === "upstream/untrusted" ||
      error.code.startsWith("attestation/") ||
      error.code.startsWith("certificate/")
    ) {
      return new AppError("guest/kms-untrusted", `${at} is not trusted`, { cause: error });
    }
    if (error.code.startsWith("guest/")) throw error;
  }
  return new AppError("guest/kms-unavailable", `${at} does not answer`, { cause: error });
}
