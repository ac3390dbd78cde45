import { appInfoOf } from "#core/attestation/app-info.ts";
import { encodeAppInfo } from "#core/ra-tls/app-info.ts";
import type { AppKeys } from "../boot/app-keys.ts";
import { kmsFetch, type KmsTrust } from "../boot/kms-client.ts";
import { createIssuer, type IssueCertificate } from "../certificate-issuer.ts";
import { attest, attestPublicKey } from "../tee/attest.ts";
import type { Tee } from "../tee/tee.ts";

/** The issuer of this guest's certificates, over its own TEE. */
export function issuerOf(
  keys: AppKeys,
  tee: Tee,
  vmConfig: string,
  trust: KmsTrust,
): IssueCertificate {
  return createIssuer(keys, {
    attestPublicKey: (spki) => attestPublicKey(tee, spki, vmConfig),
    kmsFetch: (caPem) => kmsFetch({ caPem }, trust),
    appInfo: async () => encodeAppInfo(appInfoOf(await attest(tee, new Uint8Array(64), vmConfig))),
    now: () => new Date(),
    vmConfig,
  });
}
