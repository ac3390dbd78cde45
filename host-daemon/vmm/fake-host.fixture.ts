import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { utf8 } from "#core/bytes/bytes.ts";
import { encodeTdxMeasurementDocument } from "#core/measurement/tdx-measurement-document.ts";
import { createSimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import { openHostDatabase } from "../adapters/database.ts";
import { dstackdConfig } from "../config.ts";
import { CvmStore } from "../db/cvm-store.ts";
import { SimulatedTds } from "../host-api/simulated-td.ts";
import { type ImageFiles, ImageStore } from "../images/image-store.ts";
import { QmpClient } from "../qemu/qmp.ts";
import type { CvmConfiguration } from "./cvm-request.ts";
import { type Entry, Inventory } from "./inventory.ts";
import { Launcher } from "./launcher.ts";
import type { HostFiles, ProcessIdentity, VmRunner } from "./ports.ts";
import { Vmm } from "./vmm.ts";
import { Watcher } from "./watcher.ts";

/** A file system in memory: enough of one for VM directories and images. */
export function fakeFiles() {
  const content = new Map<string, Uint8Array>();
  const bytesOf = (value: Uint8Array | string) => typeof value === "string" ? utf8(value) : value;
  const under = (path: string) => [...content.keys()].filter((key) => key.startsWith(`${path}/`));
  const files: HostFiles & ImageFiles = {
    readBytes: async (path) => content.get(path),
    readTail: async (path, maxBytes) => content.get(path)?.slice(-maxBytes),
    readFrom: async (path, offset, maxBytes) =>
      content.get(path)?.slice(offset, offset + maxBytes) ?? new Uint8Array(),
    writeAtomic: async (path, value) => void content.set(path, bytesOf(value)),
    writeImage: async (path) => void content.set(path, new Uint8Array(1)),
    makeDirectory: async () => {},
    exists: async (path) => content.has(path),
    sizeOf: async (path) => content.get(path)?.length ?? 0,
    remove: async (path) => void content.delete(path),
    removeTree: async (path) => under(path).forEach((key) => content.delete(key)),
    patch: async () => {},
    rotate: async (path) => void content.delete(path),
    rotateInPlace: async (path) => {
      content.set(`${path}.1`, content.get(path)!);
      content.set(path, new Uint8Array());
    },
    append: async (path, text) => {
      const before = content.get(path) ?? new Uint8Array();
      content.set(path, Uint8Array.from([...before, ...utf8(text)]));
    },
    realPath: async (path) => under(path).length > 0 ? path : undefined,
    isRegularFile: async (path) => content.has(path),
    sha256: async (path) => sha256(content.get(path)!),
    fingerprint: async (path) => Buffer.from(sha256(content.get(path)!)).toString("hex"),
    directories: async (path) => [
      ...new Set(under(path).map((key) => key.slice(path.length + 1).split("/")[0]!)),
    ],
  };
  return { files, content };
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

/** An image folder in the reference's format. */
export function addImage(content: Map<string, Uint8Array>, path: string, cmdline: string): void {
  const digest = (fill: number) => new Uint8Array(48).fill(fill);
  const files: Record<string, Uint8Array> = {
    "ovmf.fd": utf8("firmware"),
    "bzImage": utf8("kernel"),
    "initramfs.cpio.gz": utf8("initrd"),
    "metadata.json": utf8(JSON.stringify({
      bios: "ovmf.fd",
      kernel: "bzImage",
      initrd: "initramfs.cpio.gz",
      rootfs: "rootfs.img.parted.verity",
      cmdline,
      version: "0.6.0",
      is_dev: true,
      shared_ro: true,
    })),
    "measurement.tdx.cbor": encodeTdxMeasurementDocument({
      image: { cmdlineSha384: digest(1), kernelAuthenticode: digest(2), initrdSha384: digest(3) },
      mrTd: { singlePass: digest(4), twoPass: digest(5) },
      acceptedMemory: { hobAddress: 0x809000, ranges: [{ start: 0x800000, pages: 16 }] },
    }),
  };
  let list = "";
  for (const [name, bytes] of Object.entries(files)) {
    content.set(`${path}/${name}`, bytes);
    list += `${Buffer.from(sha256(bytes)).toString("hex")}  ${name}\n`;
  }
  content.set(`${path}/rootfs.img.parted.verity`, utf8("rootfs"));
  content.set(`${path}/sha256sum.txt`, utf8(list));
}

/** Processes that live until somebody ends them, and monitors that answer everything with `{}`. */
export function fakeRunner(content: Map<string, Uint8Array>) {
  const alive = new Set<number>();
  const launched: string[][] = [];
  const commands: string[] = [];
  const state = { nextPid: 100, dieAtOnce: undefined as string | undefined, taken: 0 };
  const runner: VmRunner = {
    async launch(argv, { cwd, stderrPath }): Promise<ProcessIdentity> {
      const pid = state.nextPid++;
      launched.push([...argv]);
      if (state.dieAtOnce === undefined) {
        alive.add(pid);
        content.set(`${cwd}/qmp.sock`, new Uint8Array());
      } else content.set(stderrPath, utf8(state.dieAtOnce));
      return { pid, startTicks: String(pid * 7), hostBootId: "boot-1" };
    },
    isAlive: ({ pid, startTicks, hostBootId }) =>
      hostBootId === "boot-1" && startTicks === String(pid * 7) && alive.has(pid),
    findByArgument: async (argument) =>
      launched.flatMap((argv, i) => {
        const pid = 100 + i;
        const isIt = alive.has(pid) && argv.includes(argument);
        return isIt ? [{ pid, startTicks: String(pid * 7), hostBootId: "boot-1" }] : [];
      }),
    kill: ({ pid }) => void alive.delete(pid),
    connectMonitor: () => {
      let text: (chunk: string) => void = () => {};
      return QmpClient.connect({
        send: (line) => {
          const { execute, id } = JSON.parse(line);
          commands.push(execute);
          queueMicrotask(() => text(JSON.stringify({ return: {}, id }) + "\n"));
        },
        start: (handlers) => {
          text = handlers.text;
          queueMicrotask(() => text('{"QMP":{}}\n'));
        },
        close: () => {},
      });
    },
    freePort: async () => 40000 + state.nextPid * 2 + state.taken++,
    requireFree: async () => {},
  };
  return { runner, alive, launched, commands, state };
}

export const COMPOSE = JSON.stringify({
  manifest_version: 2,
  name: "hello",
  runner: "docker-compose",
  docker_compose_file: "services: {}",
  gateway_enabled: true,
});

export function request(changes: Partial<CvmConfiguration> = {}): CvmConfiguration {
  return {
    name: "hello",
    image: "dstack-dev-0.6.0",
    composeFile: COMPOSE,
    vcpu: 2,
    memory: 2048,
    diskSize: 10,
    ports: [],
    encryptedEnv: new Uint8Array(),
    userConfig: "",
    hugepages: false,
    pinNuma: false,
    kmsUrls: [],
    gatewayUrls: [],
    stopped: false,
    noTee: false,
    networks: [],
    ...changes,
  };
}

/** A whole host but for QEMU and disks; `restart()` is a dstackd killed and started again. */
export async function fakeHost(settings: Record<string, unknown> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "dstackd-"));
  const { files, content } = fakeFiles();
  addImage(content, "/images/dstack-dev-0.6.0", "console=ttyS0 dstack.tee=sim");
  addImage(content, "/images/dstack-0.6.0", "console=ttyS0 dstack.tee=tdx");
  const fake = fakeRunner(content);
  const config = dstackdConfig.parse({
    cvm: {
      kms_urls: ["https://10.0.2.2:9001"],
      port_mapping: { enabled: true },
      auto_restart: { interval: 1, initial_backoff: 1, max_retries: 2 },
    },
    host_api: { port: 9100 },
    ...settings,
  });
  const clock = { now: Date.UTC(2026, 0, 1) };
  const now = () => new Date(clock.now);
  const log: { message: string; facts: Readonly<Record<string, unknown>> }[] = [];
  const shutdowns: string[] = [];
  const guest = { answers: true };
  const platform = createSimulatedPlatform(new Uint8Array(32).fill(7));

  const images = new ImageStore("/images", files);

  const boot = async () => {
    const database = await openHostDatabase(join(directory, "dstackd.sqlite"));
    const store = new CvmStore(database.db, 100);
    const inventory = new Inventory(
      store,
      { maxRetries: 2, initialBackoff: 1, maxBackoff: 10, resetWindow: 60 },
      () => clock.now,
    );
    await inventory.load();
    const tds = new SimulatedTds(store, platform);
    const launcher = new Launcher(config, "/run/vm", {
      files,
      runner: fake.runner,
      images,
      simulatedTds: tds,
      platform: {
        tee: "simulated",
        qemuPath: "/usr/bin/qemu-system-x86_64",
        qemuVersion: "11.1.0",
        vsock: false,
        accelerator: async () => "tcg",
        emulatedKernel: async (kernel) => kernel,
      },
      now,
    });
    let ids = (await store.allCvms()).length;
    const ports = {
      inventory,
      launcher,
      runner: fake.runner,
      now,
      randomId: () => `vm-${++ids}`,
      randomToken: () => new Uint8Array(32).fill(ids),
      log: (message: string, facts: Readonly<Record<string, unknown>>) =>
        void log.push({ message, facts }),
      askGuestToShutDown: async (entry: Entry) => {
        if (!guest.answers) throw new Error("nobody there");
        shutdowns.push(entry.cvm.id);
      },
      forget: () => {},
    };
    const vmm = new Vmm({
      ports: {
        enabled: true,
        address: "127.0.0.1",
        ranges: [{ protocol: "tcp", from: 1, to: 20000 }],
      },
      networking: { mode: "user", bridge: "" },
      tee: "simulated",
    }, ports);
    const watcher = new Watcher(
      { ...ports, vmm, files, now: () => clock.now },
      {
        autoRestart: true,
        restartInterval: 1,
        maxLogBytes: 1000,
        maxLogBackups: 2,
        logCheckSeconds: 1,
      },
    );
    return { store, inventory, tds, launcher, vmm, watcher, close: () => database.close() };
  };

  let current = await boot();
  return {
    get vmm() {
      return current.vmm;
    },
    get inventory() {
      return current.inventory;
    },
    get watcher() {
      return current.watcher;
    },
    get store() {
      return current.store;
    },
    get tds() {
      return current.tds;
    },
    get launcher() {
      return current.launcher;
    },
    async restart() {
      current.close();
      current = await boot();
    },
    config,
    content,
    files,
    images,
    clock,
    fake,
    log,
    guest,
    shutdowns,
    platform,
    [Symbol.dispose]() {
      current.close();
      rmSync(directory, { recursive: true });
    },
  };
}
