import { z } from "zod";
import { attestationSchema, collateralSchema } from "#functions/attestation/config.ts";

/** Beside what every service has: collateral that is shipped with this one, used before a PCCS is asked. */
const verifierCollateralSchema = collateralSchema.unwrap().extend({
  /** A file that `dstack collateral pack` made. */
  pack: z.string().optional(),
  /** Hex, as `dstack collateral keygen` printed: who may have signed it. */
  pack_signers: z.array(z.string()).default([]),
}).prefault({});

/** verifier.toml: the reference's keys and defaults (attestation.md 6.4), and a few of ours. */
export const verifierConfigSchema = z.strictObject({
  address: z.string().default("0.0.0.0"),
  port: z.int().min(0).max(65535).default(8080),
  /** Where images of the `legacy` variant are kept; those of the `lite` variant bring what is needed. */
  image_cache_dir: z.string().min(1).default("/tmp/dstack-verifier/cache"),
  image_download_url: z.string().regex(/^https?:\/\/.*\{OS_IMAGE_HASH\}/).default(
    "https://download.dstack.org/os-images/mr_{OS_IMAGE_HASH}.tar.gz",
  ),
  image_download_timeout_secs: z.int().min(1).default(300),
  /** Ours: MiB of images that are kept. */
  image_cache_mib: z.int().min(1).default(4096),
  attestation: attestationSchema,
  /** Ours. */
  collateral: verifierCollateralSchema,
  /** Ours. */
  log_level: z.enum(["debug", "info", "warning", "error"]).default("info"),
});

export type VerifierConfig = z.infer<typeof verifierConfigSchema>;
