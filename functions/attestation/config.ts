import { z } from "zod";
import { duration } from "#functions/duration.ts";

const withDefaults = <T extends z.ZodType>(schema: T) => schema.prefault({} as z.input<T>);

/** `[attestation]` of the services that verify evidence (attestation.md 1.5): the reference's keys. */
export const attestationSchema = z.strictObject({
  insecure_allow_external_trust_anchors: z.boolean().default(false),
  /** Ours: whether roots of `root_ca` belong to a simulator; every verdict and decision says so. */
  external_roots_simulated: z.boolean().default(true),
  urls: withDefaults(z.strictObject({
    pccs: z.string().default(""),
    amd_kds: z.string().default(""),
  })),
  /** Files, PEM or DER. */
  root_ca: withDefaults(z.strictObject({
    tdx: z.string().optional(),
    gcp_tpm: z.string().optional(),
    aws_nitro_enclave: z.string().optional(),
    aws_nitro_tpm: z.string().optional(),
    sev_snp_milan: z.string().optional(),
    sev_snp_genoa: z.string().optional(),
    sev_snp_turin: z.string().optional(),
  })),
}).superRefine((attestation, ctx) => {
  const roots = Object.values(attestation.root_ca).filter((path) => path !== undefined);
  if (roots.length > 0 && !attestation.insecure_allow_external_trust_anchors) {
    ctx.addIssue({
      code: "custom",
      path: ["root_ca"],
      message: "needs insecure_allow_external_trust_anchors = true",
    });
  }
}).prefault({});

export type AttestationConfig = z.infer<typeof attestationSchema>;

/** How long fetched collateral is used, and how long a fetch may take. */
export const collateralSchema = z.strictObject({
  /** Fetched again after this, also when it would hold for longer. */
  max_age: duration.prefault("1h"),
  timeout: duration.prefault("30s"),
}).prefault({});
