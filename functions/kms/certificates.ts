import { p256Spki } from "#core/crypto/p256.ts";
import {
  buildCertificate,
  defaultNotAfter,
  encodeName,
  type Issuer,
  selfIssuer,
} from "#core/ra-tls/certificate-builder.ts";
import { SPECIAL_USAGE } from "#core/ra-tls/oids.ts";

/** The KMS's own certificates (kms.md 3.4); all return DER. Keys are 32-byte P-256 scalars. */

const ROOT_CA = { organization: "Dstack", commonName: "Dstack KMS CA" };
const TEMP_CA = { organization: "Dstack", commonName: "Dstack Client Temp CA" };
const APP_CA = { organization: "Dstack", commonName: "Dstack App CA" };

export function rootIssuer(caKey: Uint8Array): Issuer {
  return selfIssuer(ROOT_CA, caKey);
}

export function appCaIssuer(appCaKey: Uint8Array): Issuer {
  return { name: encodeName(APP_CA), key: appCaKey };
}

export function buildRootCa(caKey: Uint8Array, now: Date): Uint8Array {
  return buildCertificate({
    subject: ROOT_CA,
    publicKey: p256Spki(caKey),
    issuer: rootIssuer(caKey),
    notAfter: defaultNotAfter(now),
    ca: { pathLength: 1 },
  });
}

/** The CA of callers' RA-TLS certificates. Its key is handed to anyone: it proves nothing. */
export function buildTempCa(tempCaKey: Uint8Array, now: Date): Uint8Array {
  return buildCertificate({
    subject: TEMP_CA,
    publicKey: p256Spki(tempCaKey),
    issuer: selfIssuer(TEMP_CA, tempCaKey),
    notAfter: defaultNotAfter(now),
    ca: { pathLength: 0 },
  });
}

/** The CA of one app's certificates. `appId`: 20 bytes. */
export function buildAppCa(
  appCaKey: Uint8Array,
  appId: Uint8Array,
  caKey: Uint8Array,
  now: Date,
): Uint8Array {
  return buildCertificate({
    subject: APP_CA,
    publicKey: p256Spki(appCaKey),
    issuer: rootIssuer(caKey),
    notAfter: defaultNotAfter(now),
    ca: { pathLength: 0 },
    appId,
    specialUsage: SPECIAL_USAGE.appCa,
  });
}

/** The server certificate; guests check `domain` (a name or an IP literal) and the usage. */
export function buildRpcCertificate(
  rpcKey: Uint8Array,
  domain: string,
  caKey: Uint8Array,
  now: Date,
  attestation?: Uint8Array,
): Uint8Array {
  return buildCertificate({
    subject: { commonName: domain },
    publicKey: p256Spki(rpcKey),
    issuer: rootIssuer(caKey),
    notAfter: defaultNotAfter(now),
    altNames: [domain],
    specialUsage: SPECIAL_USAGE.kmsRpc,
    attestation,
  });
}
