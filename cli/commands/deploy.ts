import type { Command } from "commander";
import { fromHex, fromUtf8, toHex } from "#core/bytes/bytes.ts";
import { createAppCompose } from "#core/compose/create-app-compose.ts";
import { composeHash, defaultAppId } from "#core/compose/identity.ts";
import { KEY_PROVIDERS } from "#core/compose/key-provider.ts";
import { AppError } from "#core/errors/app-error.ts";
import { allowApp } from "../allowlist.ts";
import { type CliPorts, dataOf, dstackdClient, type GlobalOptions } from "../context.ts";
import { type Cvm, listCvms } from "../cvm-lookup.ts";
import { readInputText } from "../input-file.ts";
import { parseCount } from "../count.ts";
import { pinImages, unpinnedImages } from "../pinned-images.ts";
import { removeCvm } from "../removal.ts";
import { parseGib, parseMib } from "../size.ts";
import { waitUntilServing } from "../wait.ts";

interface DeployOptions extends GlobalOptions {
  readonly name: string;
  readonly image?: string;
  readonly vcpu: string;
  readonly memory: string;
  readonly disk: string;
  readonly keyProvider: string;
  readonly gateway: boolean;
  readonly publicLogs?: boolean;
  readonly publicSysinfo?: boolean;
  readonly appId?: string;
  readonly port: string[];
  readonly pin?: string;
  readonly allowlist?: string;
  readonly reuse?: boolean;
  readonly wait?: boolean;
  readonly timeout: string;
  readonly dryRun?: boolean;
}

export function addDeploy(program: Command, ports: CliPorts): void {
  program.command("deploy")
    .description("Run a docker-compose file in a new CVM")
    .argument("[compose]", "compose file", "docker-compose.yaml")
    .option("-n, --name <name>", "name of the CVM", "app")
    .option("--image <name>", "guest image; the only one dstackd has, unless named")
    .option("--vcpu <n>", "virtual CPUs", "2")
    .option("--memory <size>", "memory, such as 2G", "2G")
    .option("--disk <size>", "encrypted data disk, such as 20G", "20G")
    .option("--key-provider <kind>", "where keys come from: kms, local, tpm or none", "kms")
    .option("--no-gateway", "give the app no HTTPS name")
    .option("--public-logs", "let anyone read the containers' logs")
    .option("--public-sysinfo", "let anyone read CPU, memory and disk figures")
    .option("--app-id <hex>", "deploy a new version of this app, 20 bytes")
    .option(
      "--port <mapping>",
      "host port to CVM port, [proto:[addr:]]host:vm; repeatable",
      collect,
      [],
    )
    .option("--pin <registry-url>", "replace image tags by the digests this registry gives them")
    .option("--allowlist <file>", "let the app have keys from the KMS that reads this allowlist")
    .option("--reuse", "start the CVM of this name again if it runs the very same thing")
    .option("--wait", "wait until the app has booted")
    .option("--timeout <seconds>", "longest wait", "300")
    .option("--dry-run", "print the app-compose and its hash, change nothing")
    .addHelpText("after", "\nExample:\n  $ dstack deploy docker-compose.yaml --name web --wait")
    .action(async (file: string, _own: unknown, command: Command) => {
      await deploy(file, command.optsWithGlobals<DeployOptions>(), ports);
    });
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

async function deploy(file: string, options: DeployOptions, ports: CliPorts): Promise<void> {
  const { json } = options;
  const wanted = readOptions(options);
  let compose = await readInputText(file, ports);
  if (options.pin !== undefined) compose = await pinImages(compose, options.pin, ports.fetch);
  const loose = unpinnedImages(compose);
  if (loose.length > 0) {
    ports.say(
      `warning: ${loose.join(", ")} named by tag: the compose hash does not fix what runs; ` +
        "use --pin or name digests",
    );
  }
  const bytes = createAppCompose({
    name: options.name,
    dockerComposeFile: compose,
    keyProvider: wanted.keyProvider,
    gatewayEnabled: options.gateway,
    publicLogs: options.publicLogs ?? false,
    publicSysinfo: options.publicSysinfo ?? false,
    storageFs: "ext4",
  });
  const hash = composeHash(bytes);
  const appId = toHex(wanted.appId ?? defaultAppId(hash));
  const identity = { appId, composeHash: toHex(hash) };
  if (options.dryRun) {
    ports.print(
      json
        ? JSON.stringify({ ...identity, appCompose: fromUtf8(bytes), dryRun: true })
        : `${fromUtf8(bytes)}\napp id        ${appId}\ncompose hash  ${identity.composeHash}`,
    );
    return;
  }

  const client = await dstackdClient(options, ports);
  const image = await chooseImage(client, options.image);
  if (options.allowlist !== undefined) {
    await allowApp(options.allowlist, { ...identity, osImageHash: image.osImageHash }, ports);
  }

  let cvm = options.reuse
    ? await reusable(client, options.name, identity, image.name, ports)
    : undefined;
  const known = cvm !== undefined;
  if (cvm === undefined) {
    const { id } = dataOf(
      await client.POST("/prpc/CreateVm", {
        body: {
          name: options.name,
          image: image.name,
          compose_file: fromUtf8(bytes),
          app_id: appId,
          ports: wanted.ports,
          ...wanted.shape,
        },
      }),
    );
    cvm = dataOf(await client.GET("/v1/cvms/{id}", { params: { path: { id } } }));
  } else if (cvm.status !== "running") {
    dataOf(await client.POST("/prpc/StartVm", { body: { id: cvm.id } }));
  }
  if (!json) ports.say(`${known ? "Started" : "Created"} CVM ${cvm.id}, app ${appId}`);
  if (options.wait) {
    cvm = await waitUntilServing(
      client,
      cvm.id,
      wanted.timeoutMs,
      ports,
      json === true,
    );
  }
  const url = await urlOf(client, cvm);
  if (json) {
    ports.print(JSON.stringify({
      vmId: cvm.id,
      ...identity,
      instanceId: cvm.instanceId,
      url,
      ports: wanted.ports.map(({ vm_port, host_port, host_address }) => ({
        vmPort: vm_port,
        hostPort: host_port,
        hostAddress: host_address,
      })),
      phases: cvm.phases,
    }));
    return;
  }
  ports.print(
    [
      `CVM           ${cvm.id}`,
      `app id        ${appId}`,
      `compose hash  ${identity.composeHash}`,
      ...(url === "" ? [] : [`URL           ${url}/`]),
    ].join("\n"),
  );
}

/** Everything an option can say wrongly is found before anything is asked or changed. */
function readOptions(options: DeployOptions) {
  const keyProvider = KEY_PROVIDERS.find((kind) => kind === options.keyProvider);
  if (keyProvider === undefined) {
    throw new AppError("input/malformed", "--key-provider takes kms, local, tpm or none");
  }
  return {
    keyProvider,
    appId: options.appId === undefined ? undefined : fromHex(options.appId, "--app-id", 20),
    shape: {
      vcpu: parseCount(options.vcpu, "--vcpu"),
      memory: parseMib(options.memory, "--memory"),
      disk_size: parseGib(options.disk, "--disk"),
    },
    ports: options.port.map(parsePortMapping),
    timeoutMs: parseCount(options.timeout, "--timeout") * 1000,
  };
}

type Client = Awaited<ReturnType<typeof dstackdClient>>;

interface ChosenImage {
  readonly name: string;
  /** Hex of 32 bytes. */
  readonly osImageHash: string;
}

async function chooseImage(client: Client, wanted: string | undefined): Promise<ChosenImage> {
  const { images } = dataOf(await client.POST("/prpc/ListImages"));
  const names = images.map(({ name }) => name).join(", ") || "none";
  const fitting = images.filter(({ name }) => wanted === undefined || name === wanted);
  if (fitting.length !== 1) {
    throw new AppError(
      wanted === undefined && images.length > 1 ? "resource/conflict" : "resource/not-found",
      wanted === undefined
        ? `--image is needed: dstackd has ${names}`
        : `dstackd has no image '${wanted}': it has ${names}`,
    );
  }
  const { name } = fitting[0]!;
  const detail = dataOf(await client.GET("/v1/images/{name}", { params: { path: { name } } }));
  return { name, osImageHash: detail.osImageHash };
}

/** The CVM of this name when it runs this very compose on this image; an older one is in the way. */
async function reusable(
  client: Client,
  name: string,
  { appId, composeHash: hash }: { appId: string; composeHash: string },
  image: string,
  ports: CliPorts,
): Promise<Cvm | undefined> {
  for (const cvm of await listCvms(client)) {
    if (cvm.name !== name || cvm.status === "removing") continue;
    if (cvm.composeHash === hash && cvm.appId === appId && cvm.image === image) return cvm;
    await removeCvm(client, cvm.id, ports);
  }
  return undefined;
}

/** Where the gateway serves the app; empty without one. */
export async function urlOf(client: Client, cvm: Cvm): Promise<string> {
  const { info } = dataOf(await client.POST("/prpc/GetInfo", { body: { id: cvm.id } }));
  // The reference's app_url is that of the agent's port; the app's own has none in its name.
  return info?.app_url?.replace(/^(https:\/\/[^.-]+)-\d+\./, "$1.") ?? "";
}

/** `host:vm`, `proto:host:vm` or `proto:addr:host:vm`. */
function parsePortMapping(text: string) {
  const parts = text.split(":");
  const [protocol, address, host, vm] = parts.length === 2
    ? ["tcp", "127.0.0.1", ...parts]
    : parts.length === 3
    ? [parts[0], "127.0.0.1", ...parts.slice(1)]
    : parts;
  const numbers = [Number(host), Number(vm)];
  const valid = parts.length <= 4 && (protocol === "tcp" || protocol === "udp") &&
    numbers.every((n) => Number.isInteger(n) && n > 0 && n < 65536);
  if (!valid) {
    throw new AppError("input/malformed", `--port takes [proto:[addr:]]host:vm, not '${text}'`);
  }
  return { protocol, host_address: address!, host_port: numbers[0]!, vm_port: numbers[1]! };
}
