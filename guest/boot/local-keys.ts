import { deriveSeededKeys } from "#core/crypto/app-keys.ts";
import { p256Spki } from "#core/crypto/p256.ts";
import { buildCertificate, defaultNotAfter, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { certificatePem } from "#core/ra-tls/certificate.ts";
import { type AppKeys, p256KeyPem } from "./app-keys.ts";

const SUBJECT = { commonName: "App Root Cert" };

/**
 * The keys of an app without a key provider: from a 32-byte seed drawn at each boot, so that nothing
 * on its disk can be read after the next one.
 */
export async function seededAppKeys(
  seed: Uint8Array,
  ports: {
    readonly attestPublicKey: (spki: Uint8Array) => Promise<Uint8Array>;
    readonly now: () => Date;
  },
  /** How many CAs its CA allows below itself. */
  caLevel = 1,
): Promise<AppKeys> {
  const { appKey, diskCryptKey, k256Key } = deriveSeededKeys(seed);
  const publicKey = p256Spki(appKey);
  const certificate = buildCertificate({
    subject: SUBJECT,
    publicKey,
    issuer: selfIssuer(SUBJECT, appKey),
    notAfter: defaultNotAfter(ports.now()),
    ca: { pathLength: caLevel },
    attestation: await ports.attestPublicKey(publicKey),
  });
  return {
    diskCryptKey,
    envCryptKey: new Uint8Array(),
    k256Key,
    k256Signature: new Uint8Array(),
    gatewayAppId: "",
    caCertPem: certificatePem(certificate),
    provider: { kind: "none", keyPem: p256KeyPem(appKey) },
  };
}
