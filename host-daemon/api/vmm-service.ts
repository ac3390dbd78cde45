import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { parseAppCompose } from "#core/compose/app-compose.ts";
import { composeHash } from "#core/compose/identity.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { PrpcClient } from "#core/rpc/client.ts";
import type { KMS } from "#core/rpc/gen/kms_pb.ts";
import type { ResizeVmRequest, UpdateVmRequest, Vmm as VmmService } from "#core/rpc/gen/vmm_pb.ts";
import type { PrpcHandlers } from "#core/rpc/server.ts";
import type { DstackdConfig } from "../config.ts";
import type { ImageStore } from "../images/image-store.ts";
import { requireNoGpu } from "../vmm/cvm-request.ts";
import type { Inventory } from "../vmm/inventory.ts";
import { requireCvmName, requireImageName } from "../vmm/vm-id.ts";
import type { Vmm } from "../vmm/vmm.ts";
import { type CvmStatus, statusOf } from "./cvm-status.ts";

export interface VmmServicePorts {
  readonly config: DstackdConfig;
  readonly version: AppVersion;
  readonly vmm: Vmm;
  readonly inventory: Inventory;
  readonly images: ImageStore;
  readonly status: CvmStatus;
  /** Undefined when no KMS is configured. */
  readonly kms: PrpcClient<typeof KMS> | undefined;
}

/** `vmm.Vmm` (spec/vmm.md section 3.2). Methods of other issues are absent: `Method not found`. */
export function vmmHandlers(ports: VmmServicePorts): PrpcHandlers<typeof VmmService, void> {
  const { config, vmm, inventory, images, status } = ports;
  const update = (request: UpdateVmRequest) => {
    requireNoGpu(request.gpus);
    return vmm.update(request.id, {
      composeFile: request.composeFile,
      encryptedEnv: request.encryptedEnv,
      userConfig: request.userConfig,
      vcpu: request.vcpu,
      memory: request.memory,
      diskSize: request.diskSize,
      image: request.image,
      noTee: request.noTee,
      ports: request.updatePorts ? request.ports : undefined,
      kmsUrls: request.updateKmsUrls ? request.kmsUrls : undefined,
      gatewayUrls: request.updateGatewayUrls ? request.gatewayUrls : undefined,
      networks: request.updateNetworking ? request.networks : undefined,
    });
  };
  return {
    createVm: async (request) => ({ id: await vmm.create(request) }),
    startVm: async ({ id }) => {
      await vmm.start(id);
      return {};
    },
    stopVm: async ({ id }) => {
      await vmm.stop(id);
      return {};
    },
    removeVm: async ({ id }) => {
      await vmm.remove(id);
      return {};
    },
    shutdownVm: async ({ id }) => {
      await vmm.shutDown(id);
      return {};
    },
    updateVm: async (request) => ({ id: await update(request) }),
    upgradeApp: async (request) => ({ id: await update(request) }),
    resizeVm: async (request) => {
      requireResize(request);
      const { id, vcpu, memory, diskSize, image } = request;
      const nothing = { composeFile: "", encryptedEnv: new Uint8Array(), userConfig: "" };
      await vmm.update(id, { ...nothing, vcpu, memory, diskSize, image });
      return {};
    },
    getComposeHash: ({ name, composeFile }) => {
      requireCvmName(name);
      const bytes = utf8(composeFile);
      parseAppCompose(bytes);
      return { hash: toHex(composeHash(bytes)) };
    },
    status: async ({ ids, brief, keyword, page, pageSize }) => {
      const found = inventory.all().filter(({ cvm }) =>
        (ids.length === 0 || ids.includes(cvm.id)) &&
        [cvm.name, cvm.id, cvm.appId, cvm.image].some((text) => text.includes(keyword))
      );
      const all = page === 0 || pageSize === 0;
      const shown = all ? found : found.slice((page - 1) * pageSize, page * pageSize);
      return {
        vms: await status.describe(shown, brief),
        portMappingEnabled: config.cvm.port_mapping.enabled,
        total: found.length,
      };
    },
    getInfo: async ({ id }) => {
      const entry = inventory.find(id);
      if (entry === undefined) return { found: false };
      const [info] = await status.describe([entry], false);
      return { found: true, info };
    },
    listImages: async () => ({
      images: (await images.list()).map(({ name, metadata, version, isDev }) => ({
        name,
        description: metadata,
        version,
        isDev,
      })),
    }),
    deleteImage: async ({ id }) => {
      const name = requireImageName(id);
      const user = inventory.all().find(({ cvm }) => cvm.image === name);
      if (user !== undefined) {
        throw new AppError(
          "resource/conflict",
          `cannot delete image '${name}': in use by VM '${user.cvm.id}'`,
        );
      }
      await images.remove(name);
      return {};
    },
    getAppEnvEncryptPubKey: async ({ appId }) => {
      if (ports.kms === undefined) {
        throw new AppError("input/unsupported", "KMS is not configured");
      }
      const { publicKey, signature, timestamp, signatureV1 } = await ports.kms
        .getAppEnvEncryptPubKey({ appId });
      return { publicKey, signature, timestamp, signatureV1 };
    },
    version: () => ports.version,
    getMeta: () => {
      const { cvm, gateway } = config;
      return {
        kms: { url: cvm.kms_urls[0] ?? "", urls: cvm.kms_urls },
        gateway: {
          url: cvm.gateway_urls[0] ?? "",
          urls: cvm.gateway_urls,
          baseDomain: gateway.base_domain,
          port: gateway.port,
          agentPort: gateway.agent_port,
        },
        resources: {
          maxCvmNumber: cvm.cid_pool_size,
          maxAllocableVcpu: cvm.max_allocable_vcpu,
          maxAllocableMemoryInMb: cvm.max_allocable_memory_in_mb,
        },
        networking: {
          supportedModes: cvm.networking.bridge === "" ? ["user"] : ["user", "bridge"],
          defaultMode: cvm.networking.mode,
          defaultBridge: cvm.networking.bridge,
        },
      };
    },
    listGpus: () => ({ gpus: [], allowAttachAll: false }),
    svList: () => ({
      processes: inventory.all().filter(({ run }) => run !== undefined).map((entry) => ({
        id: entry.cvm.id,
        name: entry.cvm.name,
        status: entry.running ? "running" : statusOf(entry) === "stopped" ? "stopped" : "exited(0)",
        pid: entry.running ? entry.run?.pid : undefined,
        command: config.cvm.qemu_path,
        note: "",
      })),
    }),
  };
}

function requireResize({ vcpu, memory, diskSize, image }: ResizeVmRequest): void {
  const refuse = (why: string) => new AppError("input/malformed", why);
  if ([vcpu, memory, diskSize, image].every((value) => value === undefined)) {
    throw refuse("resize request contains no updates");
  }
  for (const [name, value] of Object.entries({ vcpu, memory, disk_size: diskSize })) {
    if (value === 0) throw refuse(`${name} must be greater than zero`);
  }
  if (image === "") throw refuse("image must not be empty");
}
