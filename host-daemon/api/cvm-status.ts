import type { MessageInitShape } from "@bufbuild/protobuf";
import { fromHex, fromUtf8 } from "#core/bytes/bytes.ts";
import { parseAppCompose } from "#core/compose/app-compose.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { VmInfoSchema } from "#core/rpc/gen/vmm_pb.ts";
import type { DstackdConfig } from "../config.ts";
import type { Cvm, CvmEvent } from "../db/cvm-store.ts";
import { definedMembers } from "./defined-members.ts";
import { formatDuration } from "../vmm/duration.ts";
import type { Entry } from "../vmm/inventory.ts";
import type { Launcher } from "../vmm/launcher.ts";
import { macAddress } from "../vmm/mac-address.ts";

export type VmInfoInit = MessageInitShape<typeof VmInfoSchema>;

export interface StatusPorts {
  readonly config: DstackdConfig;
  readonly launcher: Launcher;
  /** Versions of images by name, as far as they can be read. */
  readonly imageVersions: () => Promise<ReadonlyMap<string, string>>;
  /** Oldest first. */
  readonly events: (ids: readonly string[]) => Promise<CvmEvent[]>;
  readonly now: () => Date;
}

export type CvmState = "running" | "exited" | "stopping" | "stopped" | "removing";

/** Desired and actual state as one word (spec/vmm.md section 3.6). */
export function statusOf(entry: Entry): CvmState {
  if (entry.cvm.removing) return "removing";
  if (entry.cvm.started) return entry.running ? "running" : "exited";
  return entry.running ? "stopping" : "stopped";
}

/** `vmm.VmInfo` of CVMs. */
export class CvmStatus {
  readonly #ports: StatusPorts;
  /** Whether the app with this compose hash is reached through a gateway. */
  readonly #gatewayEnabled = new Map<string, boolean>();

  constructor(ports: StatusPorts) {
    this.#ports = ports;
  }

  async describe(entries: readonly Entry[], brief: boolean): Promise<VmInfoInit[]> {
    const versions = await this.#ports.imageVersions();
    const events = new Map<string, CvmEvent[]>();
    for (const event of await this.#ports.events(entries.map(({ cvm }) => cvm.id))) {
      if (!events.has(event.cvmId)) events.set(event.cvmId, []);
      events.get(event.cvmId)!.push(event);
    }
    return await Promise.all(
      entries.map((entry) =>
        this.#describe(
          entry,
          versions.get(entry.cvm.image) ?? "",
          events.get(entry.cvm.id) ?? [],
          brief,
        )
      ),
    );
  }

  async #describe(
    entry: Entry,
    imageVersion: string,
    events: readonly CvmEvent[],
    brief: boolean,
  ): Promise<VmInfoInit> {
    const { cvm, run } = entry;
    const now = this.#ports.now().getTime();
    const ago = (ms: number | null | undefined) =>
      ms === null || ms === undefined ? "never" : formatDuration(now - ms);
    return definedMembers({
      id: cvm.id,
      name: cvm.name,
      status: statusOf(entry),
      uptime: ago(run?.startedAtMs),
      appUrl: await this.#appUrl(cvm),
      appId: cvm.appId,
      instanceId: cvm.instanceId === "" ? undefined : cvm.instanceId,
      configuration: brief ? undefined : await this.#configuration(cvm),
      exitedAt: ago(run?.exitedAtMs),
      bootProgress: cvm.bootProgress,
      bootError: cvm.bootError,
      shutdownProgress: cvm.shutdownProgress,
      imageVersion,
      events: events.map(({ event, body, timestampMs }) => ({
        event,
        body,
        timestamp: BigInt(timestampMs),
      })),
      interfaces: this.#interfaces(cvm),
    });
  }

  async #configuration(cvm: Cvm): Promise<VmInfoInit["configuration"]> {
    const directory = this.#ports.launcher.workDirectory(cvm.id);
    const empty = new Uint8Array();
    const [compose, encryptedEnv, userConfig] = await Promise.all([
      directory.readShared("app-compose.json"),
      directory.readShared(".encrypted-env"),
      directory.readShared(".user-config"),
    ]);
    const networks = cvm.networks.map(({ mode, bridge }) => ({ mode, bridgeName: bridge }));
    const simulated = this.#ports.launcher.teeOf(cvm.noTee) === "simulated";
    return definedMembers({
      name: cvm.name,
      image: cvm.image,
      composeFile: fromUtf8(compose ?? empty, "app-compose.json"),
      vcpu: cvm.vcpu,
      memory: cvm.memoryMib,
      diskSize: cvm.diskGib,
      ports: cvm.portMappings,
      encryptedEnv: encryptedEnv ?? empty,
      appId: cvm.appId,
      userConfig: fromUtf8(userConfig ?? empty, ".user-config"),
      kmsUrls: cvm.kmsUrls,
      gatewayUrls: cvm.gatewayUrls,
      stopped: !cvm.started,
      noTee: cvm.noTee,
      networking: networks[0],
      networks,
      simulatedTee: simulated ? "dstack-tdx" : undefined,
    });
  }

  #interfaces(cvm: Cvm): VmInfoInit["interfaces"] {
    const { networking } = this.#ports.config.cvm;
    const prefix = fromHex(networking.mac_prefix.replaceAll(":", ""), "mac_prefix");
    const networks = cvm.networks.length > 0 ? cvm.networks : [networking];
    return networks.map(({ mode, bridge }, i) =>
      definedMembers({
        mode,
        backend: mode === "bridge" ? "tap_bridge" : "slirp",
        mac: macAddress(cvm.id, i, prefix),
        bridgeName: mode === "bridge" ? bridge : undefined,
        netdevId: `net${i}`,
      })
    );
  }

  /** Where the gateway serves port 80 of the app: `https://<instance>.<host>[:<port>]`. */
  gatewayUrl(cvm: Cvm): Promise<string | undefined> {
    return this.#gatewayName(cvm, "");
  }

  /** The reference's `app_url`, the page of the guest's agent. */
  #appUrl(cvm: Cvm): Promise<string | undefined> {
    return this.#gatewayName(cvm, `-${this.#ports.config.gateway.agent_port}`);
  }

  async #gatewayName(cvm: Cvm, suffix: string): Promise<string | undefined> {
    if (cvm.instanceId === "" || !(await this.#isGatewayEnabled(cvm))) return undefined;
    const { gateway } = this.#ports.config;
    const own = cvm.gatewayUrls[0];
    const url = own === undefined ? undefined : new URL(own);
    const host = url === undefined ? gateway.base_domain : url.hostname;
    const port = url === undefined ? gateway.port : Number(url.port === "" ? 443 : url.port);
    return `https://${cvm.instanceId}${suffix}.${host}${port === 443 ? "" : `:${port}`}`;
  }

  async #isGatewayEnabled(cvm: Cvm): Promise<boolean> {
    let enabled = this.#gatewayEnabled.get(cvm.composeHash);
    if (enabled !== undefined) return enabled;
    const directory = this.#ports.launcher.workDirectory(cvm.id);
    const compose = await directory.readShared("app-compose.json");
    try {
      enabled = compose !== undefined && parseAppCompose(compose).gatewayEnabled;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      enabled = false; // changed on disk; its next start says so
    }
    this.#gatewayEnabled.set(cvm.composeHash, enabled);
    return enabled;
  }
}
