import { appInfoOf } from "#core/attestation/app-info.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { encodeAttestation, stripAttestation } from "#core/attestation/versioned-attestation.ts";
import { deriveAppCaKey } from "#core/crypto/app-keys.ts";
import { AppError } from "#core/errors/app-error.ts";
import { encodeAppInfo } from "#core/ra-tls/app-info.ts";
import { buildCertificate, defaultNotAfter } from "#core/ra-tls/certificate-builder.ts";
import { certificatePem } from "#core/ra-tls/certificate.ts";
import { SPECIAL_USAGE } from "#core/ra-tls/oids.ts";
import { appCaIssuer, buildAppCa } from "./certificates.ts";
import type { KmsIdentity } from "./key-store.ts";

/** A certificate of an app (kms.md 3.4, "App leaf"). */
export interface AppLeaf {
  /** 20 bytes. */
  readonly appId: Uint8Array;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  readonly organization?: string | undefined;
  readonly subject: string;
  readonly altNames: readonly string[];
  readonly serverAuth: boolean;
  readonly clientAuth: boolean;
  readonly appInfo?: Uint8Array | undefined;
  /** Stripped. */
  readonly attestation?: Uint8Array | undefined;
  /** Unix seconds. */
  readonly notBefore?: bigint | undefined;
  readonly notAfter?: bigint | undefined;
}

/** Signs under the app's own CA: PEM of leaf, app CA and root CA. */
export function issueAppCertificate(
  identity: Pick<KmsIdentity, "caKey" | "rootCaPem">,
  leaf: AppLeaf,
  now: Date,
): string[] {
  const appCaKey = deriveAppCaKey(identity.caKey, leaf.appId);
  const notBefore = leaf.notBefore === undefined ? undefined : dateOf(leaf.notBefore);
  const notAfter = leaf.notAfter === undefined ? defaultNotAfter(now) : dateOf(leaf.notAfter);
  if (notBefore !== undefined && notBefore >= notAfter) {
    throw new AppError("input/malformed", "Certificate validity ends before it begins");
  }
  const certificate = buildCertificate({
    subject: { organization: leaf.organization, commonName: leaf.subject },
    publicKey: leaf.publicKey,
    issuer: appCaIssuer(appCaKey),
    notBefore,
    notAfter,
    altNames: leaf.altNames,
    serverAuth: leaf.serverAuth,
    clientAuth: leaf.clientAuth,
    appId: leaf.appId,
    appInfo: leaf.appInfo,
    specialUsage: SPECIAL_USAGE.appCustom,
    attestation: leaf.attestation,
  });
  const appCa = buildAppCa(appCaKey, leaf.appId, identity.caKey, now);
  return [certificatePem(certificate), certificatePem(appCa), identity.rootCaPem];
}

/**
 * The app info extension: what the holder's evidence says of itself now. Its device id is the hash of
 * nothing, because nobody vouches for one here.
 */
export function appInfoExtension(attestation: Attestation): Uint8Array {
  return encodeAppInfo(appInfoOf(attestation));
}

/** The attestation extension. */
export function attestationExtension(attestation: Attestation): Uint8Array {
  return encodeAttestation(stripAttestation(attestation));
}

/** Beyond what a Date can hold it is invalid, which the builder refuses. */
function dateOf(seconds: bigint): Date {
  return new Date(Number(seconds) * 1000);
}
