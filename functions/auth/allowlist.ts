import { z } from "@hono/zod-openapi";
import { AppError } from "#core/errors/app-error.ts";

const ZERO_ADDRESS = `0x${"0".repeat(40)}`;

/** Hex of exactly `bytes` bytes, either case, `0x` or not; read as lower-case digits. */
const digits = (bytes: number) =>
  z.string().regex(
    new RegExp(`^(0[xX])?[0-9a-fA-F]{${2 * bytes}}$`),
    `must be ${bytes} bytes of hex`,
  )
    .transform(normalizeHex);
/** 32 bytes; 64 on SEV-SNP, where a KMS sends the chip id itself. */
const device = z.string().regex(/^(0[xX])?([0-9a-fA-F]{64}|[0-9a-fA-F]{128})$/, {
  message: "must be 32 or 64 bytes of hex",
}).transform(normalizeHex);

const kmsSchema = z.strictObject({
  mrAggregated: z.array(digits(32)).default([]),
  devices: z.array(device).default([]),
  allowAnyDevice: z.boolean().default(false),
});

const appSchema = z.strictObject({
  composeHashes: z.array(digits(32)).default([]),
  devices: z.array(device).default([]),
  allowAnyDevice: z.boolean().default(false),
});

/** The file of the reference's auth-simple (kms.md 6.4), with unknown members refused. */
const allowlistSchema = z.strictObject({
  gatewayAppId: z.string().default(""),
  kmsContractAddr: z.string().default(ZERO_ADDRESS),
  chainId: z.number().int().nonnegative().default(0),
  appImplementation: z.string().default(ZERO_ADDRESS),
  osImages: z.array(digits(32)).default([]),
  allowedTcbStatuses: z.array(z.string()).default(["UpToDate"]),
  allowedAdvisoryIds: z.array(z.string()).default([]),
  kms: kmsSchema.default(() => kmsSchema.parse({})),
  apps: z.record(digits(20), appSchema).default({}),
  /** Ours: grows with each version, so that an old file does not come back. */
  sequence: z.number().int().nonnegative().optional(),
  /** Ours: after this time the file denies everything. */
  validUntil: z.iso.datetime({ offset: true }).optional(),
});

/** Who may boot. Hex values are lower-case digits without a prefix. */
export type Allowlist = z.infer<typeof allowlistSchema>;

/** Parses the text of an allowlist file. Throws `config/invalid`, naming every fault. */
export function parseAllowlist(text: string): Allowlist {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new AppError("config/invalid", "Allowlist is not JSON", { cause });
  }
  const parsed = allowlistSchema.safeParse(document);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) =>
      path.length === 0 ? message : `${path.join(".")}: ${message}`
    );
    throw new AppError("config/invalid", `Allowlist is invalid: ${faults.join("; ")}`);
  }
  const listed = Object.keys((document as { apps?: object }).apps ?? {});
  if (listed.length !== Object.keys(parsed.data.apps).length) {
    throw new AppError("config/invalid", "Allowlist is invalid: apps: an app id is listed twice");
  }
  return parsed.data;
}

/** Lower-case digits without `0x`, the form both sides of a comparison take. */
export function normalizeHex(text: string): string {
  return text.replace(/^0[xX]/, "").toLowerCase();
}
