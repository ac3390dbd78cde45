import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { encodeP256Pkcs8 } from "#core/crypto/p256.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { privateKeyPem } from "#core/ra-tls/certificate.ts";

/** `.appkeys.json`, spec/os.md 3.6: all of an app's secrets, on tmpfs, 0600. */
export interface AppKeys {
  /** 32 bytes. */
  readonly diskCryptKey: Uint8Array;
  /** 32-byte X25519 secret; empty without a KMS. */
  readonly envCryptKey: Uint8Array;
  /** 32 bytes. */
  readonly k256Key: Uint8Array;
  /** 65 bytes; empty without a KMS. */
  readonly k256Signature: Uint8Array;
  /** `any`, or app ids gateways may have; empty when the KMS named none. */
  readonly gatewayAppId: string;
  readonly caCertPem: string;
  readonly provider: KeyProviderKeys;
}

/** Where the keys came from, and what the agent needs to have certificates issued. */
export type KeyProviderKeys =
  | { readonly kind: "none"; readonly keyPem: string }
  | {
    readonly kind: "kms";
    /** Ends in `/prpc`. */
    readonly url: string;
    /** SPKI DER of the KMS root CA. */
    readonly publicKey: Uint8Array;
    readonly temporaryCaKeyPem: string;
    readonly temporaryCaCertPem: string;
  }
  /** Written by other guests only: kept so that the agent can say what it does not support. */
  | { readonly kind: "local" | "tpm"; readonly keyPem: string };

export function encodeAppKeys(keys: AppKeys): string {
  return JSON.stringify({
    disk_crypt_key: toHex(keys.diskCryptKey),
    env_crypt_key: toHex(keys.envCryptKey),
    k256_key: toHex(keys.k256Key),
    k256_signature: toHex(keys.k256Signature),
    gateway_app_id: keys.gatewayAppId,
    ca_cert: keys.caCertPem,
    key_provider: encodeProvider(keys.provider),
  });
}

/** Throws `input/malformed`; the message never quotes the document. */
export function parseAppKeys(bytes: Uint8Array): AppKeys {
  const o = new JsonObject(parseStrictJson(bytes, "app keys"), "app keys");
  return {
    diskCryptKey: o.hex("disk_crypt_key", undefined),
    envCryptKey: o.hex("env_crypt_key", undefined, new Uint8Array()),
    k256Key: o.hex("k256_key", 32),
    k256Signature: o.hex("k256_signature", undefined, new Uint8Array()),
    gatewayAppId: o.string("gateway_app_id", ""),
    caCertPem: o.string("ca_cert"),
    provider: parseProvider(new JsonObject(o.raw("key_provider"), "app keys: key_provider"), o),
  };
}

/** The PEM form of a P-256 scalar, as the key files hold it. */
export function p256KeyPem(scalar: Uint8Array): string {
  return privateKeyPem(encodeP256Pkcs8(scalar));
}

/** Externally tagged, as the reference's serializer writes its enum. */
function encodeProvider(provider: KeyProviderKeys): unknown {
  switch (provider.kind) {
    case "none":
      return { None: { key: provider.keyPem } };
    case "kms":
      return {
        Kms: {
          url: provider.url,
          pubkey: toHex(provider.publicKey),
          tmp_ca_key: provider.temporaryCaKeyPem,
          tmp_ca_cert: provider.temporaryCaCertPem,
        },
      };
    default:
      throw new AppError("input/unsupported", `Key provider ${provider.kind} is not written here`);
  }
}

function parseProvider(tagged: JsonObject, keys: JsonObject): KeyProviderKeys {
  const content = (tag: string) => new JsonObject(tagged.raw(tag), `app keys: ${tag}`);
  if (tagged.has("None")) return { kind: "none", keyPem: content("None").string("key") };
  if (tagged.has("Local")) return { kind: "local", keyPem: content("Local").string("key") };
  if (tagged.has("Tpm")) return { kind: "tpm", keyPem: content("Tpm").string("key") };
  if (tagged.has("Kms")) {
    const kms = content("Kms");
    return {
      kind: "kms",
      url: kms.string("url"),
      publicKey: fromHex(kms.string("pubkey"), "KMS public key"),
      temporaryCaKeyPem: kms.string("tmp_ca_key"),
      temporaryCaCertPem: kms.string("tmp_ca_cert"),
    };
  }
  throw keys.malformed("key_provider", "names no known provider");
}
