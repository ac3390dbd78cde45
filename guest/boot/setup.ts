import { equalBytes, toHex, utf8 } from "#core/bytes/bytes.ts";
import { type AppCompose, checkManifestRules, parseAppCompose } from "#core/compose/app-compose.ts";
import { gpuPolicyHash } from "#core/compose/gpu-policy.ts";
import { composeHash as hashCompose } from "#core/compose/identity.ts";
import { initScriptHashes } from "#core/compose/launch-binding.ts";
import { checkLaunchToken } from "#core/compose/launch-token.ts";
import { checkMrConfigId } from "#core/compose/mr-config.ts";
import { checkRequirements } from "#core/compose/requirements.ts";
import {
  checkSealedLength,
  decryptEnv,
  renderEnvFile,
  renderEnvJson,
  selectEnv,
} from "#core/crypto/env-encryption.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import { parseQuote } from "#core/tdx/quote.ts";
import { tdReportOf } from "#core/attestation/versioned-attestation.ts";
import type { Files, Log, Run, Sleep } from "../ports.ts";
import { runChecked } from "../run-checked.ts";
import { attestPublicKey } from "../tee/attest.ts";
import type { Tee } from "../tee/tee.ts";
import { type AppKeys, encodeAppKeys } from "./app-keys.ts";
import { type DataDiskPorts, mountDataDisk } from "./data-disk.ts";
import { withRegistryMirror } from "./docker-config.ts";
import { readGuestFacts } from "./guest-facts.ts";
import type { HostFiles } from "./host-files.ts";
import type { HostNotifier } from "./host-notifier.ts";
import { encodeInstanceInfo, identify, type Instance, parseInstanceInfo } from "./instance-info.ts";
import type { KernelParameters } from "./kernel-parameters.ts";
import { checkKmsUrls, type KmsTrust, requestAppKeys } from "./kms-client.ts";
import {
  bootEvents,
  keyProviderEvent,
  type LaunchEvent,
  osImageHashEvent,
  storageFsEvent,
  SYSTEM_READY,
} from "./launch-events.ts";
import { seededAppKeys } from "./local-keys.ts";
import { parseSysConfig, type SysConfig } from "./sys-config.ts";

/** Created last: the agent and the app wait for it. */
export const READY_MARKER = "/run/dstack/ready";
/** Where the work directory ends up for apps. */
export const APP_DIR = "/dstack";
const DATA_DIRECTORIES = ["docker", "containerd"] as const;

export interface SetupOptions {
  readonly workDir: string;
  readonly mountPoint: string;
  /** Overrides what the command line and the disks say. */
  readonly device: string | undefined;
}

export interface SetupPorts {
  readonly files: Files;
  readonly run: Run;
  readonly log: Log;
  readonly sleep: Sleep;
  readonly now: () => Date;
  readonly random: (length: number) => Uint8Array;
  readonly kernelParameters: () => Promise<KernelParameters>;
  /** Resolves when kernel settings, TEE drivers and network are there. */
  readonly systemIsUp: () => Promise<void>;
  /** Mounts the share, copies its files into `<workDir>/.host-shared`, unmounts it. */
  readonly takeHostFiles: (targetDir: string) => Promise<HostFiles>;
  readonly createNotifier: (config: SysConfig) => HostNotifier;
  readonly openTee: (parameters: KernelParameters, config: SysConfig) => Promise<Tee>;
  readonly findDataDevice: (wanted: string | undefined) => Promise<string>;
  readonly dataDisk: Pick<DataDiskPorts, "openDisk" | "isMountPoint">;
  readonly kmsTrust: (parameters: KernelParameters, config: SysConfig) => KmsTrust;
  /** Runs while the programs that make the disk do, and ends before any container starts. */
  readonly meanwhile: () => Promise<void>;
  /** A line on the serial console, which the host reads. */
  readonly console: (line: string) => Promise<void>;
}

/** Everything a boot knows after the host's files were read. */
interface Boot {
  readonly options: SetupOptions;
  readonly ports: SetupPorts;
  readonly parameters: KernelParameters;
  readonly compose: AppCompose;
  readonly composeHash: Uint8Array;
  readonly sysConfig: SysConfig;
  readonly trust: KmsTrust;
  readonly hostFiles: HostFiles;
  readonly notifier: HostNotifier;
}

/**
 * Prepares the VM for its app (spec/os.md 3.3 to 3.9 but for the gateway): measures it, gets its keys
 * and opens its disk. Whatever stops it is told to the host, as `code: text`, and printed on the console.
 */
export async function setup(options: SetupOptions, ports: SetupPorts): Promise<void> {
  let notifier: HostNotifier | undefined;
  try {
    if (await ports.files.exists(READY_MARKER)) return;
    ports.log("setup begins");
    const parameters = await ports.kernelParameters();
    const [hostFiles] = await Promise.all([
      ports.takeHostFiles(`${options.workDir}/.host-shared`),
      ports.systemIsUp(),
    ]);
    ports.log("host files taken");
    const sysConfig = parseSysConfig(hostFiles.get(".sys-config.json")!);
    notifier = ports.createNotifier(sysConfig);
    const composeBytes = hostFiles.get("app-compose.json")!;
    const compose = parseAppCompose(composeBytes);
    const composeHash = hashCompose(composeBytes);
    const boot = {
      options,
      ports,
      parameters,
      compose,
      composeHash,
      sysConfig,
      trust: ports.kmsTrust(parameters, sysConfig),
      hostFiles,
      notifier,
    };
    await checkPolicy(boot);
    await prepare(boot);
    await ports.files.write(READY_MARKER, "", 0o644);
    ports.log("setup done");
  } catch (error) {
    await reportFailure(error, notifier, ports);
    throw error;
  } finally {
    await notifier?.flush();
  }
}

/** `code: text` for the host, and the serial line that dstackd looks for. */
async function reportFailure(
  error: unknown,
  notifier: HostNotifier | undefined,
  ports: SetupPorts,
): Promise<void> {
  const code = error instanceof AppError ? error.code : "internal";
  const text = errorChain(error).replaceAll(/\s+/g, " ");
  ports.log("setup failed", { code, error: text });
  notifier?.notify("boot.error", `${code}: ${text}`);
  await ports.console(`dstack-boot-error code=${code} ${text.slice(0, 900)}`);
}

/** Everything that can be refused before the first key request. */
async function checkPolicy({ compose, hostFiles, sysConfig, parameters, ports }: Boot) {
  checkManifestRules(compose);
  if (compose.runner === "nerdctl-compose") {
    throw new AppError("compose/unsupported", "This image has no nerdctl: use docker-compose");
  }
  if (compose.keyProvider === "local" || compose.keyProvider === "tpm") {
    throw new AppError(
      "compose/unsupported",
      `This image does not support key provider ${compose.keyProvider}`,
    );
  }
  if ((compose.storageFs ?? parameters.storageFs) === "zfs") {
    throw new AppError("compose/unsupported", "This image has no ZFS: set storage_fs to ext4");
  }
  if (compose.verityVolumes.length > 0) {
    throw new AppError("compose/unsupported", "This image does not support verity_volumes");
  }
  if (compose.requirements !== undefined) {
    checkRequirements(
      compose.requirements,
      await readGuestFacts(sysConfig.vmConfig, ports.files),
    );
    const pinnedToken = compose.requirements.launchTokenHash;
    if (pinnedToken !== undefined) checkLaunchToken(pinnedToken, hostFiles.get(".user-config"));
  }
  if (compose.keyProvider === "kms") {
    checkKmsUrls(sysConfig.kmsUrls);
    const environment = hostFiles.get(".encrypted-env") ?? new Uint8Array();
    if (environment.length > 0) checkSealedLength(environment);
  }
  if (compose.secureTime) {
    await runChecked(ports.run, ["chronyc", "waitsync", "30", "0.1", "0", "5"]);
  }
}

async function prepare(boot: Boot): Promise<void> {
  const { options, ports, compose, composeHash, sysConfig, parameters, notifier } = boot;
  const tee = await ports.openTee(parameters, sysConfig);
  if ((await tee.runtimeEvents()).length > 0) {
    throw new AppError("guest/tee", "This boot was measured before and failed: restart the VM");
  }
  const extend = (event: LaunchEvent) => tee.extend({ ...event, version: compose.eventLogVersion });

  const instance = identify(
    parseInstanceInfo(boot.hostFiles.get(".instance_info")),
    compose,
    composeHash,
    () => ports.random(20),
  );
  for (const event of bootEvents({ ...instance, compose, composeHash })) await extend(event);
  ports.log("boot measured");

  const { mrConfigId } = tdReportOf(parseQuote(await tee.quote(new Uint8Array(64))));
  checkBinding(boot, mrConfigId, instance, undefined);
  const { keys, osImageHash } = await obtainKeys(boot, tee);
  if (osImageHash.length > 0) await extend(osImageHashEvent(osImageHash));
  const providerId = keys.provider.kind === "kms" ? keys.provider.publicKey : new Uint8Array();
  checkBinding(boot, mrConfigId, instance, providerId);
  checkPinnedProvider(compose, providerId);
  await extend(keyProviderEvent(compose.keyProvider, toHex(providerId)));
  await ports.files.write(
    `${options.workDir}/.host-shared/.appkeys.json`,
    encodeAppKeys(keys),
    0o600,
  );

  ports.log("keys obtained");
  await extend(storageFsEvent("ext4"));
  await configureDocker(boot);
  // The host must know the seed before a disk exists that only this instance id's key opens.
  notifier.notify("instance.info", encodeInstanceInfo(instance));
  await notifier.flush();
  await Promise.all([openDataDisk(boot, keys), ports.meanwhile()]);
  await extend(SYSTEM_READY);
  notifier.notify("boot.progress", "data disk ready");
  ports.log("data disk mounted");

  await writeAppFiles(boot, keys);
  await bindDirectories(boot);
  if (compose.initScripts.length > 0) await runInitScripts(boot);
  await startContainerServices(boot);
}

async function obtainKeys(
  { compose, sysConfig, trust, notifier, ports }: Boot,
  tee: Tee,
): Promise<{ keys: AppKeys; osImageHash: Uint8Array }> {
  notifier.notify("boot.progress", "requesting app keys");
  const attested = {
    attestPublicKey: (spki: Uint8Array) => attestPublicKey(tee, spki, sysConfig.vmConfig),
    now: ports.now,
  };
  if (compose.keyProvider === "none") {
    const keys = await seededAppKeys(ports.random(32), attested);
    return { keys, osImageHash: new Uint8Array() };
  }
  let isWaiting = false;
  const request = { urls: sysConfig.kmsUrls, vmConfig: sysConfig.vmConfig };
  return await requestAppKeys(
    request,
    { ...attested, ...trust, sleep: ports.sleep },
    {
      unavailable(error, retryInMs) {
        ports.log("no KMS answers", { error: errorChain(error), retryInMs });
        if (!isWaiting) notifier.notify("boot.progress", "waiting for the KMS");
        isWaiting = true;
        notifier.notify("boot.error", `${error.code}: ${errorChain(error)}`);
      },
      recovered() {
        notifier.notify("boot.progress", "requesting app keys");
        notifier.notify("boot.error", "");
      },
    },
  );
}

/**
 * What the host bound at launch must be what the guest got (spec/os.md 3.7). Checked before keys are
 * asked for, and once more when it is known who gave them.
 */
function checkBinding(
  { compose, composeHash, sysConfig }: Boot,
  mrConfigId: Uint8Array,
  instance: Instance,
  keyProviderId: Uint8Array | undefined,
): void {
  const launch = {
    ...instance,
    composeHash,
    gpuPolicyHash: gpuPolicyHash(compose.requirements?.gpuPolicy),
    initScriptHashes: initScriptHashes(compose),
    keyProvider: compose.keyProvider,
    keyProviderId,
  };
  checkMrConfigId(
    mrConfigId,
    launch,
    sysConfig.mrConfig === undefined ? undefined : utf8(sysConfig.mrConfig),
  );
}

function checkPinnedProvider({ keyProviderId: pinned }: AppCompose, keyProviderId: Uint8Array) {
  if (pinned.length > 0 && !equalBytes(pinned, keyProviderId)) {
    throw new AppError(
      "guest/kms-untrusted",
      `The keys come from provider ${toHex(keyProviderId) || "(none)"}, the app pins ${
        toHex(pinned)
      }`,
    );
  }
}

async function openDataDisk(
  { options, parameters, compose, notifier, ports }: Boot,
  keys: AppKeys,
): Promise<void> {
  await mountDataDisk({
    device: options.device ?? await ports.findDataDevice(parameters.dataDevice),
    mountPoint: options.mountPoint,
    diskCryptKey: keys.diskCryptKey,
    encrypted: parameters.storageEncrypted,
    swapBytes: compose.swapSize,
    ephemeral: compose.keyProvider === "none",
    onPhase: (phase) => notifier.notify("boot.progress", phase),
  }, { ...ports.dataDisk, run: ports.run, files: ports.files, sleep: ports.sleep, log: ports.log });
}

/** Decrypted environment, agent configuration, links and the compose file: all on tmpfs. */
async function writeAppFiles(
  { options, compose, hostFiles, ports }: Boot,
  keys: AppKeys,
): Promise<void> {
  const { files, log } = ports;
  const { workDir } = options;
  const shared = `${workDir}/.host-shared`;
  const encrypted = hostFiles.get(".encrypted-env") ?? new Uint8Array();
  const { vars, skipped } = keys.envCryptKey.length > 0 && encrypted.length > 0
    ? selectEnv(decryptEnv(keys.envCryptKey, encrypted), compose.allowedEnvs)
    : { vars: new Map<string, string>(), skipped: [] };
  if (skipped.length > 0) log("environment variables the app does not allow", { names: skipped });
  await files.write(`${shared}/.decrypted-env`, renderEnvFile(vars), 0o600);
  await files.write(`${shared}/.decrypted-env.json`, renderEnvJson(vars), 0o600);

  await files.symlink(".host-shared/app-compose.json", `${workDir}/app-compose.json`);
  await files.symlink(".host-shared/.user-config", `${workDir}/user_config`);
  const agent = { default: { core: { data_disks: ["/", options.mountPoint] } } };
  await files.write(`${workDir}/agent.json`, JSON.stringify(agent, null, 2) + "\n", 0o644);
  if (compose.dockerComposeFile !== undefined) {
    await files.write(`${workDir}/docker-compose.yaml`, compose.dockerComposeFile, 0o644);
  }
}

/** The data disk holds what docker and containerd keep; apps see the work directory as /dstack. */
async function bindDirectories({ options, ports }: Boot): Promise<void> {
  const { files, run } = ports;
  const binds: [string, string][] = DATA_DIRECTORIES.map((name) => [
    `${options.mountPoint}/var/lib/${name}`,
    `/var/lib/${name}`,
  ]);
  if (options.workDir !== APP_DIR) binds.push([options.workDir, APP_DIR]);
  for (const [from, to] of binds) {
    if (await ports.dataDisk.isMountPoint(to)) continue;
    await files.makeDirectory(from, 0o711);
    await runChecked(run, ["mount", "--rbind", from, to], { errorCode: "guest/disk" });
  }
}

/** Before dockerd starts: it reads its configuration once. */
async function configureDocker({ sysConfig, ports }: Boot): Promise<void> {
  const mirror = sysConfig.dockerRegistry;
  if (mirror === undefined) return;
  const path = "/etc/docker/daemon.json";
  const config = withRegistryMirror(await ports.files.read(path), mirror);
  await ports.files.makeDirectory("/etc/docker");
  await ports.files.write(path, config, 0o644);
}

/** They come up while setup goes on; who connects to the socket waits for dockerd. */
async function startContainerServices({ notifier, ports, compose }: Boot): Promise<void> {
  if (compose.runner === "bash") return;
  notifier.notify("boot.progress", "setting up docker");
  await runChecked(ports.run, ["systemctl", "start", "docker.socket"]);
}

/** In one shell, as the reference sources them: what one sets, the next sees. */
async function runInitScripts({ compose, notifier, ports }: Boot): Promise<void> {
  notifier.notify("boot.progress", "init-script");
  const paths: string[] = [];
  for (const [index, script] of compose.initScripts.entries()) {
    const path = `/run/dstack/init-script-${index}`;
    await ports.files.write(path, script, 0o600);
    paths.push(path);
  }
  const source = 'for script in "$@"; do . "$script"; done';
  await runChecked(ports.run, ["bash", "-e", "-c", source, "init-script", ...paths], {
    cwd: APP_DIR,
  });
}
