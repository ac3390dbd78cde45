import { toHex } from "#core/bytes/bytes.ts";
import { defaultAppId, ID_LENGTH, instanceId } from "#core/compose/identity.ts";
import type { AppCompose } from "#core/compose/app-compose.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";

/** Who this VM is: all three are 20 bytes, the instance id is empty for `no_instance_id`. */
export interface Instance {
  readonly appId: Uint8Array;
  readonly instanceIdSeed: Uint8Array;
  readonly instanceId: Uint8Array;
}

/** `.instance_info` as the host kept it from an earlier boot; every member may be missing or empty. */
export interface StoredInstance {
  readonly appId: Uint8Array | undefined;
  readonly instanceIdSeed: Uint8Array | undefined;
}

export function parseInstanceInfo(bytes: Uint8Array | undefined): StoredInstance {
  if (bytes === undefined || bytes.length === 0) {
    return { appId: undefined, instanceIdSeed: undefined };
  }
  const o = new JsonObject(parseStrictJson(bytes, ".instance_info"), ".instance_info")
    .withoutNulls();
  const id = (name: string) => o.string(name, "") === "" ? undefined : o.hex(name, ID_LENGTH);
  return { appId: id("app_id"), instanceIdSeed: id("instance_id_seed") };
}

/**
 * The identity of spec/os.md 3.4. An app without a key provider gets a new seed each boot: its disk
 * does not outlive the boot either. `freshSeed`: 20 random bytes.
 */
export function identify(
  stored: StoredInstance,
  compose: AppCompose,
  composeHash: Uint8Array,
  freshSeed: () => Uint8Array,
): Instance {
  const appId = stored.appId ?? defaultAppId(composeHash);
  const seed = compose.keyProvider === "none" || stored.instanceIdSeed === undefined
    ? freshSeed()
    : stored.instanceIdSeed;
  return {
    appId,
    instanceIdSeed: seed,
    instanceId: compose.noInstanceId ? new Uint8Array() : instanceId(seed, appId),
  };
}

/** What the guest sends as `instance.info` and the host stores. */
export function encodeInstanceInfo(instance: Instance): string {
  return JSON.stringify({
    instance_id_seed: toHex(instance.instanceIdSeed),
    instance_id: toHex(instance.instanceId),
    app_id: toHex(instance.appId),
  });
}
