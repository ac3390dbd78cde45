import type { Hono } from "hono";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { deriveEnvKey, x25519PublicKey } from "#core/crypto/app-keys.ts";
import { k256PublicKey, signK256 } from "#core/crypto/k256.ts";
import { envPublicKeyMessage } from "#core/crypto/kms-signatures.ts";
import { encodeP256Pkcs8 } from "#core/crypto/p256.ts";
import { AppError } from "#core/errors/app-error.ts";
import { privateKeyPem } from "#core/ra-tls/certificate.ts";
import { verifyCsr } from "#core/ra-tls/csr.ts";
import { bindEvidence } from "#core/ra-tls/peer.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { type PrpcHandlers, prpcRoutes } from "#core/rpc/server.ts";
import { releaseAppKeys } from "./app-keys.ts";
import { authorize, requireKeyRelease } from "./authorize.ts";
import { asQuote, type Caller, type KmsEnv, tlsCaller } from "./caller.ts";
import { recorded } from "./decision-log.ts";
import type { KmsPorts } from "./ports.ts";
import { SelfAuthorization } from "./self.ts";
import { appInfoExtension, attestationExtension, issueAppCertificate } from "./sign-cert.ts";

/** Calls that stand for attestation in the reference's metrics. */
const ATTESTED_METHODS: ReadonlySet<string> = new Set(["GetAppKey", "GetKmsKey", "SignCert"]);

/** `/prpc` of a KMS that holds keys (kms.md 2.1). */
export function kmsRoutes(ports: KmsPorts): Hono<KmsEnv> {
  const requests = ports.metrics.counter({
    name: "dstack_kms_attestation_requests_total",
    help: "Calls of GetAppKey, GetKmsKey and SignCert",
  });
  const failures = ports.metrics.counter({
    name: "dstack_kms_attestation_failures_total",
    help: "Calls of GetAppKey, GetKmsKey and SignCert that were refused or failed",
  });
  return prpcRoutes<typeof KMS, Caller, KmsEnv>(KMS, kmsHandlers(ports), {
    trim: "KMS.",
    context: (c) => tlsCaller(c.env),
    observe: ({ method, error }) => {
      if (!ATTESTED_METHODS.has(method)) return;
      requests.add();
      if (error !== undefined) failures.add();
    },
  });
}

function kmsHandlers(ports: KmsPorts): PrpcHandlers<typeof KMS, Caller> {
  const { identity } = ports;
  const self = new SelfAuthorization(ports);

  return {
    getAppKey: async ({ apiVersion, vmConfig }, caller) => {
      if (apiVersion > 1) throw unsupportedVersion(apiVersion);
      const request = { method: "GetAppKey", vmConfig };
      const { app, epochs } = await releaseAppKeys(ports, self, caller, request);
      const keys = epochs[0]!; // this call's clients know one epoch: that of what they have
      return {
        caCert: identity.rootCaPem,
        diskCryptKey: keys.diskCryptKey,
        envCryptKey: keys.envCryptKey,
        k256Key: keys.k256Key,
        k256Signature: keys.k256Signature,
        tproxyAppId: app.gatewayAppId,
        gatewayAppId: app.gatewayAppId,
        osImageHash: fromHex(app.boot.osImageHash),
      };
    },

    getKmsKey: ({ vmConfig }, caller) =>
      recorded(ports, { method: "GetKmsKey", requestId: caller.requestId }, async (subject) => {
        await self.ensureAllowed();
        const evidence = caller.evidence();
        const request = { ...evidence, vmConfig, role: "kms", scope: "runtime" } as const;
        await authorize(ports, request, subject);
        return {
          tempCaKey: privateKeyPem(encodeP256Pkcs8(identity.tempCaKey)),
          keys: [{
            caKey: privateKeyPem(encodeP256Pkcs8(identity.caKey)),
            k256Key: identity.k256Key,
          }],
        };
      }),

    getAppEnvEncryptPubKey: async ({ appId }) => {
      await self.ensureAllowed();
      const publicKey = x25519PublicKey(deriveEnvKey(identity.caKey, appId));
      const timestamp = BigInt(Math.floor(ports.now().getTime() / 1000));
      const sign = (message: Uint8Array) => signK256(identity.k256Key, message);
      return {
        publicKey,
        signature: sign(envPublicKeyMessage(appId, publicKey)),
        timestamp,
        signatureV1: sign(envPublicKeyMessage(appId, publicKey, timestamp)),
      };
    },

    getMeta: async () => {
      const info = await ports.authApi.info();
      const bootstrap = await ports.bootstrapInfo();
      return {
        caCert: identity.rootCaPem,
        allowAnyUpgrade: ports.policy.isDev,
        k256Pubkey: k256PublicKey(identity.k256Key),
        ...bootstrap !== undefined && {
          bootstrapInfo: {
            caPubkey: bootstrap.caPublicKey,
            k256Pubkey: bootstrap.k256PublicKey,
            attestation: bootstrap.attestation,
          },
        },
        isDev: ports.policy.isDev,
        ...present("gatewayAppId", info.gatewayAppId),
        ...present("kmsContractAddress", info.kmsContractAddress),
        ...present("chainId", info.chainId),
        ...present("appAuthImplementation", info.appImplementation),
      };
    },

    getTempCaCert: async () => {
      await self.ensureAllowed();
      requireKeyRelease(await self.tee(), ports.policy);
      return {
        tempCaCert: identity.tempCaPem,
        tempCaKey: privateKeyPem(encodeP256Pkcs8(identity.tempCaKey)),
        caCert: identity.rootCaPem,
      };
    },

    signCert: ({ apiVersion, csr, signature, vmConfig }, caller) =>
      recorded(ports, { method: "SignCert", requestId: caller.requestId }, async (subject) => {
        await self.ensureAllowed();
        const { publicKey, config, evidence } = verifyCsr(csr, signature, apiVersion);
        const bound = asQuote(() => bindEvidence(evidence, publicKey));
        const request = { ...bound, vmConfig, role: "app", scope: "boot-time" } as const;
        const app = await authorize(ports, request, subject);
        subject.note = `${config.subject} for key ${toHex(publicKey).slice(-16)}`;
        const certificateChain = issueAppCertificate(identity, {
          ...config,
          appId: app.appId,
          publicKey,
          appInfo: config.includeAppInfo ? appInfoExtension(bound.attestation) : undefined,
          attestation: config.includeAttestation
            ? attestationExtension(bound.attestation)
            : undefined,
        }, ports.now());
        return { certificateChain };
      }),
  };
}

function unsupportedVersion(version: number): AppError {
  return new AppError("input/unsupported", `Unsupported API version: ${version}`);
}

/** An optional field, absent for null. */
function present<K extends string, V>(name: K, value: V | null): { [key in K]?: V } {
  return value === null ? {} : { [name]: value } as { [key in K]?: V };
}
