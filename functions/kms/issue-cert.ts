import { toHex } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8, p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { encodeAppInfo } from "#core/ra-tls/app-info.ts";
import { privateKeyPem } from "#core/ra-tls/certificate.ts";
import { recorded } from "./decision-log.ts";
import type { KmsIdentity } from "./key-store.ts";
import type { DecidingPorts } from "./ports.ts";
import { issueAppCertificate } from "./sign-cert.ts";

export interface IssueCertRequest {
  /** 20 bytes. */
  readonly appId: Uint8Array;
  readonly subject: string;
  readonly altNames: readonly string[];
}

export interface IssuedCert {
  readonly keyPem: string;
  /** Leaf and app CA. */
  readonly certPem: string;
  readonly rootCaPem: string;
}

/** What stands in the decision log, for such a certificate proves nothing about what holds it. */
export const ISSUED_BY_HAND = "issued by the operator to a process outside any CVM, no evidence";

/**
 * Makes a key and a server and client certificate that names an app, for a process that runs outside a
 * CVM: the operator of this KMS vouches for it, no TEE does. Its app info holds the app id alone.
 */
export function issueCertByHand(
  ports: Pick<DecidingPorts, "now" | "decisions" | "log">,
  identity: Pick<KmsIdentity, "caKey" | "rootCaPem">,
  { appId, subject, altNames }: IssueCertRequest,
): Promise<IssuedCert> {
  const request = { method: "IssueCert", requestId: crypto.randomUUID() };
  return recorded(ports, request, (decision) => {
    decision.appId = toHex(appId);
    decision.note = `${ISSUED_BY_HAND}: ${subject}`;
    const key = randomP256Scalar();
    const none = new Uint8Array();
    const appInfo = encodeAppInfo({
      appId,
      composeHash: none,
      instanceId: none,
      deviceId: none,
      mrSystem: none,
      mrAggregated: none,
      osImageHash: none,
      keyProviderInfo: none,
    });
    const publicKey = p256Spki(key);
    const usage = { serverAuth: true, clientAuth: true };
    const leaf = { appId, publicKey, subject, altNames, ...usage, appInfo };
    const [leafPem, appCaPem, rootCaPem] = issueAppCertificate(identity, leaf, ports.now());
    return Promise.resolve({
      keyPem: privateKeyPem(encodeP256Pkcs8(key)),
      certPem: `${leafPem}${appCaPem}`,
      rootCaPem: rootCaPem!,
    });
  });
}
