import { fromUtf8 } from "#core/bytes/bytes.ts";
import type { GuestFacts } from "#core/compose/requirements.ts";
import type { Files } from "../ports.ts";
import { vmConfigMember } from "./sys-config.ts";

/** What this guest is. A simulated TEE counts as the platform it plays. */
export async function readGuestFacts(
  vmConfig: string,
  files: Pick<Files, "read">,
): Promise<GuestFacts> {
  const lite = vmConfigMember(vmConfig, "tdx_attestation_variant") === "lite";
  return {
    osVersion: await osVersionOf(files),
    platform: "dstack-tdx",
    tdxAttestationVariant: lite ? "lite" : "legacy",
  };
}

async function osVersionOf(files: Pick<Files, "read">): Promise<string | undefined> {
  for (const path of ["/etc/os-release", "/usr/lib/os-release"]) {
    const bytes = await files.read(path);
    const version = bytes && osReleaseValue(fromUtf8(bytes, path), "VERSION_ID");
    if (version !== undefined) return version;
  }
  return undefined;
}

/** One value of os-release(5). Double quotes process backslashes, single quotes do not. */
export function osReleaseValue(text: string, name: string): string | undefined {
  for (const line of text.split("\n")) {
    const match = /^\s*([A-Za-z_][A-Za-z0-9_]*)=(.*?)\s*$/.exec(line);
    if (match?.[1] !== name) continue;
    const value = match[2]!;
    const isQuoted = value.length >= 2 && value.at(0) === value.at(-1);
    if (isQuoted && value.startsWith('"')) return value.slice(1, -1).replace(/\\(.)/g, "$1");
    if (isQuoted && value.startsWith("'")) return value.slice(1, -1);
    return value;
  }
  return undefined;
}
