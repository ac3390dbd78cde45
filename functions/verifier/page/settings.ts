import { CVM_CHECKS } from "#core/attestation/policy.ts";
import { byId, checkedValues, input, named } from "./dom.ts";

/** Text fields by the member of `reference` they fill. */
const EXPECTED = {
  compose_hash: "compose-hash",
  app_id: "app-id",
  instance_id: "instance-id",
} as const;

/** What the form says a verdict should rest on, as members of a request. */
export function readSettings(isBare: boolean): Record<string, unknown> {
  const time = input("time").value.trim();
  const reportData = input("report-data").value.trim();
  return {
    ...(time !== "" && { time }),
    ...(reportData !== "" && { report_data: reportData }),
    reference: readReference(),
    policy: {
      allowed_tcb_statuses: checkedValues("tcb"),
      allowed_advisories: readAdvisories(),
      require: isBare ? [] : checkedValues("require"),
    },
  };
}

function readReference(): Record<string, unknown> {
  const text = (id: string) => input(id).value.trim().toLowerCase();
  const images = text("os-image").split(/[\s,]+/).filter((hash) => hash !== "");
  const kms = text("kms-root");
  return {
    ...Object.fromEntries(
      Object.entries(EXPECTED).map(([member, id]) => [member, text(id)])
        .filter(([, value]) => value !== ""),
    ),
    ...(images.length > 0 && { os_image_hashes: images }),
    ...(kms !== "" && { key_provider: { name: "kms", id: kms } }),
  };
}

function readAdvisories(): string[] | "any" {
  const text = input("advisories").value.trim();
  return text.toLowerCase() === "any" ? "any" : text.split(/[\s,]+/).filter((id) => id !== "");
}

/** Puts the settings of a request into the form, where its user sees them. Unknown ones are left out. */
export function applySettings(settings: Readonly<Record<string, unknown>>): void {
  const { time, reference = {}, policy = {} } = settings as {
    time?: unknown;
    reference?: Record<string, unknown>;
    policy?: Record<string, unknown>;
  };
  if (typeof time === "string") input("time").value = time;
  for (const [member, id] of Object.entries(EXPECTED)) {
    const value = reference[member];
    if (typeof value === "string") input(id).value = value;
  }
  const images = reference["os_image_hashes"];
  if (Array.isArray(images)) input("os-image").value = images.join(" ");
  const provider = reference["key_provider"] as { name?: unknown; id?: unknown } | undefined;
  if (provider?.name === "kms" && typeof provider.id === "string") {
    input("kms-root").value = provider.id;
  }
  const { allowed_tcb_statuses: statuses, allowed_advisories: advisories, require } = policy;
  if (Array.isArray(statuses)) tick("tcb", statuses);
  if (advisories === "any") input("advisories").value = "any";
  else if (Array.isArray(advisories)) input("advisories").value = advisories.join(" ");
  if (Array.isArray(require)) {
    tick("require", require.filter((id) => (CVM_CHECKS as readonly unknown[]).includes(id)));
  }
  byId<HTMLDetailsElement>("policy").open = true;
}

function tick(name: string, values: readonly unknown[]): void {
  for (const box of named(name)) box.checked = values.includes(box.value);
}
