import { z } from "zod";
import { duration } from "#functions/duration.ts";

const hexBytes = (bytes: number) =>
  z.string().regex(new RegExp(`^(0x)?[0-9a-fA-F]{${2 * bytes}}$`), `must be ${bytes} bytes of hex`);

const chainSchema = z.strictObject({
  /** JSON-RPC endpoints of one chain; several that agree are worth more than one. */
  rpc_urls: z.array(z.url({ protocol: /^https?$/ })).min(1),
  /** So many must answer; all, unless given. */
  quorum: z.int().min(1).optional(),
  contract: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
  chain_id: z.int().positive(),
  /** The finalized block may be this old. */
  max_lag: duration.prefault("30m"),
  /** Of one call to one endpoint. */
  timeout: duration.prefault("5s"),
});

/** auth.toml. */
export const authConfigSchema = z.strictObject({
  address: z.string().default("127.0.0.1"),
  port: z.int().min(0).max(65535).default(3000),
  backend: z.enum(["simple", "chain", "mock"]).default("simple"),
  /** The allowlist file, JSON; read anew for each request. */
  allowlist: z.string().default("./auth-config.json"),
  /** Ed25519 public keys; with any, the allowlist needs a signature by one of them in `<allowlist>.sig`. */
  signers: z.array(hexBytes(32)).default([]),
  /** Where the highest sequence number of a signed allowlist is kept. */
  sequence_file: z.string().default("./auth-sequence"),
  chain: chainSchema.optional(),
  mock: z.strictObject({ gateway_app_id: z.string().default("any") }).prefault({}),
  log_level: z.enum(["debug", "info", "warning", "error"]).default("info"),
});

export type AuthConfig = z.infer<typeof authConfigSchema>;
