import { fromUtf8 } from "#core/bytes/bytes.ts";
import type { Requirements } from "#core/compose/app-compose.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Files } from "../ports.ts";
import { vmConfigMember } from "./sys-config.ts";
import { matchesVersion, parseVersion, parseVersionRequirement } from "./version-requirement.ts";

const PLATFORMS = [
  "dstack-tdx",
  "dstack-gcp-tdx",
  "dstack-nitro-enclave",
  "dstack-amd-sev-snp",
  "dstack-aws-nitro-tpm",
];
/** The simulated TEE counts as the platform it plays. */
const PLATFORM = "dstack-tdx";

/**
 * What an app asks of its platform (spec/os.md 3.3 step 3), before any key is requested. The launch
 * token is checked by core/compose. Throws `compose/requirement-unmet` or `input/malformed`.
 */
export async function checkRequirements(
  requirements: Requirements,
  vmConfig: string,
  files: Pick<Files, "read">,
): Promise<void> {
  const { osVersion, platforms, tdxMeasureAcpiTables } = requirements;
  if (osVersion !== undefined) requireOsVersion(osVersion, await osVersionOf(files));
  if (platforms !== undefined) requirePlatform(platforms);
  if (tdxMeasureAcpiTables !== undefined) {
    const lite = vmConfigMember(vmConfig, "tdx_attestation_variant") === "lite";
    if (tdxMeasureAcpiTables === lite) {
      throw unmet(`the VM runs with ${lite ? "lite" : "legacy"} TDX attestation`);
    }
  }
}

export function requireOsVersion(range: string, current: string | undefined): void {
  const requirement = parseVersionRequirement(range);
  if (requirement === undefined) {
    throw new AppError("input/malformed", `Invalid requirements.os_version ${range}`);
  }
  const version = parseVersion(current ?? "");
  if (version === undefined) {
    throw new AppError(
      "input/malformed",
      `Invalid current dstack OS version ${current ?? "(none)"}`,
    );
  }
  if (!matchesVersion(requirement, version)) {
    throw unmet(`Unsupported dstack OS version ${current}, the app requires ${range}`);
  }
}

export function requirePlatform(platforms: readonly string[]): void {
  platforms.forEach((platform, index) => {
    if (!PLATFORMS.includes(platform)) {
      throw new AppError("input/malformed", `Invalid requirements.platforms[${index}] ${platform}`);
    }
  });
  if (!platforms.includes(PLATFORM)) {
    throw unmet(`the platform is ${PLATFORM}, the app allows ${platforms.join(", ") || "none"}`);
  }
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
    const quoted = value.length >= 2 && value.at(0) === value.at(-1)
      ? value.slice(1, -1)
      : undefined;
    if (quoted !== undefined && value.startsWith('"')) return quoted.replace(/\\(.)/g, "$1");
    if (quoted !== undefined && value.startsWith("'")) return quoted;
    return value;
  }
  return undefined;
}

function unmet(why: string): AppError {
  return new AppError("compose/requirement-unmet", `Requirement not met: ${why}`);
}
