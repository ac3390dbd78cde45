import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";

/** `.sys-config.json`: what the host says about itself. Nothing in it is measured (spec/os.md 3.2). */
export interface SysConfig {
  readonly kmsUrls: readonly string[];
  readonly gatewayUrls: readonly string[];
  readonly pccsUrl: string | undefined;
  /** Registry mirror for docker. */
  readonly dockerRegistry: string | undefined;
  /** Base of the Host API, ending in `/api`; without one the guest notifies nobody. */
  readonly hostApiUrl: string | undefined;
  /** Tells this guest from its neighbours where addresses cannot. */
  readonly hostApiToken: string | undefined;
  /** The MrConfigV3 document, as text. */
  readonly mrConfig: string | undefined;
  /** A JSON object as text, forwarded untouched to the KMS. */
  readonly vmConfig: string;
}

/** Throws `input/malformed`. What only some apps need is checked where they need it. */
export function parseSysConfig(bytes: Uint8Array): SysConfig {
  const o = new JsonObject(parseStrictJson(bytes, ".sys-config.json"), ".sys-config.json")
    .withoutNulls();
  const collateral = new JsonObject(o.raw("collateral_urls") ?? {}, "collateral_urls")
    .withoutNulls().only(["pccs", "amd_kds"]);
  const nonEmpty = (text: string | undefined) => text === "" ? undefined : text;
  const url = (name: string, written: string | undefined) => {
    if (nonEmpty(written) === undefined) return undefined;
    if (!URL.canParse(written!)) throw o.malformed(name, "must be a URL");
    return written;
  };
  const vmConfig = o.string("vm_config");
  parseVmConfig(vmConfig);
  return {
    kmsUrls: o.strings("kms_urls", []),
    gatewayUrls: o.strings("gateway_urls", o.strings("tproxy_urls", [])),
    pccsUrl: url("pccs_url", collateral.string("pccs", o.string("pccs_url", undefined))),
    dockerRegistry: url("docker_registry", o.string("docker_registry", undefined)),
    hostApiUrl: url("host_api_url", o.string("host_api_url", undefined)),
    hostApiToken: nonEmpty(o.string("host_api_token", undefined)),
    mrConfig: nonEmpty(o.string("mr_config", undefined)),
    vmConfig,
  };
}

/** A member of the `vm_config` text, which is JSON of its own; undefined when absent. */
export function vmConfigMember(vmConfig: string, name: string): unknown {
  return parseVmConfig(vmConfig).raw(name);
}

function parseVmConfig(text: string): JsonObject {
  return new JsonObject(parseStrictJson(text, "vm_config"), "vm_config");
}
