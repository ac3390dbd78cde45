import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { parseAppCompose } from "./app-compose.ts";
import { checkRequirements, type GuestFacts } from "./requirements.ts";
import { parseSemver, parseSemverRequirement, satisfies } from "./semver.ts";

const GUEST: GuestFacts = {
  osVersion: "0.6.0",
  platform: "dstack-tdx",
  tdxAttestationVariant: "lite",
};

function check(requirements: Record<string, unknown>, guest: Partial<GuestFacts> = {}) {
  const compose = { manifest_version: "3", name: "a", runner: "bash", requirements };
  const parsed = parseAppCompose(utf8(JSON.stringify(compose))).requirements!;
  checkRequirements(parsed, { ...GUEST, ...guest });
}

// Error texts: spec/os.md 8.1
test("the OS version must satisfy the requirement", () => {
  check({ os_version: ">=0.6.0, <0.7.0" });
  assert.throws(() => check({ os_version: ">=0.6.1" }), /Unsupported dstack OS version/);
  assert.throws(() => check({ os_version: ">=0.6.0.a0" }), /Invalid requirements.os_version/);
  for (const osVersion of ["0.6.0.a0", undefined]) {
    assert.throws(
      () => check({ os_version: "*" }, { osVersion }),
      /Invalid current dstack OS version/,
    );
  }
});

test("the platform must be listed, and an empty list allows none", () => {
  check({});
  check({ platforms: ["dstack-amd-sev-snp", "dstack-tdx"] });
  assert.throws(() => check({ platforms: [] }), /Unsupported platform/);
  assert.throws(() => check({ platforms: ["dstack-gcp-tdx"] }), /Unsupported platform/);
  assert.throws(() => check({ platforms: ["gcptdx"] }), /Invalid requirements.platforms\[0\]/);
});

test("the ACPI rule chooses the attestation variant, on bare TDX only", () => {
  check({ tdx_measure_acpi_tables: false });
  assert.throws(() => check({ tdx_measure_acpi_tables: true }), /legacy/);
  check({ tdx_measure_acpi_tables: true }, { tdxAttestationVariant: "legacy" });
  check({ tdx_measure_acpi_tables: true }, { platform: "dstack-amd-sev-snp" });
});

// https://doc.rust-lang.org/cargo/reference/specifying-dependencies.html
test("requirements read as Cargo reads them", () => {
  const cases: [requirement: string, yes: string[], no: string[]][] = [
    ["1.2.3", ["1.2.3", "1.9.0"], ["1.2.2", "2.0.0"]],
    ["^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]],
    ["^0.0.3", ["0.0.3"], ["0.0.4", "0.1.0"]],
    ["^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]],
    ["^0", ["0.0.0", "0.9.0"], ["1.0.0"]],
    ["~1.2.3", ["1.2.3", "1.2.9"], ["1.3.0"]],
    ["~1.2", ["1.2.0", "1.2.9"], ["1.3.0"]],
    ["~1", ["1.0.0", "1.9.9"], ["2.0.0"]],
    ["1.*", ["1.0.0", "1.9.9"], ["2.0.0"]],
    ["1.2.*", ["1.2.0", "1.2.9"], ["1.3.0"]],
    ["*", ["0.0.0", "9.9.9"], ["1.0.0-rc.1"]],
    [">1.2", ["1.3.0"], ["1.2.9"]],
    ["<=1.2", ["1.2.9", "1.1.0"], ["1.3.0"]],
    ["=1.2", ["1.2.0", "1.2.9"], ["1.3.0"]],
    [">=1.2.0, <1.5", ["1.2.0", "1.4.9"], ["1.5.0", "1.1.9"]],
    [">=0.6.0", ["0.6.0", "7.0.0"], ["0.6.1-rc.1"]],
    [">=1.0.0-rc.2", ["1.0.0-rc.2", "1.0.0-rc.10", "1.0.0"], ["1.0.0-rc.1", "1.0.1-rc.9"]],
  ];
  for (const [requirement, yes, no] of cases) {
    const parsed = parseSemverRequirement(requirement);
    for (const version of yes) {
      assert.ok(satisfies(parseSemver(version), parsed), `${requirement} ${version}`);
    }
    for (const version of no) {
      assert.ok(!satisfies(parseSemver(version), parsed), `${requirement} ${version}`);
    }
  }
});

test("versions and requirements that are none are refused", () => {
  for (const text of ["1.2", "01.2.3", "1.2.3-", "1.2.3-01", "v1.2.3", "1.2.3.4", ""]) {
    assert.throws(() => parseSemver(text), AppError, text);
  }
  for (const text of ["", ">", "1.2.3,", "1.*.3", ">=1-rc", "==1", "1 2", "1.02"]) {
    assert.throws(() => parseSemverRequirement(text), AppError, text);
  }
});
