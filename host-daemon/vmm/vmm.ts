import { toHex, utf8 } from "#core/bytes/bytes.ts";
import { type AppCompose, parseAppCompose } from "#core/compose/app-compose.ts";
import { composeHash, defaultAppId } from "#core/compose/identity.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { Cvm } from "../db/cvm-store.ts";
import { applyNotification } from "../host-api/notification.ts";
import {
  acceptCvm,
  type CvmConfiguration,
  type NodePolicy,
  requireLimits,
  requireResources,
  requireSupportedCompose,
  resolveNetworks,
} from "./cvm-request.ts";
import type { CvmUpdate } from "./cvm-update.ts";
import type { Entry, Inventory } from "./inventory.ts";
import type { Launcher } from "./launcher.ts";
import { parsePortMappings, requireNoConflict } from "./port-mapping.ts";
import type { VmRunner } from "./ports.ts";
import { SerialQueue } from "./serial-queue.ts";
import { requireImageName } from "./vm-id.ts";
import type { WorkDirectory } from "./work-directory.ts";

export interface VmmPorts {
  readonly inventory: Inventory;
  readonly launcher: Launcher;
  readonly runner: VmRunner;
  readonly now: () => Date;
  readonly randomId: () => string;
  /** 32 bytes. */
  readonly randomToken: () => Uint8Array;
  readonly log: (message: string, facts: Readonly<Record<string, unknown>>) => void;
  /** Asks the guest agent to power off; throws when it does not answer. */
  readonly askGuestToShutDown: (entry: Entry) => Promise<void>;
  /** What a removed CVM leaves in other parts. */
  readonly forget: (cvmId: string) => void;
}

/** How often a QEMU that is ending is looked at: a large TD takes its time to give back its memory. */
const KILL_POLL_MS = 100;
/** How long a start waits for a shutdown that is under way. */
const SHUTDOWN_TIMEOUT_MS = 60_000;

/**
 * The life cycle of CVMs. Desired state is the row's `started`, actual state is the process; what an
 * operator sees follows from both (spec/vmm.md section 6).
 */
export class Vmm {
  readonly #policy: NodePolicy;
  readonly #ports: VmmPorts;
  /** Two CVMs that want the same host port must not both find it free. */
  readonly #admissions = new SerialQueue();

  constructor(policy: NodePolicy, ports: VmmPorts) {
    this.#policy = policy;
    this.#ports = ports;
  }

  /** Creates and, unless told otherwise, starts a CVM; a start that fails leaves nothing behind. */
  async create(request: CvmConfiguration): Promise<string> {
    const { inventory, launcher } = this.#ports;
    const accepted = acceptCvm(request, this.#policy);
    await launcher.requireImage(accepted.image, accepted.noTee);
    launcher.requireNetworks(accepted.networks, accepted.noTee);
    const { compose: _, ...spec } = accepted;
    const cvm: Cvm = {
      ...spec,
      id: this.#ports.randomId(),
      kmsUrls: requireUrls("kms_urls", request.kmsUrls),
      gatewayUrls: requireUrls("gateway_urls", request.gatewayUrls),
      started: !request.stopped,
      removing: false,
      hostApiToken: toHex(this.#ports.randomToken()),
      instanceId: "",
      bootProgress: "",
      bootError: "",
      shutdownProgress: "",
      createdAtMs: this.#ports.now().getTime(),
    };
    const directory = launcher.workDirectory(cvm.id);
    const entry = await this.#admissions.run(() => {
      requireNoConflict(cvm.portMappings, this.#mappings());
      return inventory.add(cvm);
    });
    try {
      await directory.create();
      await directory.writeShared("app-compose.json", request.composeFile);
      await this.#writeOptional(directory, request.encryptedEnv, request.userConfig);
      await directory.writeShared(".instance_info", JSON.stringify({ app_id: cvm.appId }));
      await directory.writeManifest(manifestOf(cvm));
      this.#ports.log("CVM created", { cvm: cvm.id, name: cvm.name, appId: cvm.appId });
      if (cvm.started) await entry.queue.run(() => this.#launch(entry));
    } catch (error) {
      await directory.remove();
      await inventory.remove(entry);
      throw error;
    }
    return cvm.id;
  }

  /** Starting a running CVM is a success; one that is shutting down is started when it has. */
  async start(id: string): Promise<void> {
    const entry = this.#ports.inventory.require(id);
    entry.budget.reset();
    if (entry.running && !entry.cvm.started) await this.#awaitEnd(entry);
    await entry.queue.run(() => this.#start(entry));
  }

  /** Starts what should run and does not, unless a stop came in between. */
  async restart(entry: Entry): Promise<void> {
    await entry.queue.run(async () => {
      if (entry.cvm.started && !entry.cvm.removing) await this.#start(entry);
    });
  }

  async stop(id: string): Promise<void> {
    const entry = this.#ports.inventory.require(id);
    entry.budget.reset();
    await entry.queue.run(async () => {
      await this.#ports.inventory.update(entry, { started: false });
      await this.#kill(entry);
    });
    this.#ports.log("CVM stopped", { cvm: id });
  }

  /** Asks the guest; without an answer from its agent, presses its power button. */
  async shutDown(id: string): Promise<void> {
    const { inventory } = this.#ports;
    const entry = inventory.require(id);
    if (!entry.running) throw new AppError("cvm/state", `vm is not running: ${id}`);
    entry.budget.reset();
    await inventory.update(entry, { started: false });
    try {
      await this.#ports.askGuestToShutDown(entry);
    } catch (error) {
      if (entry.monitor === undefined) throw error;
      await entry.monitor.execute("system_powerdown");
    }
    await inventory.record(entry, "vmm.shutdown.requested", "");
  }

  /** Returns at once; the CVM is listed as `removing` until nothing of it is left. */
  async remove(id: string): Promise<void> {
    const entry = this.#ports.inventory.require(id);
    if (entry.cvm.removing) return;
    await this.#ports.inventory.update(entry, { removing: true, started: false });
    this.finishRemoval(entry);
  }

  /** Also called at start for what an earlier dstackd left half removed. */
  finishRemoval(entry: Entry): void {
    const { inventory, launcher, log, forget } = this.#ports;
    const { id } = entry.cvm;
    entry.queue.run(async () => {
      await this.#kill(entry);
      await launcher.workDirectory(id).remove();
      forget(id);
      await inventory.remove(entry);
      log("CVM removed", { cvm: id });
    }).catch((error) => log("CVM cannot be removed", { cvm: id, error: errorChain(error) }));
  }

  /** Applies parts of a request in the reference's order (spec/vmm.md section 3.4), all or none. */
  async update(id: string, update: CvmUpdate): Promise<string> {
    const entry = this.#ports.inventory.require(id);
    return await entry.queue.run(() =>
      update.ports === undefined
        ? this.#update(entry, update)
        : this.#admissions.run(() => this.#update(entry, update))
    );
  }

  /** What a guest said about itself over the Host API. */
  async notify(entry: Entry, event: string, payload: string): Promise<void> {
    const { inventory, launcher, log } = this.#ports;
    const effect = applyNotification(event, payload);
    if (!effect.recorded) {
      log("Notification dropped: too large", { cvm: entry.cvm.id, event: event.slice(0, 64) });
      return;
    }
    if (!effect.known) log("Unknown notification", { cvm: entry.cvm.id, event });
    if (effect.instanceInfo !== undefined) {
      const directory = launcher.workDirectory(entry.cvm.id);
      await directory.writeShared(".instance_info", effect.instanceInfo);
    }
    if (Object.keys(effect.change).length > 0) await inventory.update(entry, effect.change);
    await inventory.record(entry, event, payload);
  }

  /** The process of `entry` is gone. Called within its queue. */
  async ended(entry: Entry): Promise<void> {
    const { inventory, log } = this.#ports;
    await inventory.endRun(entry);
    await inventory.record(entry, "vmm.exited", entry.cvm.bootError);
    log("CVM exited", { cvm: entry.cvm.id, started: entry.cvm.started, why: entry.cvm.bootError });
  }

  async #awaitEnd(entry: Entry): Promise<void> {
    const deadline = this.#ports.now().getTime() + SHUTDOWN_TIMEOUT_MS;
    while (entry.running && entry.run !== undefined && this.#ports.runner.isAlive(entry.run)) {
      if (this.#ports.now().getTime() > deadline) {
        throw new AppError("cvm/state", `vm is still shutting down: ${entry.cvm.id}`);
      }
      await new Promise((resolve) => setTimeout(resolve, KILL_POLL_MS));
    }
  }

  async #start(entry: Entry): Promise<void> {
    if (entry.cvm.removing) throw new AppError("cvm/state", "VM is being removed");
    await this.#ports.inventory.update(entry, { started: true });
    if (entry.running) {
      if (entry.run !== undefined && this.#ports.runner.isAlive(entry.run)) return;
      await this.ended(entry);
    }
    await this.#launch(entry);
  }

  async #launch(entry: Entry): Promise<void> {
    const { inventory, launcher, log } = this.#ports;
    const { id } = entry.cvm;
    await inventory.update(entry, { bootProgress: "booting", bootError: "", shutdownProgress: "" });
    await inventory.record(entry, "vmm.start", "");
    try {
      entry.serial = undefined;
      entry.monitor = await launcher.launch(entry, (run) => inventory.beginRun(entry, run));
      const { run } = entry;
      const { pid, accelerator, tee } = run!;
      log("CVM started", { cvm: id, pid, accelerator, tee });
    } catch (error) {
      await inventory.endRun(entry);
      const code = error instanceof AppError ? error.code : "internal";
      const text = `${code}: ${error instanceof AppError ? error.message : "Unexpected failure"}`;
      await inventory.update(entry, { bootProgress: "", bootError: text });
      await inventory.record(entry, "vmm.start.failed", text);
      log("CVM cannot be started", { cvm: id, code, error: errorChain(error) });
      throw error;
    }
  }

  /** SIGKILL, then waits for the process to be gone: a large TD takes its time. */
  async #kill(entry: Entry): Promise<void> {
    const { runner, inventory, launcher } = this.#ports;
    const { run } = entry;
    if (run === undefined || run.exitedAtMs !== null) {
      return await launcher.killStrays(entry.cvm.id);
    }
    runner.kill(run);
    while (runner.isAlive(run)) {
      await new Promise((resolve) => setTimeout(resolve, KILL_POLL_MS));
    }
    await inventory.endRun(entry);
    await inventory.record(entry, "vmm.killed", "");
  }

  async #update(entry: Entry, update: CvmUpdate): Promise<string> {
    const { inventory, launcher } = this.#ports;
    const { cvm } = entry;
    if (cvm.removing) throw new AppError("cvm/state", "VM is being removed");
    const change: { -readonly [K in keyof Cvm]?: Cvm[K] } = {};
    let newAppId = "";
    let compose: AppCompose | undefined;
    if (update.composeFile !== "") {
      const bytes = utf8(update.composeFile);
      compose = parseAppCompose(bytes);
      requireSupportedCompose(compose);
      const hash = composeHash(bytes);
      change.composeHash = toHex(hash);
      newAppId = toHex(defaultAppId(hash));
    }
    requireLimits(update.encryptedEnv, update.userConfig);
    const resized = [update.vcpu, update.memory, update.diskSize, update.image, update.noTee];
    if (resized.some((value) => value !== undefined)) {
      if (entry.running) {
        throw new AppError("cvm/state", `vm should be stopped before resize: ${cvm.id}`);
      }
      await this.#resize(entry, update, change);
    }
    if (update.ports !== undefined) {
      change.portMappings = parsePortMappings(update.ports, this.#policy.ports);
      requireNoConflict(change.portMappings, this.#mappings(cvm.id));
    }
    if (update.kmsUrls !== undefined) change.kmsUrls = requireUrls("kms_urls", update.kmsUrls);
    if (update.gatewayUrls !== undefined) {
      change.gatewayUrls = requireUrls("gateway_urls", update.gatewayUrls);
    }
    if (update.networks !== undefined) {
      change.networks = resolveNetworks(update.networks, this.#policy.networking);
      launcher.requireNetworks(change.networks, change.noTee ?? cvm.noTee);
    }
    const directory = launcher.workDirectory(cvm.id);
    if ((change.diskGib ?? cvm.diskGib) > cvm.diskGib) {
      await directory.growDataDisk(change.diskGib!);
    }
    if (compose !== undefined) await directory.writeShared("app-compose.json", update.composeFile);
    await this.#writeOptional(directory, update.encryptedEnv, update.userConfig);
    if (Object.keys(change).length > 0) await inventory.update(entry, change);
    await directory.writeManifest(manifestOf(entry.cvm));
    await inventory.record(entry, "vmm.updated", Object.keys(change).join(" "));
    return newAppId;
  }

  async #resize(
    entry: Entry,
    update: CvmUpdate,
    change: { -readonly [K in keyof Cvm]?: Cvm[K] },
  ): Promise<void> {
    const { cvm } = entry;
    const noTee = update.noTee ?? cvm.noTee;
    const vcpu = update.vcpu ?? cvm.vcpu;
    const memoryMib = update.memory ?? cvm.memoryMib;
    const diskGib = update.diskSize ?? cvm.diskGib;
    if (vcpu < 1) throw new AppError("input/malformed", "vcpu must be greater than zero");
    if (diskGib < cvm.diskGib) throw new AppError("input/malformed", "Cannot shrink disk size");
    requireResources(vcpu, memoryMib, diskGib, noTee);
    const image = update.image === undefined ? cvm.image : requireImageName(update.image);
    await this.#ports.launcher.requireImage(image, noTee);
    Object.assign(change, { vcpu, memoryMib, diskGib, noTee, image });
  }

  async #writeOptional(
    directory: WorkDirectory,
    encryptedEnv: Uint8Array,
    userConfig: string,
  ): Promise<void> {
    if (encryptedEnv.length > 0) await directory.writeShared(".encrypted-env", encryptedEnv);
    if (userConfig !== "") await directory.writeShared(".user-config", userConfig);
  }

  /** Of every CVM but `except`, running or not. */
  #mappings(except?: string) {
    return this.#ports.inventory.all()
      .filter(({ cvm }) => cvm.id !== except)
      .map(({ cvm }) => ({ id: cvm.id, portMappings: cvm.portMappings }));
  }
}

function requireUrls(field: string, urls: readonly string[]): string[] {
  for (const url of urls) {
    const protocol = URL.canParse(url) ? new URL(url).protocol : "";
    if (protocol !== "http:" && protocol !== "https:") {
      throw new AppError("input/malformed", `${field} must hold http or https URLs`);
    }
  }
  return [...urls];
}

/** vm-manifest.json of the reference (spec/vmm.md section 4.2). */
function manifestOf(cvm: Cvm): Record<string, unknown> {
  return {
    id: cvm.id,
    name: cvm.name,
    app_id: cvm.appId,
    vcpu: cvm.vcpu,
    memory: cvm.memoryMib,
    disk_size: cvm.diskGib,
    image: cvm.image,
    port_map: cvm.portMappings.map(({ hostAddress, protocol, hostPort, vmPort }) => ({
      address: hostAddress,
      protocol,
      from: hostPort,
      to: vmPort,
    })),
    created_at_ms: cvm.createdAtMs,
    kms_urls: cvm.kmsUrls,
    gateway_urls: cvm.gatewayUrls,
    no_tee: cvm.noTee,
  };
}
