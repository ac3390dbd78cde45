import { equalBytes, fromHex, isZero, utf8 } from "../bytes/bytes.ts";
import {
  mrConfigIdV1,
  mrConfigIdV2,
  mrConfigIdV3,
  type MrConfigV3,
  parseMrConfigV3,
} from "../compose/mr-config.ts";
import {
  KEY_PROVIDER_EVENT_NAME,
  KEY_PROVIDERS,
  type KeyProvider,
} from "../compose/key-provider.ts";
import { refusal, refusing } from "../errors/refusal.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import {
  initScriptHashesOf,
  type KeyProviderInfo,
  keyProviderOf,
  launchPayload,
} from "./launch-events.ts";
import type { Reference } from "./reference.ts";
import { mrConfigDocumentOf } from "./vm-config-text.ts";

/** What bound the launch: nothing, or MRCONFIGID of that version. */
export type MrConfigVersion = 0 | 1 | 2 | 3;

/**
 * Recomputes MRCONFIGID from what the guest measured (spec attestation.md 3.8), so that host and guest
 * agree on the app before it ran. Undefined when version 2 cannot be recomputed, because neither the
 * guest (before it has keys) nor the caller names the key provider. Throws `attestation/refused`.
 */
export function checkMrConfig(
  mrConfigId: Uint8Array,
  events: readonly RuntimeEvent[],
  configText: string,
  reference: Reference,
): MrConfigVersion | undefined {
  if (isZero(mrConfigId)) return 0;
  const composeHash = launchPayload(events, "compose-hash");
  const keyProvider = keyProviderOf(events) ?? expectedKeyProvider(reference);
  switch (mrConfigId[0]) {
    case 1:
      if (composeHash.length !== 32) {
        throw refusal("mr-config-id-mismatch", "The guest measured no compose hash");
      }
      requireSame(mrConfigId, mrConfigIdV1(composeHash));
      return 1;
    case 2:
      if (!keyProvider) return undefined;
      requireSame(
        mrConfigId,
        refusing("mr-config-id-mismatch", () =>
          mrConfigIdV2({
            composeHash,
            appId: launchPayload(events, "app-id"),
            keyProvider: kindOf(keyProvider),
            keyProviderId: fromHex(keyProvider.id),
          })),
      );
      return 2;
    case 3: {
      const document = documentOf(configText, reference);
      requireSame(mrConfigId, mrConfigIdV3(document));
      const config = refusing("mr-config-id-mismatch", () => parseMrConfigV3(document));
      requireDocument(config, events, keyProvider);
      return 3;
    }
    default:
      throw refusal("mr-config-id-unsupported", `MRCONFIGID has unknown version ${mrConfigId[0]}`);
  }
}

function documentOf(configText: string, reference: Reference): Uint8Array {
  if (reference.mrConfigDocument) return reference.mrConfigDocument;
  const text = refusing("mr-config-id-mismatch", () => mrConfigDocumentOf(configText));
  if (text === undefined) {
    throw refusal("mr-config-id-missing", "MRCONFIGID binds a document that is not there");
  }
  return utf8(text);
}

/** Every member the document has equals what the guest measured. */
function requireDocument(
  config: MrConfigV3,
  events: readonly RuntimeEvent[],
  keyProvider: KeyProviderInfo | undefined,
): void {
  const members = [
    ["compose_hash", config.composeHash, launchPayload(events, "compose-hash")],
    ["app_id", config.appId, launchPayload(events, "app-id")],
    ["instance_id", config.instanceId, launchPayload(events, "instance-id")],
    ["gpu_policy_hash", config.gpuPolicyHash, launchPayload(events, "gpu-policy-hash")],
    ["key_provider_id", config.keyProviderId, keyProvider && fromHex(keyProvider.id)],
  ] as const;
  for (const [name, bound, measured] of members) {
    if (bound && measured && !equalBytes(bound, measured)) throw differs(name);
  }
  if (keyProvider && kindOf(keyProvider) !== config.keyProvider) throw differs("key_provider");
  const scripts = initScriptHashesOf(events);
  const bound = config.initScriptHashes;
  const sameScripts = !bound ||
    bound.length === scripts.length && bound.every((hash, i) => equalBytes(hash, scripts[i]!));
  if (!sameScripts) throw differs("init_script_hashes");
}

function kindOf(provider: KeyProviderInfo): KeyProvider {
  const kind = KEY_PROVIDERS.find((one) => KEY_PROVIDER_EVENT_NAME[one] === provider.name);
  if (kind) return kind;
  throw refusal("key-provider-malformed", "The key-provider event names an unknown provider");
}

/** Before a guest has keys, whoever is about to give it some knows the provider: itself. */
function expectedKeyProvider({ keyProvider }: Reference): KeyProviderInfo | undefined {
  if (keyProvider?.id === undefined) return undefined;
  return { name: keyProvider.name, id: keyProvider.id };
}

function requireSame(actual: Uint8Array, recomputed: Uint8Array): void {
  if (!equalBytes(actual, recomputed)) {
    throw refusal(
      "mr-config-id-mismatch",
      "MRCONFIGID binds another configuration than the guest measured",
    );
  }
}

function differs(member: string) {
  return refusal(
    "mr-config-id-mismatch",
    `The launch document's ${member} differs from what the guest measured`,
  );
}
