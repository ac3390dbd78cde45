import { z } from "zod";

const port = z.int().min(1).max(65535);
const url = z.url({ protocol: /^https?$/ });
const urls = z.array(url);
/** A reference setting that has no effect here yet: only its neutral value is accepted. */
const only = <const T extends string | number | boolean>(value: T) =>
  z.literal(value).default(value);

const portRange = z.strictObject({
  protocol: z.enum(["tcp", "udp"]),
  from: port,
  to: port,
}).refine((range) => range.from <= range.to, "from must not be above to");

/** 20 optional SMBIOS strings, spec/vmm.md section 7.1. */
const smbios = z.string().regex(/^[^,=\p{Cc}]*$/u, "must not hold ',' or '='").default("");

const product = z.strictObject({
  bios_vendor: smbios,
  bios_version: smbios,
  bios_date: smbios,
  bios_release: smbios,
  sys_vendor: smbios.default("dstack"),
  product_name: smbios.default("dstack"),
  product_version: smbios,
  product_serial: smbios,
  product_uuid: smbios,
  product_family: smbios,
  product_sku: smbios,
  board_vendor: smbios,
  board_name: smbios,
  board_version: smbios,
  board_serial: smbios,
  board_asset_tag: smbios,
  chassis_vendor: smbios,
  chassis_version: smbios,
  chassis_serial: smbios,
  chassis_asset_tag: smbios,
});

const networking = z.strictObject({
  mode: z.enum(["user", "bridge"]).default("user"),
  net: z.cidrv4().default("10.0.2.0/24"),
  dhcp_start: z.ipv4().default("10.0.2.10"),
  restrict: z.boolean().default(false),
  bridge: z.string().regex(/^[A-Za-z0-9_.-]{0,15}$/).default(""),
  mac_prefix: z.string().regex(/^$|^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){0,2}$/).default(""),
}).refine((n) => n.mode !== "bridge" || n.bridge !== "", "mode bridge needs a bridge");

const cvm = z.strictObject({
  /** `auto`: TDX where /dev/kvm and the kernel offer it, else the simulated TEE. */
  platform: z.enum(["auto", "tdx", "simulated"]).default("auto"),
  /** `auto`: KVM where it really runs a guest, else TCG. */
  accelerator: z.enum(["auto", "kvm", "tcg"]).default("auto"),
  qemu_path: z.string().default(""),
  kms_urls: urls.default([]),
  gateway_urls: urls.default([]),
  pccs_url: z.union([z.literal(""), url]).default(""),
  docker_registry: z.string().default(""),
  nvidia_attestation_proxy_url: url.optional(),
  cid_start: z.int().min(3).default(1000),
  cid_pool_size: z.int().min(1).default(1000),
  max_allocable_vcpu: z.int().min(1).default(20),
  max_allocable_memory_in_mb: z.int().min(1).default(100_000),
  qmp_socket: only(true),
  user: only(""),
  use_mrconfigid: only(true),
  qemu_pci_hole64_size: z.int().min(0).default(0),
  qemu_hotplug_off: z.boolean().default(false),
  tdx_attestation_variant: z.enum(["auto", "lite"]).default("auto"),
  host_share_mode: only("vhd"),
  qgs_port: port.default(4050),
  product: product.prefault({}),
  networking: networking.prefault({}),
  port_mapping: z.strictObject({
    enabled: z.boolean().default(false),
    address: z.union([z.ipv4(), z.ipv6()]).default("127.0.0.1"),
    range: z.array(portRange).default([{ protocol: "tcp", from: 1, to: 20_000 }]),
  }).prefault({}),
  auto_restart: z.strictObject({
    enabled: z.boolean().default(true),
    interval: z.number().positive().default(20),
    max_retries: z.int().min(0).default(5),
    initial_backoff: z.number().positive().default(5),
    max_backoff: z.number().positive().default(300),
    reset_window: z.number().positive().default(300),
  }).refine((r) => r.initial_backoff <= r.max_backoff, "initial_backoff is above max_backoff")
    .prefault({}),
  /** Bytes, kept files and seconds; 0 bytes rotates at each boot only. */
  log: z.strictObject({
    max_bytes: z.int().min(0).default(4 * 1024 * 1024),
    check_interval_secs: z.number().positive().default(5),
    max_backups: z.int().min(0).max(100).default(3),
  }).prefault({}),
});

/** `dstackd.toml`: the reference's key names (spec/vmm.md section 9), defaults ours where they must be. */
export const dstackdConfig = z.strictObject({
  /** `unix:PATH` or `IP:PORT`, or an IP with `port`. */
  address: z.string().default("unix:./dstackd.sock"),
  port: port.optional(),
  kms_url: z.union([z.literal(""), url]).default(""),
  /** Check of the certificate of `kms_url`; PEM file. Empty: accept any, as the reference does. */
  kms_ca: z.string().default(""),
  event_buffer_size: z.int().min(1).max(10_000).default(100),
  node_name: z.string().default(""),
  run_path: z.string().default("~/.dstack-vmm/vm"),
  /** Database, simulated TEE and other state; empty: the directory above run_path. */
  state_path: z.string().default(""),
  image: z.strictObject({ path: z.string().default("~/.dstack-vmm/image") }).prefault({}),
  cvm: cvm.prefault({}),
  gateway: z.strictObject({
    base_domain: z.string().default("localhost"),
    port: port.default(8082),
    agent_port: port.default(8090),
  }).prefault({}),
  auth: z.strictObject({
    enabled: z.boolean().default(false),
    tokens: z.array(z.string()).default([]),
  }).prefault({}),
  host_api: z.strictObject({
    /** Where guests on user networking reach the host as 10.0.2.2. */
    address: z.ipv4().default("127.0.0.1"),
    port: port.default(10_000),
  }).prefault({}),
});

export type DstackdConfig = z.infer<typeof dstackdConfig>;
