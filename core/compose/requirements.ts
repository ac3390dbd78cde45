import { AppError } from "../errors/app-error.ts";
import type { Requirements } from "./app-compose.ts";
import { parseSemver, parseSemverRequirement, satisfies } from "./semver.ts";

/** The platform words of `requirements.platforms` (spec/os.md 4.1). */
export const PLATFORMS = [
  "dstack-tdx",
  "dstack-gcp-tdx",
  "dstack-nitro-enclave",
  "dstack-amd-sev-snp",
  "dstack-aws-nitro-tpm",
] as const;
export type Platform = (typeof PLATFORMS)[number];

/** What the guest is, to be held against what the app asks for. */
export interface GuestFacts {
  /** VERSION_ID of os-release; undefined when it has none. */
  readonly osVersion: string | undefined;
  readonly platform: Platform;
  readonly tdxAttestationVariant: "legacy" | "lite";
}

/**
 * Every requirement but the launch token, which has its own check. Call before any key request.
 * Throws `input/malformed` for a requirement that cannot be read, `compose/requirement-unmet` otherwise.
 */
export function checkRequirements(requirements: Requirements, guest: GuestFacts): void {
  if (requirements.osVersion !== undefined) checkOsVersion(requirements.osVersion, guest.osVersion);
  if (requirements.platforms !== undefined) checkPlatforms(requirements.platforms, guest.platform);
  const measureAcpi = requirements.tdxMeasureAcpiTables;
  if (measureAcpi !== undefined && guest.platform === "dstack-tdx") {
    const needed = measureAcpi ? "legacy" : "lite";
    if (guest.tdxAttestationVariant !== needed) {
      throw unmet(
        `requirements.tdx_measure_acpi_tables=${measureAcpi} needs the ${needed} TDX attestation variant`,
      );
    }
  }
}

function checkOsVersion(required: string, current: string | undefined): void {
  const requirement = parseOr(required, "requirements.os_version", parseSemverRequirement);
  const version = parseOr(current ?? "", "current dstack OS version", parseSemver);
  if (!satisfies(version, requirement)) {
    throw unmet(`Unsupported dstack OS version ${current}: the app requires ${required}`);
  }
}

function parseOr<T>(text: string, what: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (cause) {
    throw new AppError("input/malformed", `Invalid ${what} ${JSON.stringify(text)}`, { cause });
  }
}

function checkPlatforms(platforms: readonly string[], current: Platform): void {
  platforms.forEach((name, i) => {
    if (!PLATFORMS.some((known) => known === name)) {
      throw new AppError(
        "input/malformed",
        `Invalid requirements.platforms[${i}] ${JSON.stringify(name)}: one of ${
          PLATFORMS.join(", ")
        }`,
      );
    }
  });
  if (!platforms.includes(current)) {
    throw unmet(
      `Unsupported platform ${current}: the app allows ${platforms.join(", ") || "none"}`,
    );
  }
}

function unmet(message: string): AppError {
  return new AppError("compose/requirement-unmet", message);
}
