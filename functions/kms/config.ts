import { z } from "zod";
import { attestationSchema, collateralSchema } from "#functions/attestation/config.ts";
import { duration } from "#functions/duration.ts";

const port = z.int().min(0).max(65535);
/** Keys old files still carry; they do nothing (kms.md 9). */
const retired = z.unknown().optional();
const withDefaults = <T extends z.ZodType>(schema: T) => schema.prefault({} as z.input<T>);

/** All three are files of cert_dir and may be left out. */
const tlsSchema = z.strictObject({
  key: z.string().optional(),
  certs: z.string().optional(),
  mutual: withDefaults(z.strictObject({
    ca_certs: z.string().optional(),
    /** The temp CA's key is public: a client certificate alone must never be asked for. */
    mandatory: z.literal(false).default(false),
  })),
});

const coreSchema = z.strictObject({
  cert_dir: z.string().default("/etc/kms/certs"),
  subject_postfix: retired,
  site_name: z.string().default(""),
  enforce_self_authorization: z.boolean().default(true),
  attest_rpc_cert: z.boolean().default(true),
  sev_snp_key_release: z.boolean().default(false),
  aws_nitro_tpm_key_release: z.boolean().default(false),
  /** Ours: file of the decision log, or the URL of a libSQL server. */
  database: z.string().default("/var/lib/dstack-kms/kms.db"),
  /** Ours. */
  collateral: collateralSchema,
  attestation: attestationSchema,
  image: withDefaults(z.strictObject({
    verify: z.boolean().default(true),
    cache_dir: z.string().default("/usr/share/dstack/images"),
    /** Images of CVMs that do not bring their measurements; empty: those are refused. */
    download_url: z.string().regex(/^$|^https?:\/\/.*\{OS_IMAGE_HASH\}/).default(""),
    download_timeout: duration.prefault("2m"),
  })),
  admin: withDefaults(z.strictObject({
    enabled: z.boolean().default(false),
    address: z.string().default("127.0.0.1"),
    port: port.default(8001),
    auth_token: z.string().default(""),
    htpasswd_file: z.string().default(""),
    insecure_no_auth: z.boolean().default(false),
  })),
  /** Ours: what callers may cause. */
  limits: withDefaults(z.strictObject({
    peer_per_second: z.number().positive().default(50),
    peer_burst: z.int().positive().default(200),
    app_per_second: z.number().positive().default(20),
    app_burst: z.int().positive().default(100),
    concurrent: z.int().positive().default(64),
    waiting: z.int().nonnegative().default(512),
    connections: z.int().positive().default(2000),
    /** For a request to arrive, TLS and body included. */
    request_timeout: duration.prefault("30s"),
  })),
  metrics: withDefaults(z.strictObject({ enabled: z.boolean().default(true) })),
  auth_api: withDefaults(z.strictObject({
    type: z.enum(["webhook", "dev"]).default("webhook"),
    webhook: withDefaults(z.strictObject({
      url: z.string().default("http://auth-api:8000"),
      /** Ours: of one attempt; there are two. */
      timeout: duration.prefault("5s"),
    })),
    dev: withDefaults(z.strictObject({ gateway_app_id: z.string().default("any") })),
  })),
  onboard: withDefaults(z.strictObject({
    enabled: z.boolean().default(true),
    auto_bootstrap_domain: z.string().default(""),
    address: z.string().default("0.0.0.0"),
    port: port.default(8000),
    quote_enabled: retired,
  })),
  pccs_url: retired,
  admin_token_hash: retired,
  gpu: retired,
  amd_kds_base_url: retired,
});

/** kms.toml: the reference's keys, defaults and meanings (kms.md 9), and a few of ours. */
export const kmsConfigSchema = z.strictObject({
  log_level: z.enum(["trace", "debug", "info", "warning", "error", "fatal"]).default("info"),
  default: z.looseObject({}).optional(),
  rpc: withDefaults(z.strictObject({
    address: z.string().default("0.0.0.0"),
    port: port.default(8000),
    tls: withDefaults(tlsSchema),
  })),
  core: withDefaults(coreSchema),
});

export type KmsConfig = z.infer<typeof kmsConfigSchema>;
