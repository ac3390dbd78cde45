import { z } from "zod";

/** auth.toml. */
export const authConfigSchema = z.strictObject({
  address: z.string().default("127.0.0.1"),
  port: z.int().min(0).max(65535).default(3000),
  /** The allowlist file, JSON; read anew for each request. */
  allowlist: z.string().default("./auth-config.json"),
  log_level: z.enum(["debug", "info", "warning", "error"]).default("info"),
});

export type AuthConfig = z.infer<typeof authConfigSchema>;
