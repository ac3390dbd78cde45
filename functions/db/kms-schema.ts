import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * One row for each decision of a KMS about releasing keys or certificates, in a hash chain: rows are
 * added, never changed. Ids begin at 1 and have no gaps. What the evidence says
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
  /** What the auth service says decided: `allowlist`, or the contract's address; empty if it does not. */
  rule: text("rule").notNull().default(""),
  /** The newest epoch of the keys released; 0 where none were. */
  epoch: integer("epoch").notNull().default(0),
  /** The block that an on-chain decision was read at. */
  blockNumber: integer("block_number"),
  blockHash: text("block_hash").notNull().default(""),
  /** RFC 6962 leaf hash of the row's canonical JSON. */
  leafHash: text("leaf_hash").notNull().default(""),
  /** SHA-256 of the chain hash before (zeros for the first) and the leaf hash. */
  chainHash: text("chain_hash").notNull().default(""),
}, (table) => [
  index("kms_decisions_app_id").on(table.appId, table.id),
]);

/** Roots of whole subtrees of 256 leaves each, so that proofs need not read every row. */
export const kmsLogTiles = sqliteTable("kms_log_tiles", {
  /** Leaves 256 * tile to 256 * tile + 255. */
  tile: integer("tile").primaryKey(),
  hash: text("hash").notNull(),
});

/** The epochs of the root keys, by their public halves. Every KMS on this database has them all. */
export const kmsEpochs = sqliteTable("kms_epochs", {
  epoch: integer("epoch").primaryKey(),
  /** DER SubjectPublicKeyInfo. */
  caPublicKey: text("ca_public_key").notNull(),
  /** 33 bytes, compressed. */
  k256PublicKey: text("k256_public_key").notNull(),
  createdAtMs: integer("created_at_ms").notNull(),
});

/** Up to which epoch an instance has re-wrapped what it keeps: older keys are no longer for it. */
export const kmsInstanceEpochs = sqliteTable("kms_instance_epochs", {
  appId: text("app_id").notNull(),
  /** Empty for apps whose instances share their keys. */
  instanceId: text("instance_id").notNull(),
  epoch: integer("epoch").notNull(),
  updatedAtMs: integer("updated_at_ms").notNull(),
}, (table) => [primaryKey({ columns: [table.appId, table.instanceId] })]);
