import { undefinedIfRefused, unlessRefused } from "#core/attestation/appraisal.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import type { BareQuote } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { evidenceOfJson } from "#core/attestation/evidence-json.ts";
import { expectedRegistersOf, namedImageOf } from "#core/attestation/os-image.ts";
import { CVM_CHECKS, type Policy, policyWith, QUOTE_POLICY } from "#core/attestation/policy.ts";
import type { Reference } from "#core/attestation/reference.ts";
import type { CheckId, Verdict } from "#core/attestation/verdict.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { AppError } from "#core/errors/app-error.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";
import {
  type AcpiTablesHex,
  acpiTablesOf,
  type RegisterMismatch,
  registerMismatches,
} from "./reference-debug.ts";
import { MAX_REQUEST_BYTES } from "./request.ts";

/** What the reference verifier answers (spec attestation.md 6.1). */
export interface ReferenceResponse {
  readonly is_valid: boolean;
  readonly reason: string | null;
  readonly details: ReferenceDetails;
}

interface ReferenceDetails {
  readonly quote_verified: boolean;
  readonly event_log_verified: boolean;
  readonly os_image_hash_verified: boolean;
  /** That our check `acpi-tables` passed, which the reference has for the legacy variant alone. */
  readonly acpi_tables_verified: boolean;
  /** Of the image of a legacy CVM, which is at hand; the lite variant does not say. */
  readonly os_image_is_dev: boolean | null;
  readonly os_image_version: string | null;
  readonly tee_variant: string | null;
  readonly report_data: string | null;
  readonly tcb_status: string | null;
  readonly advisory_ids: readonly string[];
  readonly key_provider: { readonly name: string; readonly id: string } | null;
  readonly app_info: Readonly<Record<string, unknown>> | null;
  /** For a policy engine; absent on failure. */
  readonly boot_info?: Readonly<Record<string, unknown>>;
  /** With `debug`: the tables QEMU makes for this VM. */
  readonly acpi_tables?: AcpiTablesHex;
  /** With `debug`: the registers that are not what they should be. */
  readonly rtmr_debug?: readonly RegisterMismatch[];
}

/**
 * The reference passes every TCB status but Revoked on to its caller, and takes a host that bound no
 * configuration. A check that fails refuses here as everywhere.
 */
export const REFERENCE_POLICY: Policy = policyWith({
  allowedTcbStatuses: TCB_STATUSES.filter((status) => status !== "Revoked"),
  allowedAdvisories: "any",
  require: CVM_CHECKS.filter((id) => id !== "mr-config-id"),
}, QUOTE_POLICY);

const NOTHING: ReferenceDetails = {
  quote_verified: false,
  event_log_verified: false,
  os_image_hash_verified: false,
  acpi_tables_verified: false,
  os_image_is_dev: null,
  os_image_version: null,
  tee_variant: null,
  report_data: null,
  tcb_status: null,
  advisory_ids: [],
  key_provider: null,
  app_info: null,
};

/**
 * Answers a request to the reference's `POST /verify`: failures are answers too. `judge` appraises under
 * REFERENCE_POLICY, with `registersOf` where images are kept. Throws `input/malformed` for a body that is no JSON object.
 */
export async function answerReference(
  body: Uint8Array | string,
  judge: (evidence: Attestation | BareQuote) => Promise<Verdict>,
  registersOf?: Reference["registersOf"],
): Promise<ReferenceResponse> {
  const limits = { maxSize: MAX_REQUEST_BYTES };
  const json = new JsonObject(parseStrictJson(body, "request", limits), "request").withoutNulls();
  try {
    const evidence = evidenceOfReference(json);
    const response = responseOf(evidence, await judge(evidence));
    const reference = registersOf ? { registersOf } : {};
    const image = await imageDetails(evidence, response.details, json, reference);
    return { ...response, details: { ...response.details, ...image } };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { is_valid: false, reason: `Internal error: ${error.message}`, details: NOTHING };
  }
}

function evidenceOfReference(json: JsonObject): Attestation {
  if (!json.has("attestation") && !json.has("quote")) {
    throw new AppError("input/malformed", "Quote is required");
  }
  const evidence = evidenceOfJson(json);
  if ("platform" in evidence) return evidence;
  throw new AppError("input/malformed", "Event log is required");
}

const QUOTE_CHECKS = [...QUOTE_POLICY.required, "revocation", "report-data"] as const;

function responseOf(attestation: Attestation, verdict: Verdict): ReferenceResponse {
  const resultOf = (id: CheckId) => verdict.checks.find((check) => check.id === id)?.result;
  const passed = (id: CheckId) => resultOf(id) === "passed";
  const { outcome, reason, tee, identity, tcb, reportData } = verdict;
  const isValid = outcome === "accepted";
  const quoteVerified = passed("signature-chain") &&
    QUOTE_CHECKS.every((id) => resultOf(id) !== "failed");
  const imageVerified = quoteVerified && passed("os-image");
  const info = quoteVerified && identity ? infoOf(attestation, verdict) : null;
  return {
    is_valid: isValid,
    reason: reason && `${failureOf(quoteVerified, imageVerified)}: ${reason.detail}`,
    details: {
      ...NOTHING,
      quote_verified: quoteVerified,
      event_log_verified: imageVerified && passed("event-log-replay"),
      os_image_hash_verified: imageVerified,
      acpi_tables_verified: imageVerified && passed("acpi-tables"),
      tee_variant: quoteVerified ? tee : null,
      report_data: quoteVerified ? reportData : null,
      tcb_status: tcb?.status ?? null,
      advisory_ids: tcb?.advisoryIds ?? [],
      key_provider: (info && identity?.keyProvider) ?? null,
      app_info: info,
      ...(isValid && info && { boot_info: bootInfoOf(info, verdict) }),
    },
  };
}

function failureOf(quoteVerified: boolean, imageVerified: boolean): string {
  if (!quoteVerified) return "Quote verification failed";
  return imageVerified ? "Event log verification failed" : "OS image hash verification failed";
}

/** Nothing is looked up for a quote that is not proven genuine. */
async function imageDetails(
  { platform, stack }: Attestation,
  { quote_verified, os_image_hash_verified }: ReferenceDetails,
  request: JsonObject,
  reference: Reference,
): Promise<Partial<ReferenceDetails>> {
  if (platform.kind !== "tdx" || !quote_verified) return {};
  const wantsDebug = request.boolean("debug", false);
  const config = unlessRefused(() => namedImageOf(stack.config));
  if (!config || !(wantsDebug || config.tdxAttestationVariant === "legacy")) return {};
  const expected = await expectedRegistersOf(config, platform.eventLog, reference)
    .catch(undefinedIfRefused);
  const { image } = expected ?? {};
  return {
    ...(image && { os_image_is_dev: image.isDev, os_image_version: image.version }),
    ...(wantsDebug && acpiTablesOf(config)),
    ...(wantsDebug && expected && !os_image_hash_verified &&
      { rtmr_debug: registerMismatches(platform, expected) }),
  };
}

export function infoOf(attestation: Attestation, { identity }: Verdict) {
  const { appId, composeHash, instanceId, deviceId, mrSystem, mrAggregated, osImageHash } =
    identity!;
  return {
    app_id: appId,
    compose_hash: composeHash,
    instance_id: instanceId,
    device_id: deviceId,
    mr_system: mrSystem,
    mr_aggregated: mrAggregated,
    os_image_hash: osImageHash,
    key_provider_info: toHex(appInfoOf(attestation).keyProviderInfo),
    init_script_hashes: identity!.initScriptHashes,
  };
}

function bootInfoOf(info: ReturnType<typeof infoOf>, { tee, tcb }: Verdict) {
  return {
    teeVariant: tee,
    mrAggregated: info.mr_aggregated,
    osImageHash: info.os_image_hash,
    mrSystem: info.mr_system,
    appId: info.app_id,
    composeHash: info.compose_hash,
    instanceId: info.instance_id,
    deviceId: info.device_id,
    keyProviderInfo: info.key_provider_info,
    tcbStatus: tcb?.status ?? "",
    advisoryIds: tcb?.advisoryIds ?? [],
  };
}
