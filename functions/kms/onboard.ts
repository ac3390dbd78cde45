import { equalBytes, toHex } from "#core/bytes/bytes.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { decodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { isK256Scalar, k256PublicKey } from "#core/crypto/k256.ts";
import { encodeP256Pkcs8, p256Spki, parseP256Pkcs8, randomP256Scalar } from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { readResponse } from "#core/http/response-body.ts";
import { buildCertificate } from "#core/ra-tls/certificate-builder.ts";
import {
  type Certificate,
  certificatePem,
  parseCertificate,
  parseCertificatePem,
  privateKeyPem,
} from "#core/ra-tls/certificate.ts";
import { verifyKmsChain } from "#core/ra-tls/chain.ts";
import { readEvidence } from "#core/ra-tls/claims.ts";
import { SPECIAL_USAGE } from "#core/ra-tls/oids.ts";
import { requirePeerEvidence } from "#core/ra-tls/peer.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { authorize } from "./authorize.ts";
import { type DecisionSubject, recorded } from "./decision-log.ts";
import { parseDomain } from "./domain.ts";
import { parseEpochs, type RootEpoch } from "./epochs.ts";
import {
  type BootstrapInfo,
  type KeyFiles,
  requireNoKeys,
  storeNewKeys,
  wipe,
} from "./key-store.ts";
import type { DecidingPorts, KmsPorts, SelfAttestation } from "./ports.ts";
import { decisionReason, denied } from "./reasons.ts";
import { attestationExtension } from "./sign-cert.ts";

/** TLS to a peer whose certificate `onPeerCertificate` alone judges, before any byte is sent. */
export type PeerFetch = (tls: {
  readonly certPem?: string;
  readonly keyPem?: string;
  readonly onPeerCertificate: (der: Uint8Array) => void | Promise<void>;
}) => FetchLike;

export interface OnboardingPorts extends DecidingPorts {
  readonly files: KeyFiles;
  readonly peerFetch: PeerFetch;
}

export interface OnboardRequest {
  readonly sourceUrl: string;
  readonly domain: string;
}

const MAX_URL_LENGTH = 2048;
const MAX_EPOCHS_BYTES = 1024 * 1024;
/** The client certificate is for this conversation only. */
const CLIENT_CERTIFICATE_MS = 3_600_000;

/**
 * Takes the root keys over from a running KMS (kms.md 5.3). Both sides are attested, and the key that
 * the source's evidence binds is the only one talked to: a certificate with any other key is refused
 * before the request leaves. What arrives must be the keys the source itself serves with. Resolves
 * with the 33-byte secp256k1 public key.
 */
export function onboardFrom(ports: OnboardingPorts, request: OnboardRequest): Promise<Uint8Array> {
  const call = { method: "Onboard", requestId: crypto.randomUUID() };
  return recorded(ports, call, async (subject) => {
    const domain = parseDomain(request.domain);
    const baseUrl = sourceBaseUrl(request.sourceUrl);
    await requireNoKeys(ports.files, "KMS has already been onboarded");
    const { self } = ports;
    if (self === undefined) {
      throw denied("self/unavailable", "No guest agent: only a KMS in a CVM can be onboarded");
    }
    const source = new Source(ports, subject, self);
    const { keys: roots, bootstrapInfo } = await source.takeRoots(baseUrl);
    const keys = { ...roots, rpcKey: randomP256Scalar() };
    try {
      const epochs = await source.takeEpochs(baseUrl);
      await storeNewKeys(ports.files, { keys, domain, bootstrapInfo, epochs });
      const root = toHex(p256Spki(keys.caKey)).slice(-16);
      subject.note = `root keys taken over for ${domain}, CA ${root}`;
      return k256PublicKey(keys.k256Key);
    } finally {
      wipe(keys);
    }
  });
}

/** Takes over the epochs of the root keys that another KMS with the same roots made meanwhile. */
export function fetchEpochs(
  ports: DecidingPorts & Pick<KmsPorts, "identity" | "epochs"> & Pick<OnboardingPorts, "peerFetch">,
  sourceUrl: string,
): Promise<void> {
  const call = { method: "FetchEpochs", requestId: crypto.randomUUID() };
  return recorded(ports, call, async (subject) => {
    const baseUrl = sourceBaseUrl(sourceUrl);
    const { self } = ports;
    if (self === undefined) {
      throw denied("self/unavailable", "No guest agent: only a KMS in a CVM is given root keys");
    }
    const source = new Source(ports, subject, self);
    const root = await source.connect(baseUrl);
    if (!equalBytes(root.publicKey, ports.identity.rootCa.publicKey)) {
      throw denied("certificate-untrusted", "The source has other root keys than this KMS");
    }
    await ports.epochs.adopt(await source.takeEpochs(baseUrl), subject);
  });
}

/** The pRPC base of a URL given with or without its `/prpc`. */
function sourceBaseUrl(text: string): string {
  let url: URL | undefined;
  if (text.length <= MAX_URL_LENGTH && URL.canParse(text)) url = new URL(text);
  if (url?.protocol !== "https:" || url.username !== "" || url.password !== "") {
    throw new AppError("input/malformed", "Invalid source_url: expected an https URL");
  }
  const trimmed = text.replace(/\/+$/, "");
  return trimmed.endsWith("/prpc") ? trimmed : `${trimmed}/prpc`;
}

interface ReceivedKeys {
  readonly keys: {
    readonly caKey: Uint8Array;
    readonly k256Key: Uint8Array;
    readonly tempCaKey: Uint8Array;
  };
  readonly bootstrapInfo: BootstrapInfo | undefined;
}

type SourcePorts = DecidingPorts & Pick<OnboardingPorts, "peerFetch">;

/** The conversation with one source. */
class Source {
  readonly #ports: SourcePorts;
  readonly #subject: DecisionSubject;
  readonly #self: SelfAttestation;
  #certificate: Certificate | undefined;
  #tempCa: Certificate | undefined;
  #fetch: FetchLike | undefined;

  constructor(ports: SourcePorts, subject: DecisionSubject, self: SelfAttestation) {
    this.#ports = ports;
    this.#subject = subject;
    this.#self = self;
  }

  /** Attests both sides; resolves with the source's root certificate. */
  async connect(baseUrl: string): Promise<Certificate> {
    const onPeerCertificate = (der: Uint8Array) => this.#judge(parseCertificate(der));
    const stranger = this.#ports.peerFetch({ onPeerCertificate });
    const temporary = await prpcClient(KMS, { baseUrl, fetch: stranger }).getTempCaCert();
    const root = parseCertificatePem(temporary.caCert);
    const { specialUsage } = verifyKmsChain([this.#certificate!], root, this.#ports.now());
    if (specialUsage !== SPECIAL_USAGE.kmsRpc) {
      throw denied("certificate-untrusted", "The source's certificate is not that of a KMS");
    }
    const identity = await this.#clientIdentity(temporary.tempCaCert, temporary.tempCaKey);
    this.#fetch = this.#ports.peerFetch({ ...identity, onPeerCertificate });
    this.#tempCa = parseCertificatePem(temporary.tempCaCert);
    return root;
  }

  async takeRoots(baseUrl: string): Promise<ReceivedKeys> {
    const root = await this.connect(baseUrl);
    const fetch = this.#fetch!;
    const client = prpcClient(KMS, { baseUrl, fetch });
    const meta = await client.getMeta();
    const answer = await client.getKmsKey({ vmConfig: await this.#self.vmConfig() });
    const [only] = answer.keys;
    if (only === undefined || answer.keys.length !== 1) {
      throw new AppError("upstream/invalid", "Invalid keys");
    }
    const keys = {
      caKey: privateKey(only.caKey),
      k256Key: only.k256Key,
      tempCaKey: privateKey(answer.tempCaKey),
    };
    requireServed(keys.caKey, root.publicKey);
    requireServed(keys.tempCaKey, this.#tempCa!.publicKey);
    if (!isK256Scalar(keys.k256Key)) throw new AppError("upstream/invalid", "Invalid keys");
    const k256Public = k256PublicKey(keys.k256Key);
    if (!equalBytes(k256Public, meta.k256Pubkey)) throw otherKeys();
    const info = meta.bootstrapInfo;
    const published = info !== undefined && equalBytes(info.caPubkey, root.publicKey) &&
      equalBytes(info.k256Pubkey, k256Public);
    return {
      keys,
      bootstrapInfo: published
        ? {
          caPublicKey: info.caPubkey,
          k256PublicKey: info.k256Pubkey,
          attestation: info.attestation,
        }
        : undefined,
    };
  }

  /** After `connect`. The reference's KMS knows no epochs: none, then. */
  async takeEpochs(baseUrl: string): Promise<RootEpoch[]> {
    const response = await this.#fetch!(`${baseUrl.slice(0, -"/prpc".length)}/v1/kms-keys`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ vm_config: await this.#self.vmConfig() }),
    });
    const answer = await readResponse(response, MAX_EPOCHS_BYTES, "the source");
    if (response.status === 404) return [];
    if (response.status === 200) return parseEpochs(answer);
    throw new AppError("upstream/refused", `The source answered HTTP ${response.status}`);
  }

  /** The first certificate must prove a KMS this one's own auth API allows; later ones have its key. */
  async #judge(certificate: Certificate): Promise<void> {
    if (this.#certificate !== undefined) {
      if (equalBytes(certificate.publicKey, this.#certificate.publicKey)) return;
      throw denied("certificate-untrusted", "The source changed its key while it was asked");
    }
    try {
      const evidence = requirePeerEvidence(certificate);
      const vmConfig = readEvidence(certificate)?.form === "legacy"
        ? await this.#self.vmConfig() // old certificates do not name their image
        : "";
      const request = { ...evidence, vmConfig, role: "kms", scope: "runtime" } as const;
      await authorize(this.#ports, request, this.#subject);
    } catch (cause) {
      if (!(cause instanceof AppError)) throw cause;
      const message = "Failed to onboard: Source KMS is not allowed for onboarding";
      throw denied(decisionReason(cause), message, cause);
    }
    this.#certificate = certificate;
  }

  /** A certificate under the source's temporary CA whose evidence binds its fresh key. */
  async #clientIdentity(
    tempCaPem: string,
    tempCaKeyPem: string,
  ): Promise<{ certPem: string; keyPem: string }> {
    const key = randomP256Scalar();
    const publicKey = p256Spki(key);
    const attestation = await this.#self.attest(ratlsReportData(publicKey));
    const certificate = buildCertificate({
      subject: { commonName: "RA-TLS TEMP Cert" },
      publicKey,
      issuer: { name: parseCertificatePem(tempCaPem).subject, key: privateKey(tempCaKeyPem) },
      notAfter: new Date(this.#ports.now().getTime() + CLIENT_CERTIFICATE_MS),
      attestation: attestationExtension(decodeAttestation(attestation)),
    });
    return {
      certPem: certificatePem(certificate),
      keyPem: privateKeyPem(encodeP256Pkcs8(key)),
    };
  }
}

function privateKey(pem: string): Uint8Array {
  return parseP256Pkcs8(decodeOnePem("PRIVATE KEY", pem));
}

function requireServed(key: Uint8Array, publicKey: Uint8Array): void {
  if (!equalBytes(p256Spki(key), publicKey)) throw otherKeys();
}

function otherKeys(): AppError {
  return new AppError("upstream/invalid", "The source sent other keys than it serves with");
}
