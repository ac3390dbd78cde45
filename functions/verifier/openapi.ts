import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { CHECK_IDS, VERDICT_SCHEMA } from "#core/attestation/verdict.ts";
import { REFUSAL_REASONS } from "#core/errors/refusal.ts";
import { OPERATIONS_PATHS } from "#core/http/operations.ts";
import { TCB_STATUSES } from "#core/tdx/tcb-status.ts";

const hex = (bytes?: number) =>
  z.string().regex(bytes === undefined ? /^([0-9a-fA-F]{2})*$/ : hexOf(bytes));
const hexOf = (bytes: number) => new RegExp(`^[0-9a-fA-F]{${bytes * 2}}$`);
const rfc3339 = z.string().openapi({ format: "date-time", example: "2026-03-01T00:00:00Z" });
const checkId = z.enum(CHECK_IDS).openapi("CheckId");

const collateral = z.strictObject({
  pck_crl_issuer_chain: z.string(),
  root_ca_crl: hex(),
  pck_crl: hex(),
  tcb_info_issuer_chain: z.string(),
  tcb_info: z.string(),
  tcb_info_signature: hex(),
  qe_identity_issuer_chain: z.string(),
  qe_identity: z.string(),
  qe_identity_signature: hex(),
  pck_certificate_chain: z.string().optional(),
}).openapi("QuoteCollateral", {
  description: "What Intel signed about the platform, in dcap-qvl's QuoteCollateralV3 form",
});

const reference = z.strictObject({
  compose_hash: hex(32),
  app_id: hex(20),
  instance_id: hex(20),
  os_image_hashes: z.array(hex(32)),
  key_provider: z.strictObject({ name: z.string(), id: z.string().optional() }),
}).partial().openapi("Reference", {
  description: "What the caller expects; the checks of members that are given must pass",
});

const policy = z.strictObject({
  allowed_tcb_statuses: z.array(z.enum(TCB_STATUSES)).openapi({
    description: "Default UpToDate; Revoked never passes",
  }),
  allowed_advisories: z.union([z.array(z.string()), z.literal("any")]).openapi({
    description: "Default none",
  }),
  min_tcb_evaluation_data_number: z.int().min(0),
  collateral_grace_seconds: z.int().min(0).openapi({
    description: "Seconds by which collateral may be past its nextUpdate. Default 0",
  }),
  max_collateral_age_seconds: z.int().min(0).openapi({
    description: "Seconds since collateral was issued. Default: its nextUpdate alone counts",
  }),
  allow_vlek: z.boolean().openapi({
    description: "SEV-SNP reports may be signed with a key lent to a cloud. Default false",
  }),
  allow_gpu_devtools: z.boolean().openapi({
    description: "GPUs may run with tools that can read their memory. Default false",
  }),
  require: z.array(checkId).openapi({
    description: "Checks that must pass beside those of the hardware. Default event-log-replay, " +
      "launch-events, os-image, mr-config-id; a quote by itself passes none of these",
  }),
}).partial().openapi("Policy");

export const verificationRequestSchema = z.strictObject({
  attestation: hex().openapi({ description: "Versioned attestation, V0 or V1" }),
  quote: hex().openapi({ description: "TDX or SGX quote; instead of attestation" }),
  event_log: z.string().openapi({ description: "As GetQuote answers it: a JSON array as text" }),
  vm_config: z.string().openapi({ description: "As GetQuote answers it: JSON as text" }),
  collateral: collateral.openapi({ description: "Fetched from the configured PCCS unless given" }),
  vendor_documents: z.strictObject({
    certificates: z.array(hex()).openapi({
      description: "DER: ASK and VCEK or VLEK of SEV-SNP, issuers of a vTPM's attestation key",
    }),
    crls: z.array(hex()).openapi({ description: "DER, of AMD, AWS or Google" }),
  }).partial().openapi("VendorDocuments", {
    description: "What evidence lacks of its vendor. Fetched from AMD or Google unless given",
  }),
  time: rfc3339.openapi({ description: "The time the verdict is for; now unless given" }),
  report_data: hex(64).openapi({ description: "What the evidence must bind" }),
  reference,
  policy,
}).partial().openapi("VerificationRequest");

const intelTcb = z.strictObject({
  status: z.string(),
  advisoryIds: z.array(z.string()),
  platformStatus: z.string(),
  quotingEnclaveStatus: z.string(),
  levelDate: rfc3339,
  evaluationDataNumber: z.int(),
  fmspc: hex(6),
  collateral: z.strictObject({ validFrom: rfc3339, validUntil: rfc3339 }),
}).openapi("IntelTcb");

const snpTcb = z.strictObject({
  fmc: z.int().optional(),
  bootloader: z.int(),
  tee: z.int(),
  snp: z.int(),
  microcode: z.int(),
}).openapi("SnpTcb");

const amdTcb = z.strictObject({
  status: z.string(),
  advisoryIds: z.array(z.string()),
  product: z.string(),
  signingKey: z.string(),
  reported: snpTcb,
  current: snpTcb,
  committed: snpTcb,
  launch: snpTcb,
}).openapi("AmdTcb");

const verdict = z.strictObject({
  schema: z.literal(VERDICT_SCHEMA),
  tee: z.string(),
  simulated: z.boolean(),
  outcome: z.enum(["accepted", "refused"]),
  reason: z.strictObject({
    code: z.enum(Object.keys(REFUSAL_REASONS) as [string, ...string[]]),
    check: checkId,
    detail: z.string(),
  }).nullable(),
  checks: z.array(z.strictObject({
    id: checkId,
    result: z.enum(["passed", "failed", "not-applicable", "not-checked"]),
    detail: z.string(),
  })),
  identity: z.strictObject({
    appId: z.string(),
    composeHash: z.string(),
    instanceId: z.string(),
    deviceId: z.string(),
    osImageHash: z.string(),
    mrSystem: z.string(),
    mrAggregated: z.string(),
    keyProvider: z.strictObject({ name: z.string(), id: z.string() }).nullable(),
    initScriptHashes: z.array(z.string()),
  }).nullable(),
  tcb: z.union([intelTcb, amdTcb]).nullable(),
  measurements: z.record(z.string(), z.string()).nullable(),
  reportData: hex(64).nullable(),
  trustAnchor: z.strictObject({ name: z.string(), simulated: z.boolean() }).nullable(),
  evaluatedAt: rfc3339,
  evidenceDigest: hex(32),
}).openapi("Verdict");

const problem = z.looseObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
}).openapi("Problem");

const json = (schema: z.ZodType) => ({ "application/json": { schema } });
const failure = (description: string) => ({
  description,
  content: { "application/problem+json": { schema: problem } },
});
const failures = {
  400: failure("The request or its evidence cannot be read"),
  413: failure("The request is too large"),
  502: failure("The PCCS answered wrongly"),
  503: failure("The PCCS has no collateral for this platform, or does not answer"),
};

const referenceResponse = z.object({
  is_valid: z.boolean(),
  reason: z.string().nullable(),
  details: z.object({
    quote_verified: z.boolean(),
    event_log_verified: z.boolean(),
    os_image_hash_verified: z.boolean(),
    acpi_tables_verified: z.boolean(),
    os_image_is_dev: z.boolean().nullable(),
    os_image_version: z.string().nullable(),
    tee_variant: z.string().nullable(),
    report_data: z.string().nullable(),
    tcb_status: z.string().nullable(),
    advisory_ids: z.array(z.string()),
    key_provider: z.object({ name: z.string(), id: z.string() }).nullable(),
    app_info: z.record(z.string(), z.unknown()).nullable(),
    boot_info: z.record(z.string(), z.unknown()).optional(),
    acpi_tables: z.object({ tables: hex(), rsdp: hex(), loader: hex() }).optional(),
    rtmr_debug: z.array(z.object({
      rtmr: z.int(),
      expected: hex(48),
      actual: hex(48),
      events: z.array(z.object({
        index: z.int(),
        event_type: z.int(),
        event_name: z.string(),
        actual_digest: hex(),
        expected_digest: hex(48).optional(),
        payload_len: z.int(),
        status: z.enum(["match", "mismatch", "extra"]),
      })),
      missing_expected_digests: z.array(hex(48)).optional(),
    })).optional(),
  }),
}).openapi("ReferenceResponse");

const routes = [
  createRoute({
    method: "post",
    path: "/verify",
    operationId: "verifyAsReference",
    summary: "The reference verifier's interface; /v1/verify says more",
    request: {
      body: {
        required: true,
        content: json(
          z.object({
            attestation: hex(),
            quote: hex(),
            event_log: z.string(),
            vm_config: z.string(),
            debug: z.boolean(),
          }).partial(),
        ),
      },
    },
    responses: {
      200: { description: "Valid or not: see `is_valid`", content: json(referenceResponse) },
      400: failures[400],
      413: failures[413],
    },
  }),
  createRoute({
    method: "post",
    path: "/v1/verify",
    operationId: "verify",
    summary: "Decide about evidence",
    request: { body: { required: true, content: json(verificationRequestSchema) } },
    responses: {
      200: { description: "Accepted or refused: see `outcome`", content: json(verdict) },
      ...failures,
    },
  }),
  createRoute({
    method: "post",
    path: "/v1/collateral",
    operationId: "getCollateral",
    summary: "What Intel signed about the platform of a quote",
    request: {
      body: { required: true, content: json(z.strictObject({ quote: hex() })) },
    },
    responses: { 200: { description: "Collateral", content: json(collateral) }, ...failures },
  }),
] as const;

/** The document of `/openapi.json`. Requests are read by request.ts; a test holds both together. */
export function verifierOpenApi(version: string): object {
  const described = new OpenAPIHono();
  for (const route of routes) described.openAPIRegistry.registerPath(route);
  const document = described.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "dstack verifier", version },
    servers: [{ url: "/" }],
  });
  return { ...document, paths: { ...OPERATIONS_PATHS, ...document.paths } };
}
