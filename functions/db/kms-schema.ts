import { index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * One row for each decision of a KMS about releasing keys or certificates. What the evidence says
 * (everything from `tee` on) is empty when it could not be read, and proven only where the decision
 * is `released`. Bytes are lower-case hex.
 */
export const kmsDecisions = sqliteTable("kms_decisions", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  decidedAtMs: integer("decided_at_ms").notNull(),
  requestId: text("request_id").notNull(),
  /** RPC method: GetAppKey, GetKmsKey, SignCert, Bootstrap; a certificate issued by hand: IssueCert. */
  method: text("method").notNull(),
  outcome: text("outcome", { enum: ["released", "denied"] }).notNull(),
  /** Stable code; empty when released. */
  reason: text("reason").notNull(),
  detail: text("detail").notNull(),
  tee: text("tee").notNull(),
  simulated: integer("simulated", { mode: "boolean" }).notNull(),
  trustAnchor: text("trust_anchor").notNull(),
  appId: text("app_id").notNull(),
  instanceId: text("instance_id").notNull(),
  composeHash: text("compose_hash").notNull(),
  deviceId: text("device_id").notNull(),
  osImageHash: text("os_image_hash").notNull(),
  mrSystem: text("mr_system").notNull(),
  mrAggregated: text("mr_aggregated").notNull(),
  tcbStatus: text("tcb_status").notNull(),
  advisoryIds: text("advisory_ids", { mode: "json" }).$type<readonly string[]>().notNull(),
  evidenceDigest: text("evidence_digest").notNull(),
}, (table) => [
  index("kms_decisions_app_id").on(table.appId, table.id),
]);
