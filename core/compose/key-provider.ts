import { utf8 } from "../bytes/bytes.ts";

/** Where an app's keys come from; the words of app-compose and of MrConfigV3. */
export const KEY_PROVIDERS = ["none", "kms", "local", "tpm"] as const;
export type KeyProvider = (typeof KEY_PROVIDERS)[number];

/** Kind byte hashed into MrConfigV2 (spec/attestation.md 3.8). */
export const KEY_PROVIDER_KIND: Readonly<Record<KeyProvider, number>> = {
  none: 0,
  local: 1,
  kms: 2,
  tpm: 3,
};

/** The name the `key-provider` event and AppInfo use: `local` becomes `local-sgx`. */
export const KEY_PROVIDER_EVENT_NAME = {
  none: "none",
  kms: "kms",
  local: "local-sgx",
  tpm: "tpm",
} as const satisfies Record<KeyProvider, string>;

/** What chooses the provider: `key_provider` wins over the two legacy flags (spec/os.md 3.6). */
export interface KeyProviderChoice {
  readonly keyProvider: KeyProvider | undefined;
  readonly kmsEnabled: boolean;
  readonly localKeyProviderEnabled: boolean;
}

export function selectKeyProvider(choice: KeyProviderChoice): KeyProvider {
  if (choice.keyProvider !== undefined) return choice.keyProvider;
  if (choice.kmsEnabled) return "kms";
  return choice.localKeyProviderEnabled ? "local" : "none";
}

/**
 * Payload of the `key-provider` event. `idHex`: SPKI DER of the KMS root CA, MR_ENCLAVE of the local
 * provider, empty for tpm and none.
 */
export function keyProviderEventPayload(provider: KeyProvider, idHex: string): Uint8Array {
  return utf8(JSON.stringify({ name: KEY_PROVIDER_EVENT_NAME[provider], id: idHex }));
}
