import type { AppraisalInput, BareQuote, VendorDocuments } from "#core/attestation/appraise.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { evidenceOfJson } from "#core/attestation/evidence-json.ts";
import {
  checksOf,
  CVM_CHECKS,
  type Policy,
  policyWith,
  QUOTE_POLICY,
} from "#core/attestation/policy.ts";
import type { Reference } from "#core/attestation/reference.ts";
import { CHECK_IDS } from "#core/attestation/verdict.ts";
import { fromHex } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { parseRfc3339 } from "#core/encoding/rfc3339.ts";
import { parseStrictJson } from "#core/encoding/strict-json.ts";
import { collateralFromJson } from "#core/tdx/collateral.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";

/** The largest request, in bytes of JSON. Real ones are below 200 KiB. */
export const MAX_REQUEST_BYTES = 8 * 1024 * 1024;
const MAX_DEPTH = 8;
const MAX_LIST = 256;
const MAX_DOCUMENTS = 16;
/** A year: collateral past that says nothing about a platform. */
const MAX_GRACE_SECONDS = 366 * 86_400;

/** The members of a request and of its parts; anything else is refused. */
export const REQUEST_MEMBERS = {
  request: [
    "attestation",
    "quote",
    "event_log",
    "vm_config",
    "collateral",
    "vendor_documents",
    "time",
    "report_data",
    "reference",
    "policy",
  ],
  reference: ["compose_hash", "app_id", "instance_id", "os_image_hashes", "key_provider"],
  keyProvider: ["name", "id"],
  vendorDocuments: ["certificates", "crls"],
  policy: [
    "allowed_tcb_statuses",
    "allowed_advisories",
    "min_tcb_evaluation_data_number",
    "collateral_grace_seconds",
    "max_collateral_age_seconds",
    "allow_vlek",
    "allow_gpu_devtools",
    "require",
  ],
} as const;

/** What a caller of the verifier decides; roots of trust and the clock are the service's own. */
export type VerificationRequest =
  & Required<Pick<AppraisalInput, "attestation" | "reference" | "policy">>
  & Pick<AppraisalInput, "collateral" | "vendorDocuments" | "expectedReportData">
  & {
    /** Undefined for now. */
    readonly time: Date | undefined;
  };

/**
 * Reads the JSON of `POST /v1/verify`, which is also what the verify page makes of its form. The
 * evidence is `attestation`, or `quote` with `event_log` (and `vm_config`) as GetQuote answers them, or
 * `quote` alone. Throws `input/malformed`, `input/unsupported` or `input/too-large`.
 */
export function parseVerificationRequest(body: string | Uint8Array): VerificationRequest {
  const limits = { maxSize: MAX_REQUEST_BYTES, maxDepth: MAX_DEPTH };
  const json = new JsonObject(parseStrictJson(body, "request", limits), "request")
    .only(REQUEST_MEMBERS.request).withoutNulls();
  const reference = readReference(json);
  const expectedReportData = json.hex("report_data", 64, undefined);
  return {
    attestation: readEvidence(json),
    collateral: json.has("collateral") ? collateralFromJson(json.raw("collateral")) : undefined,
    ...(json.has("vendor_documents") && { vendorDocuments: readVendorDocuments(json) }),
    time: json.has("time") ? parseRfc3339(json.string("time"), "time") : undefined,
    ...(expectedReportData && { expectedReportData }),
    reference,
    policy: readPolicy(json, reference, expectedReportData),
  };
}

/** Reads the JSON of `POST /v1/collateral`. Throws like parseVerificationRequest(). */
export function parseQuoteRequest(body: string | Uint8Array): Uint8Array {
  const limits = { maxSize: MAX_REQUEST_BYTES, maxDepth: MAX_DEPTH };
  return new JsonObject(parseStrictJson(body, "request", limits), "request").only(["quote"])
    .hex("quote", undefined);
}

function readEvidence(json: JsonObject): Attestation | BareQuote {
  const loose = ["quote", "event_log", "vm_config"].filter((name) => json.has(name));
  if (json.has("attestation") && loose.length > 0) {
    throw json.malformed(loose[0]!, "stands beside an attestation");
  }
  if (json.has("vm_config") && !json.has("event_log")) {
    throw json.malformed("vm_config", "says nothing without event_log");
  }
  return evidenceOfJson(json);
}

function readVendorDocuments(json: JsonObject): VendorDocuments {
  const documents = new JsonObject(json.raw("vendor_documents"), "vendor_documents")
    .only(REQUEST_MEMBERS.vendorDocuments).withoutNulls();
  const list = (name: string) => {
    const texts = documents.strings(name, []);
    if (texts.length > MAX_DOCUMENTS) {
      throw documents.malformed(name, `has more than ${MAX_DOCUMENTS} entries`);
    }
    return texts.map((hex) => fromHex(hex, name));
  };
  return { certificates: list("certificates"), crls: list("crls") };
}

function readReference(json: JsonObject): Reference {
  if (!json.has("reference")) return {};
  const { reference: known, keyProvider: knownOfProvider } = REQUEST_MEMBERS;
  const reference = new JsonObject(json.raw("reference"), "reference").only(known).withoutNulls();
  const bytes = (name: string, length: number) => reference.hex(name, length, undefined);
  const composeHash = bytes("compose_hash", 32);
  const appId = bytes("app_id", 20);
  const instanceId = bytes("instance_id", 20);
  const images = reference.strings("os_image_hashes", undefined);
  const provider = reference.has("key_provider")
    ? new JsonObject(reference.raw("key_provider"), "key_provider").only(knownOfProvider)
      .withoutNulls()
    : undefined;
  return {
    ...(composeHash && { composeHash }),
    ...(appId && { appId }),
    ...(instanceId && { instanceId }),
    ...(images && { osImageHashes: images.map((hash) => fromHex(hash, "os_image_hashes", 32)) }),
    ...(provider && {
      keyProvider: {
        name: provider.string("name"),
        ...(provider.has("id") && { id: provider.string("id") }),
      },
    }),
  };
}

/** `require` takes the place of the checks that CVMs must pass; those of the hardware always count. */
function readPolicy(
  json: JsonObject,
  reference: Reference,
  expectedReportData: Uint8Array | undefined,
): Policy {
  const policy = new JsonObject(json.has("policy") ? json.raw("policy") : {}, "policy")
    .only(REQUEST_MEMBERS.policy).withoutNulls();
  const { allowedTcbStatuses, allowedAdvisories } = QUOTE_POLICY;
  return policyWith({
    allowedTcbStatuses: oneOfEach(policy, "allowed_tcb_statuses", TCB_STATUSES) ??
      allowedTcbStatuses,
    allowedAdvisories: policy.raw("allowed_advisories") === "any"
      ? "any"
      : policy.strings("allowed_advisories", undefined) ?? allowedAdvisories,
    minEvaluationDataNumber: policy.unsigned("min_tcb_evaluation_data_number", 0xffffffff, 0),
    collateralGraceSeconds: policy.unsigned("collateral_grace_seconds", MAX_GRACE_SECONDS, 0),
    ...(policy.has("max_collateral_age_seconds") && {
      maxCollateralAgeSeconds: policy.unsigned("max_collateral_age_seconds", 0xffffffff),
    }),
    allowVlek: policy.boolean("allow_vlek", false),
    allowGpuDevtools: policy.boolean("allow_gpu_devtools", false),
    require: [
      ...oneOfEach(policy, "require", CHECK_IDS) ?? CVM_CHECKS,
      ...checksOf(reference, expectedReportData),
    ],
  }, QUOTE_POLICY);
}

function oneOfEach<const T extends string>(
  json: JsonObject,
  name: string,
  allowed: readonly T[],
): T[] | undefined {
  const words = json.strings(name, undefined);
  if (words !== undefined && words.length > MAX_LIST) {
    throw json.malformed(name, `has more than ${MAX_LIST} entries`);
  }
  return words?.map((word) => {
    const known = allowed.find((one) => one === word);
    if (known !== undefined) return known;
    throw json.malformed(name, `may hold ${allowed.join(", ")}, not '${word.slice(0, 40)}'`);
  });
}
