import {
  encodeP256Spki,
  p256PublicPoint,
  parseP256Pkcs8,
  randomP256Scalar,
} from "#core/crypto/p256.ts";
import { decodeOnePem } from "#core/encoding/pem.ts";
import { AppError } from "#core/errors/app-error.ts";
import { buildCertificate, defaultNotAfter } from "#core/ra-tls/certificate-builder.ts";
import { certificatePem, parseCertificatePem } from "#core/ra-tls/certificate.ts";
import { type CsrConfig, encodeCsr, signCsr } from "#core/ra-tls/csr.ts";
import { SPECIAL_USAGE } from "#core/ra-tls/oids.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { type AppKeys, p256KeyPem } from "./boot/app-keys.ts";

const TIMEOUT_MS = 60_000;

export interface IssuerPorts {
  /** The stripped attestation over a public key (DER SPKI). */
  readonly attestPublicKey: (spki: Uint8Array) => Promise<Uint8Array>;
  /** A TLS client that trusts the app's KMS only. */
  readonly kmsFetch: (caPem: string) => FetchLike;
  /** App info as certificates carry it, for the local CA; MessagePack. */
  readonly appInfo: () => Promise<Uint8Array>;
  readonly now: () => Date;
  readonly vmConfig: string;
}

export interface IssuedCertificate {
  /** PKCS#8 PEM. */
  readonly keyPem: string;
  /** PEM, leaf first. */
  readonly chain: readonly string[];
}

/** Issues a certificate for a key (32-byte P-256 scalar; drawn when not given). */
export type IssueCertificate = (config: CsrConfig, key?: Uint8Array) => Promise<IssuedCertificate>;

/** The KMS signs for apps that got their keys from it; otherwise the app's own CA does. */
export function createIssuer(keys: AppKeys, ports: IssuerPorts): IssueCertificate {
  const { provider } = keys;
  return async (config, key = randomP256Scalar()) => {
    requireValidity(config);
    const publicKey = encodeP256Spki(p256PublicPoint(key));
    const keyPem = p256KeyPem(key);
    if (provider.kind === "kms") {
      const csr = encodeCsr(publicKey, config, await ports.attestPublicKey(publicKey));
      const kms = prpcClient(KMS, {
        baseUrl: provider.url,
        fetch: ports.kmsFetch(keys.caCertPem),
      });
      const answer = await kms.signCert({
        apiVersion: 2,
        csr,
        signature: signCsr(csr, key),
        vmConfig: ports.vmConfig,
      }, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      return { keyPem, chain: answer.certificateChain };
    }
    const ca = parseCertificatePem(keys.caCertPem);
    const leaf = buildCertificate({
      subject: { organization: config.organization, commonName: config.subject },
      publicKey,
      issuer: {
        name: ca.subject,
        key: parseP256Pkcs8(decodeOnePem("PRIVATE KEY", provider.keyPem)),
      },
      notBefore: dateOf(config.notBefore),
      notAfter: dateOf(config.notAfter) ?? defaultNotAfter(ports.now()),
      altNames: config.altNames,
      serverAuth: config.serverAuth,
      clientAuth: config.clientAuth,
      appInfo: config.includeAppInfo ? await ports.appInfo() : undefined,
      specialUsage: SPECIAL_USAGE.appCustom,
      attestation: config.includeAttestation ? await ports.attestPublicKey(publicKey) : undefined,
    });
    return { keyPem, chain: [certificatePem(leaf), keys.caCertPem] };
  };
}

function requireValidity({ notBefore, notAfter }: CsrConfig): void {
  if (notBefore !== undefined && notAfter !== undefined && notBefore >= notAfter) {
    throw new AppError("input/malformed", "not_before must be earlier than not_after");
  }
}

/** Unix seconds to a date; values past year 9999 are refused where the certificate is built. */
function dateOf(seconds: bigint | undefined): Date | undefined {
  return seconds === undefined ? undefined : new Date(Number(seconds) * 1000);
}
