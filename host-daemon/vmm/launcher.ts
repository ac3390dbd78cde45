import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { composeHash } from "#core/compose/identity.ts";
import { mrConfigIdV1 } from "#core/compose/mr-config.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { DstackdConfig } from "../config.ts";
import type { CvmRun } from "../db/cvm-store.ts";
import type { StoredNetwork } from "../db/schema.ts";
import type { SimulatedTds } from "../host-api/simulated-td.ts";
import { type GuestImage, teeOfCommandLine } from "../images/guest-image.ts";
import type { ImageStore } from "../images/image-store.ts";
import {
  type HostForward,
  monitorArgument,
  type NicLaunch,
  qemuArgv,
  type TeeLaunch,
} from "../qemu/argv.ts";
import type { QmpClient } from "../qemu/qmp.ts";
import type { Entry } from "./inventory.ts";
import { macAddress } from "./mac-address.ts";
import type { HostFiles, ProcessIdentity, VmRunner } from "./ports.ts";
import { smbiosStrings } from "./smbios.ts";
import { encodeSysConfig, type SysConfigInput, vmConfigOf } from "./sys-config.ts";
import { WorkDirectory } from "./work-directory.ts";

/** What this host was found to be able to do. */
export interface HostPlatform {
  readonly tee: "tdx" | "simulated";
  readonly qemuPath: string;
  readonly qemuVersion: string;
  /** Whether guests can have a vsock device. */
  readonly vsock: boolean;
  /** KVM where it really runs this kernel, else TCG. */
  readonly accelerator: (kernel: string) => Promise<"kvm" | "tcg">;
  /** The file an emulated VM starts for this kernel: the same code, unpacked where it can be. */
  readonly emulatedKernel: (kernel: string) => Promise<string>;
}

export interface LauncherPorts {
  readonly files: HostFiles;
  readonly runner: VmRunner;
  readonly images: ImageStore;
  /** Present when `platform.tee` is simulated. */
  readonly simulatedTds: SimulatedTds | undefined;
  readonly platform: HostPlatform;
  readonly now: () => Date;
}

/** Guest ports dstackd itself reaches through hidden loopback forwards. */
const GUEST_AGENT_PORT = 8090;
const GUEST_API_PORT = 8000;
/** QEMU opens its monitor before it runs the guest. */
const MONITOR_TIMEOUT_MS = 15_000;
const POLL_MS = 50;

/** Makes a VM's files and starts its QEMU. Knows nothing of desired states or queues. */
export class Launcher {
  readonly #config: DstackdConfig;
  readonly #runPath: string;
  readonly #ports: LauncherPorts;

  constructor(config: DstackdConfig, runPath: string, ports: LauncherPorts) {
    this.#config = config;
    this.#runPath = runPath;
    this.#ports = ports;
  }

  workDirectory(vmId: string): WorkDirectory {
    return new WorkDirectory(this.#runPath, vmId, this.#ports.files);
  }

  /** The TEE of a CVM on this host. */
  teeOf(noTee: boolean): "none" | "tdx" | "simulated" {
    return noTee ? "none" : this.#ports.platform.tee;
  }

  /** The simulated TEE is reached over user networking only. */
  requireNetworks(networks: readonly StoredNetwork[], noTee: boolean): void {
    const { mode } = this.#config.cvm.networking;
    const first = networks[0]?.mode ?? mode;
    if (this.teeOf(noTee) !== "simulated" || first === "user") return;
    throw new AppError(
      "input/unsupported",
      "A CVM with a simulated TEE needs user networking on its first interface",
    );
  }

  /** Refuses an image that cannot run under this host's TEE before anything is made. */
  async requireImage(name: string, noTee: boolean): Promise<GuestImage> {
    const image = await this.#ports.images.load(name);
    const wanted = teeOfCommandLine(image.commandLine);
    const tee = this.teeOf(noTee);
    const driver = tee === "simulated" ? "sim" : tee;
    if (wanted !== undefined && wanted !== driver && tee !== "none") {
      throw new AppError(
        "host/tee-unavailable",
        `Image ${name} is built for TEE '${wanted}', this host offers '${driver}'`,
        { fields: { wanted, offered: driver } },
      );
    }
    if (tee !== "none" && image.tdxMeasurement === undefined) {
      throw new AppError("image/invalid", `Image ${name} has no measurement.tdx.cbor`);
    }
    return image;
  }

  /** Kills what a dstackd that was itself killed started and could not write down. */
  async killStrays(vmId: string): Promise<void> {
    const { runner } = this.#ports;
    const strays = await runner.findByArgument(monitorArgument(this.workDirectory(vmId).path));
    for (const stray of strays) runner.kill(stray);
    while (strays.some((stray) => runner.isAlive(stray))) await wait(POLL_MS);
  }

  /**
   * Starts QEMU for `entry` and waits until its monitor answers. `began` writes the process down before
   * anything else can go wrong.
   */
  async launch(entry: Entry, began: (run: CvmRun) => Promise<void>): Promise<QmpClient> {
    const { cvm } = entry;
    const { runner, platform } = this.#ports;
    const directory = this.workDirectory(cvm.id);
    const image = await this.requireImage(cvm.image, cvm.noTee);
    await this.#requireCompose(directory, cvm.composeHash);
    for (const { protocol, hostAddress, hostPort } of cvm.portMappings) {
      await runner.requireFree(protocol, hostAddress, hostPort);
    }
    await this.killStrays(cvm.id);
    const accelerator = await platform.accelerator(image.kernel);
    const tee = this.teeOf(cvm.noTee);
    if (tee === "tdx" && accelerator !== "kvm") {
      throw new AppError("host/tee-unavailable", "TDX needs KVM, which does not work on this host");
    }
    const nics = this.#nics(cvm.id, cvm.networks);
    const sysConfig = this.#sysConfig(entry, image, nics.length);
    await directory.writeShared(".sys-config.json", encodeSysConfig(sysConfig));
    if (tee === "simulated") {
      await this.#ports.simulatedTds!.begin({
        cvmId: cvm.id,
        composeHash: cvm.composeHash,
        tdxMeasurement: image.tdxMeasurement!,
        config: vmConfigOf(sysConfig),
      });
    }
    await directory.ensureDataDisk(cvm.diskGib);
    await directory.buildShareVolume();
    await directory.beginLogs(this.#config.cvm.log.max_backups, this.#ports.now());

    const agentPort = await runner.freePort();
    const guestApiPort = await runner.freePort();
    const argv = qemuArgv({
      qemuPath: platform.qemuPath,
      accelerator,
      tee: this.#teeLaunch(tee, cvm.composeHash),
      workDir: directory.path,
      ...(tee === "tdx" && image.firmware !== undefined ? { firmware: image.firmware } : {}),
      kernel: accelerator === "tcg" ? await platform.emulatedKernel(image.kernel) : image.kernel,
      initrd: image.initrd,
      commandLine: image.commandLine,
      rootfs: image.rootfs,
      volumes: [],
      nics,
      forwards: [
        ...cvm.portMappings,
        loopback(agentPort, GUEST_AGENT_PORT),
        loopback(guestApiPort, GUEST_API_PORT),
      ],
      smbios: smbiosStrings(this.#config.cvm.product),
      hostShare: "vhd",
      sharedReadOnly: image.sharedReadOnly,
      hotplugOff: this.#config.cvm.qemu_hotplug_off,
      pciHole64Size: BigInt(this.#config.cvm.qemu_pci_hole64_size),
      vcpus: cvm.vcpu,
      memoryMib: cvm.memoryMib,
    });
    const identity = await runner.launch(argv, {
      cwd: directory.path,
      stdoutPath: directory.log("stdout"),
      stderrPath: directory.log("stderr"),
    });
    await began({
      cvmId: cvm.id,
      ...identity,
      accelerator,
      tee,
      agentPort,
      guestApiPort,
      startedAtMs: this.#ports.now().getTime(),
      exitedAtMs: null,
    });
    return await this.#awaitMonitor(directory, identity);
  }

  /** The compose text on disk must be the one the CVM was created or updated with. */
  async #requireCompose(directory: WorkDirectory, expectedHash: string): Promise<void> {
    const bytes = await directory.readShared("app-compose.json");
    if (bytes !== undefined && toHex(composeHash(bytes)) === expectedHash) return;
    throw new AppError(
      "cvm/compose-changed",
      bytes === undefined
        ? "app-compose.json of this CVM is missing"
        : "app-compose.json was changed on the host after the CVM was created",
      { fields: { expected: expectedHash } },
    );
  }

  #sysConfig(entry: Entry, image: GuestImage, nicCount: number): SysConfigInput {
    const { cvm } = entry;
    const { cvm: node, host_api } = this.#config;
    const hostApi = `http://${hostAddressOn(node.networking.net)}:${host_api.port}`;
    const simulated = this.teeOf(cvm.noTee) === "simulated";
    return {
      image,
      vcpus: cvm.vcpu,
      memoryMib: cvm.memoryMib,
      nicCount,
      qemuVersion: this.#ports.platform.qemuVersion,
      pciHole64Size: node.qemu_pci_hole64_size,
      hotplugOff: node.qemu_hotplug_off,
      noTee: cvm.noTee,
      kmsUrls: cvm.kmsUrls.length > 0 ? cvm.kmsUrls : node.kms_urls,
      gatewayUrls: cvm.gatewayUrls.length > 0 ? cvm.gatewayUrls : node.gateway_urls,
      pccsUrl: simulated ? hostApi : node.pccs_url,
      nvidiaAttestationProxyUrl: node.nvidia_attestation_proxy_url,
      dockerRegistry: node.docker_registry,
      hostApiUrl: `${hostApi}/api`,
      hostApiToken: cvm.hostApiToken,
    };
  }

  #nics(vmId: string, networks: readonly StoredNetwork[]): NicLaunch[] {
    const node = this.#config.cvm.networking;
    const prefix = fromHex(node.mac_prefix.replaceAll(":", ""), "mac_prefix");
    const chosen = networks.length > 0 ? networks : [{ mode: node.mode, bridge: node.bridge }];
    return chosen.map(({ mode, bridge }, i): NicLaunch => {
      const mac = macAddress(vmId, i, prefix);
      return mode === "bridge" ? { mode, mac, bridge } : {
        mode,
        mac,
        net: node.net,
        dhcpStart: node.dhcp_start,
        restrict: node.restrict,
      };
    });
  }

  #teeLaunch(tee: "none" | "tdx" | "simulated", hash: string): TeeLaunch {
    if (tee !== "tdx") return { kind: "none" };
    return {
      kind: "tdx",
      mrConfigId: mrConfigIdV1(fromHex(hash, "compose hash", 32)),
      qgsPort: this.#config.cvm.qgs_port,
    };
  }

  async #awaitMonitor(directory: WorkDirectory, identity: ProcessIdentity): Promise<QmpClient> {
    const { runner, files } = this.#ports;
    const deadline = this.#ports.now().getTime() + MONITOR_TIMEOUT_MS;
    for (;;) {
      if (!runner.isAlive(identity)) throw await this.#launchFailure(directory);
      try {
        if (await files.exists(directory.monitorSocket)) {
          return await runner.connectMonitor(directory.monitorSocket);
        }
      } catch (cause) {
        if (this.#ports.now().getTime() > deadline) {
          runner.kill(identity);
          throw new AppError("cvm/launch-failed", "QEMU's monitor does not answer", { cause });
        }
      }
      if (this.#ports.now().getTime() > deadline) {
        runner.kill(identity);
        throw new AppError("cvm/launch-failed", "QEMU did not open its monitor");
      }
      await wait(POLL_MS);
    }
  }

  /** QEMU ended at once; its last words say why. */
  async #launchFailure(directory: WorkDirectory): Promise<AppError> {
    const tail = await this.#ports.files.readTail(directory.log("stderr"), 4096);
    const text = new TextDecoder().decode(tail ?? new Uint8Array());
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("====="));
    const last = (lines.at(-1) ?? "it printed nothing").slice(0, 500);
    if (/could not set up host forwarding|Address already in use/i.test(text)) {
      return new AppError("host/port-taken", `QEMU could not listen on a host port: ${last}`);
    }
    return new AppError("cvm/launch-failed", `QEMU ended at once: ${last}`);
  }
}

/** QEMU's user network shows the host's loopback at the second address of the network: 10.0.2.2. */
function hostAddressOn(net: string): string {
  return net.replace(/\d+\/\d+$/, "2");
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function loopback(hostPort: number, vmPort: number): HostForward {
  return { protocol: "tcp", hostAddress: "127.0.0.1", hostPort, vmPort };
}
