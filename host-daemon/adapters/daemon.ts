import { randomBytes, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createPrometheusMetrics } from "#adapters/metrics.ts";
import { readFileIfExists, writeFileAtomic } from "#adapters/files.ts";
import { serveHttp } from "#adapters/http-server.ts";
import type { Listening } from "#adapters/listening.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { serveUnix } from "#adapters/unix-http.ts";
import { makeWebFetch } from "#adapters/web-fetch.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import { prpcClient } from "#core/rpc/client.ts";
import { KMS } from "#core/rpc/gen/kms_pb.ts";
import { createSimulatedPlatform } from "#core/tdx/simulated-platform.ts";
import { createApi } from "../api/app.ts";
import { CvmStatus } from "../api/cvm-status.ts";
import { guestClient } from "../api/guest-service.ts";
import type { DstackdConfig } from "../config.ts";
import { CvmStore } from "../db/cvm-store.ts";
import { createHostApi } from "../host-api/app.ts";
import { SimulatedTds } from "../host-api/simulated-td.ts";
import { ImageStore } from "../images/image-store.ts";
import { Inventory } from "../vmm/inventory.ts";
import { type HostPlatform, Launcher } from "../vmm/launcher.ts";
import { Vmm } from "../vmm/vmm.ts";
import { Watcher } from "../vmm/watcher.ts";
import { readConsolePage } from "./console-files.ts";
import { openHostDatabase } from "./database.ts";
import { hostFiles } from "./host-files.ts";
import { examineHost } from "./host-platform.ts";
import { qemuRunner } from "./qemu-runner.ts";

export interface Daemon {
  /** Where the operators' interface listens: `unix:PATH` or `IP:PORT`. */
  readonly address: string;
  /** Ends dstackd; its VMs go on. */
  close(): Promise<void>;
}

export type Log = (message: string, facts: Readonly<Record<string, unknown>>) => void;

const SEED_BYTES = 32;
/** QEMU opens unix sockets below a VM's directory; sun_path holds 107 bytes. */
const MAX_RUN_PATH_BYTES = 107 - "/".length - 36 - "/qmp.sock".length;

/** Puts dstackd together and starts it. */
export async function startDaemon(
  config: DstackdConfig,
  version: AppVersion,
  log: Log,
): Promise<Daemon> {
  const runPath = absolute(config.run_path);
  if (Buffer.byteLength(runPath) > MAX_RUN_PATH_BYTES) {
    throw new AppError(
      "config/invalid",
      `run_path is longer than ${MAX_RUN_PATH_BYTES} bytes: sockets below it could not be opened`,
    );
  }
  const statePath = config.state_path === "" ? dirname(runPath) : absolute(config.state_path);
  await hostFiles.makeDirectory(statePath, 0o700);
  await hostFiles.makeDirectory(runPath, 0o700);

  const platform = await examineHost(config.cvm, statePath, log);
  const database = await openHostDatabase(join(statePath, "dstackd.sqlite"));
  const now = () => new Date();
  const metrics = createPrometheusMetrics({ processMetrics: true });
  const store = new CvmStore(database.db, config.event_buffer_size);
  const { auto_restart } = config.cvm;
  const inventory = new Inventory(store, {
    maxRetries: auto_restart.max_retries,
    initialBackoff: auto_restart.initial_backoff,
    maxBackoff: auto_restart.max_backoff,
    resetWindow: auto_restart.reset_window,
  }, Date.now);
  await inventory.load();

  const images = new ImageStore(absolute(config.image.path), hostFiles);
  const simulated = platform.tee === "simulated"
    ? await simulatedTee(join(statePath, "simulated-tee"), store)
    : undefined;
  const launcher = new Launcher(config, runPath, {
    files: hostFiles,
    runner: qemuRunner,
    images,
    simulatedTds: simulated?.tds,
    platform,
    now,
  });
  const fetchGuest = makeWebFetch({ timeoutMs: 0 });
  const vmm = new Vmm({
    ports: {
      enabled: config.cvm.port_mapping.enabled,
      address: config.cvm.port_mapping.address,
      ranges: config.cvm.port_mapping.range,
    },
    networking: config.cvm.networking,
    tee: platform.tee,
  }, {
    inventory,
    launcher,
    runner: qemuRunner,
    now,
    randomId: randomUUID,
    randomToken: () => new Uint8Array(randomBytes(32)),
    log,
    askGuestToShutDown: async (entry) => void await guestClient(entry, fetchGuest).shutdown(),
    forget: (cvmId) => simulated?.tds.forget(cvmId),
  });
  observeCvms(inventory, metrics);
  const watcher = new Watcher({
    inventory,
    launcher,
    vmm,
    runner: qemuRunner,
    files: hostFiles,
    now: Date.now,
    log,
  }, {
    autoRestart: auto_restart.enabled,
    restartInterval: auto_restart.interval,
    maxLogBytes: config.cvm.log.max_bytes,
    maxLogBackups: config.cvm.log.max_backups,
    logCheckSeconds: config.cvm.log.check_interval_secs,
  });

  const logError = (error: unknown) => log("Request failed", { error: errorChain(error) });
  const hostApi = createHostApi({
    version: version.version,
    findByToken: (token) => inventory.findByHostApiToken(token),
    notify: (entry, event, payload) => vmm.notify(entry, event, payload),
    ...(simulated === undefined ? {} : { simulatedTee: simulated }),
    now,
    logError,
  });
  const status = new CvmStatus({
    config,
    launcher,
    imageVersions: async () =>
      new Map((await images.list()).map(({ name, version }) => [name, version])),
    events: (ids) => store.eventsOf(ids),
    now,
  });
  const api = createApi({
    config,
    version,
    vmm,
    inventory,
    images,
    status,
    store,
    launcher,
    files: hostFiles,
    metrics,
    kms: await kmsClient(config),
    fetchGuest,
    fetchAgent: (entry, path, signal) => {
      if (!entry.running || entry.run === undefined) {
        throw new AppError("cvm/state", `vm is not running: ${entry.cvm.id}`);
      }
      const url = `http://127.0.0.1:${entry.run.agentPort}${path}`;
      return fetchGuest(url, { method: "GET", headers: {}, signal });
    },
    consolePage: readConsolePage,
    logError,
  });

  const listening: Listening[] = [];
  try {
    listening.push(
      await serveHttp((request, env) => hostApi.fetch(request, env), {
        host: config.host_api.address,
        port: config.host_api.port,
      }),
    );
    const external = await serveApi(config, (request, env) => api.fetch(request, env));
    listening.push(external.listening);
    await watcher.adopt();
    watcher.run();
    warmUp(images, platform, log);
    log("dstackd is up", {
      address: external.address,
      tee: platform.tee,
      qemu: platform.qemuVersion,
      cvms: inventory.all().length,
    });
    if (platform.tee === "simulated") {
      log("The TEE is simulated: no verdict about these CVMs says anything about hardware", {});
    }
    if (external.open && !config.auth.enabled) {
      log("The API listens beyond this machine without authentication", {});
    }
    return {
      address: external.address,
      async close() {
        watcher.stop();
        for (const one of listening) await one.close(1000);
        database.close();
      },
    };
  } catch (error) {
    watcher.stop();
    for (const one of listening) await one.close(0);
    database.close();
    throw error;
  }
}

/** Trying KVM may take seconds: better now than while the first CVM waits. */
function warmUp(images: ImageStore, platform: HostPlatform, log: Log): void {
  const probe = async () => {
    const [first] = await images.list();
    if (first !== undefined) await platform.accelerator((await images.load(first.name)).kernel);
  };
  probe().catch((error) => log("KVM was not tried", { error: errorChain(error) }));
}

/** Counts what happens to CVMs, by event: `vmm.start`, `vmm.exited`, `boot.error` and so on. */
function observeCvms(inventory: Inventory, metrics: Metrics): void {
  const events = metrics.counter({
    name: "dstackd_cvm_events_total",
    help: "Events of CVMs by kind",
    labels: ["event"],
  });
  const known = metrics.gauge({ name: "dstackd_cvms", help: "CVMs by state", labels: ["state"] });
  const count = () => {
    const running = inventory.all().filter((entry) => entry.running).length;
    known.set(running, { state: "running" });
    known.set(inventory.all().length - running, { state: "not-running" });
  };
  count();
  inventory.subscribe(({ event }) => {
    // A guest may name its events as it likes; labels must stay few.
    events.add(1, { event: /^(vmm\.|boot\.(progress|error)$)/.test(event) ? event : "other" });
    count();
  });
}

/** The seed makes the platform's keys; whoever has it can sign for it. */
async function simulatedTee(directory: string, store: CvmStore) {
  await hostFiles.makeDirectory(directory, 0o700);
  const seedPath = join(directory, "seed");
  let seed = await readFileIfExists(seedPath, SEED_BYTES);
  if (seed === undefined) {
    seed = new Uint8Array(randomBytes(SEED_BYTES));
    await writeFileAtomic(seedPath, seed, 0o600);
  }
  const platform = createSimulatedPlatform(seed);
  await writeFileAtomic(join(directory, "root.pem"), platform.rootCertificatePem, 0o644);
  return { platform, tds: new SimulatedTds(store, platform) };
}

async function kmsClient(config: DstackdConfig) {
  if (config.kms_url === "") return undefined;
  const caPem = config.kms_ca === "" ? undefined : await readFile(absolute(config.kms_ca), "utf8");
  const fetch = config.kms_url.startsWith("https:")
    ? makeTlsFetch(
      caPem === undefined
        // As the reference does; clients check the signatures in the answer.
        ? { verify: "none", checkHostname: false }
        : { verify: "ca", checkHostname: true, caPem },
    )
    : makeWebFetch();
  return prpcClient(KMS, { baseUrl: `${config.kms_url.replace(/\/+$/, "")}/prpc`, fetch });
}

async function serveApi(config: DstackdConfig, fetch: Parameters<typeof serveHttp>[0]) {
  if (config.address.startsWith("unix:")) {
    const path = absolute(config.address.slice("unix:".length));
    await hostFiles.makeDirectory(dirname(path), 0o755);
    const socket = { path, mode: 0o660 };
    const listening = await serveUnix(fetch, { socket, wholeAnswers: false });
    return { listening, address: `unix:${path}`, open: false };
  }
  const text = config.address.replace(/^tcp:/, "");
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([0-9.]+))(?::(\d+))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? config.port : Number(match[3]);
  if (host === undefined || port === undefined) {
    throw new AppError("config/invalid", "address must be unix:PATH, IP:PORT, or an IP with port");
  }
  const listening = await serveHttp(fetch, { host, port });
  const open = !host.startsWith("127.") && host !== "::1";
  return { listening, address: `${host}:${listening.port}`, open };
}

function absolute(path: string): string {
  return resolve(path.startsWith("~/") ? join(homedir(), path.slice(2)) : path);
}
