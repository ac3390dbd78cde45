import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** A port policy as stored; see functions/gateway/port-policy.ts. */
export interface StoredPortPolicy {
  readonly ports: readonly { readonly port: number; readonly proxyProtocol: boolean }[];
  readonly restrictMode: boolean;
}

/** The gateways of a cluster. A node writes its own row at start; `status` is the operator's. */
export const gatewayNodes = sqliteTable("gateway_nodes", {
  id: integer("id").primaryKey(),
  /** 32 hex digits. */
  uuid: text("uuid").notNull(),
  /** Of its RPC service. */
  url: text("url").notNull(),
  wgPublicKey: text("wg_public_key").notNull(),
  /** `a.b.c.d/nn`. */
  wgAddress: text("wg_address").notNull(),
  /** `host:port` CVMs dial. */
  wgEndpoint: text("wg_endpoint").notNull(),
  status: text("status", { enum: ["up", "down"] }).notNull().default("up"),
  /** Unix seconds. */
  lastSeen: integer("last_seen").notNull(),
});

/**
 * CVMs with an address in the tunnel network. The unique indexes make the database the one that
 * decides who gets an address or may use a key.
 */
export const gatewayInstances = sqliteTable("gateway_instances", {
  /** Lower-case hex. */
  instanceId: text("instance_id").primaryKey(),
  /** Lower-case hex. */
  appId: text("app_id").notNull(),
  address: text("address").notNull(),
  publicKey: text("public_key").notNull(),
  /** Unix seconds of the registration that set address and key. */
  registeredAt: integer("registered_at").notNull(),
  /** Compose hash the reported policy came with; a CVM with another one has reported nothing yet. */
  composeHash: text("compose_hash").notNull(),
  reportedPolicy: text("reported_policy", { mode: "json" }).$type<StoredPortPolicy>(),
  adminPolicy: text("admin_policy", { mode: "json" }).$type<StoredPortPolicy>(),
  /** Unix seconds of the newest handshake when it was last written; 0 never. */
  lastHandshake: integer("last_handshake").notNull().default(0),
}, (table) => [
  uniqueIndex("gateway_instances_address").on(table.address),
  uniqueIndex("gateway_instances_public_key").on(table.publicKey),
  index("gateway_instances_app_id").on(table.appId),
]);

/** Base domains CVMs are reached under; the wildcard certificate is for one level below. */
export const gatewayDomains = sqliteTable("gateway_domains", {
  /** Lower case, without `*.`. */
  domain: text("domain").primaryKey(),
  /** What clients connect to. */
  port: integer("port").notNull(),
  /** Only this node names it to CVMs; null is every node. */
  nodeId: integer("node_id"),
  priority: integer("priority").notNull(),
  createdAt: integer("created_at").notNull(),
});

/** Which certificate serves a domain. Keys stay in files. */
export const gatewayCertificates = sqliteTable("gateway_certificates", {
  domain: text("domain").primaryKey(),
  /** SHA-256 of the leaf, hex. */
  fingerprint: text("fingerprint").notNull(),
  /** Unix seconds. */
  notAfter: integer("not_after").notNull(),
  issuedBy: integer("issued_by").notNull(),
  /** Unix seconds at which this node began to serve it. */
  loadedAt: integer("loaded_at").notNull(),
});

/** What was decided and changed, append only. */
export const gatewayEvents = sqliteTable("gateway_events", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  atMs: integer("at_ms").notNull(),
  nodeId: integer("node_id").notNull(),
  /** e.g. `cvm.registered`, `cvm.refused`, `policy.set`. */
  kind: text("kind").notNull(),
  appId: text("app_id").notNull(),
  instanceId: text("instance_id").notNull(),
  /** Stable code; empty where nothing was refused. */
  reason: text("reason").notNull(),
  detail: text("detail").notNull(),
}, (table) => [
  index("gateway_events_instance").on(table.instanceId, table.id),
]);
