import { z } from "@hono/zod-openapi";

const hex = (maxBytes: number) =>
  z.string().regex(new RegExp(`^(0x)?([0-9a-fA-F]{2}){0,${maxBytes}}$`), {
    message: `must be hex of at most ${maxBytes} bytes`,
  });

/** What a KMS says about a booting VM (kms.md 6.2). Unknown members are ignored. */
export const bootInfoSchema = z.object({
  teeVariant: z.string().max(64).default(""),
  mrAggregated: hex(32),
  mrSystem: hex(32).default(""),
  osImageHash: hex(32),
  appId: hex(20),
  composeHash: hex(32),
  instanceId: hex(20),
  /** 64 bytes on SEV-SNP. */
  deviceId: hex(64),
  keyProviderInfo: hex(4096).default(""),
  tcbStatus: z.string().max(128).default(""),
  advisoryIds: z.array(z.string().max(256)).max(128).default([]),
}).openapi("BootInfo");

export type BootInfo = z.infer<typeof bootInfoSchema>;

export const decisionSchema = z.object({
  isAllowed: z.boolean(),
  /** App id of the gateway that apps may trust. */
  gatewayAppId: z.string(),
  /** Empty when allowed. */
  reason: z.string(),
  rule: z.string().optional().openapi({ description: "What decided" }),
  code: z.string().optional().openapi({
    description: "Why nothing could be decided, a stable code",
  }),
  remedy: z.string().optional().openapi({ description: "What would change a denial" }),
  block: z.object({ number: z.int(), hash: z.string() }).optional().openapi({
    description: "Where an on-chain decision was read",
  }),
}).openapi("BootDecision");

export type BootDecision = z.infer<typeof decisionSchema>;
