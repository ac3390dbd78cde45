import { blob, index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** A published port as stored; `hostAddress` is an IP address, never a name. */
export interface StoredPortMapping {
  protocol: "tcp" | "udp";
  hostAddress: string;
  hostPort: number;
  vmPort: number;
}

/** A resolved network interface as stored. */
export interface StoredNetwork {
  mode: "user" | "bridge";
  /** Bridge interface; empty in mode `user`. */
  bridge: string;
}

/** What operators asked for, and what the guest reported about itself. */
export const cvms = sqliteTable("cvms", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  /** Hex as requested, without 0x; 40 digits unless a caller pinned something else. */
  appId: text("app_id").notNull(),
  /** SHA-256 of shared/app-compose.json when it was last set through the API. */
  composeHash: text("compose_hash").notNull(),
  image: text("image").notNull(),
  vcpu: integer("vcpu").notNull(),
  memoryMib: integer("memory_mib").notNull(),
  diskGib: integer("disk_gib").notNull(),
  portMappings: text("port_mappings", { mode: "json" }).$type<StoredPortMapping[]>().notNull(),
  kmsUrls: text("kms_urls", { mode: "json" }).$type<string[]>().notNull(),
  gatewayUrls: text("gateway_urls", { mode: "json" }).$type<string[]>().notNull(),
  /** Empty: one interface of the node's default mode. */
  networks: text("networks", { mode: "json" }).$type<StoredNetwork[]>().notNull(),
  noTee: integer("no_tee", { mode: "boolean" }).notNull(),
  /** Desired state. */
  started: integer("started", { mode: "boolean" }).notNull(),
  removing: integer("removing", { mode: "boolean" }).notNull(),
  /** Bearer token of the guest at the Host API, 32 bytes in hex; a secret. */
  hostApiToken: text("host_api_token").notNull(),
  instanceId: text("instance_id").notNull(),
  bootProgress: text("boot_progress").notNull(),
  bootError: text("boot_error").notNull(),
  shutdownProgress: text("shutdown_progress").notNull(),
  createdAtMs: integer("created_at_ms").notNull(),
});

/** The last QEMU process of a CVM: enough to recognise it after dstackd was killed. */
export const cvmRuns = sqliteTable("cvm_runs", {
  cvmId: text("cvm_id").primaryKey().references(() => cvms.id, { onDelete: "cascade" }),
  pid: integer("pid").notNull(),
  /** Field 22 of /proc/<pid>/stat: clock ticks since the host booted. */
  startTicks: text("start_ticks").notNull(),
  /** /proc/sys/kernel/random/boot_id: ticks and pids mean nothing in another boot. */
  hostBootId: text("host_boot_id").notNull(),
  accelerator: text("accelerator").notNull(),
  tee: text("tee").notNull(),
  /** Loopback port forwarded to the guest agent's public server (guest port 8090). */
  agentPort: integer("agent_port").notNull(),
  /** Loopback port forwarded to the guest API (guest port 8000). */
  guestApiPort: integer("guest_api_port").notNull(),
  startedAtMs: integer("started_at_ms").notNull(),
  exitedAtMs: integer("exited_at_ms"),
});

/** Boot progress and life cycle events, kept beyond a restart of dstackd. */
export const cvmEvents = sqliteTable("cvm_events", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  cvmId: text("cvm_id").notNull().references(() => cvms.id, { onDelete: "cascade" }),
  event: text("event").notNull(),
  body: text("body").notNull(),
  timestampMs: integer("timestamp_ms").notNull(),
}, (table) => [index("cvm_events_by_cvm").on(table.cvmId, table.id)]);

/** Registers of a VM whose TEE this host simulates; 48 bytes each in hex. */
export const simulatedTds = sqliteTable("simulated_tds", {
  cvmId: text("cvm_id").primaryKey().references(() => cvms.id, { onDelete: "cascade" }),
  mrTd: text("mr_td").notNull(),
  mrConfigId: text("mr_config_id").notNull(),
  rtmr0: text("rtmr0").notNull(),
  rtmr1: text("rtmr1").notNull(),
  rtmr2: text("rtmr2").notNull(),
  rtmr3: text("rtmr3").notNull(),
  /** CCEL: the TCG log of RTMR0 to RTMR2 as firmware and boot stub would have left it. */
  ccel: blob("ccel", { mode: "buffer" }).$type<Uint8Array>().notNull(),
});
