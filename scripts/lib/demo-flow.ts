/** The steps of the demo, each usable by itself: end-to-end tests take the same ones. */
import { execFile } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import {
  BASE_DOMAIN,
  demoAuthority,
  type DemoStack,
  GATEWAY_APP_ID,
  writeSecret,
} from "./demo-stack.ts";
import { createOciImage, pushOciImage } from "./oci-image.ts";
import { delay, Services } from "./service.ts";

const execFileAsync = promisify(execFile);

export interface DeployedApp {
  readonly vmId: string;
  readonly appId: string;
  readonly instanceId: string;
  readonly composeHash: string;
  readonly url: string;
}

export interface Cvm {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly bootProgress: string;
  readonly bootError: string;
}

export interface VerdictSummary {
  readonly outcome: string;
  readonly simulated: boolean;
  readonly reason: { readonly code: string; readonly detail: string } | null;
  readonly checks: readonly {
    readonly id: string;
    readonly result: string;
    readonly detail: string;
  }[];
}

export interface GuestImage {
  readonly name: string;
  /** The folder that holds the image's folder. */
  readonly store: string;
}

export interface FlowOptions {
  readonly stack: DemoStack;
  /** The checkout. */
  readonly root: string;
  readonly simulated: boolean;
  /** Told what a step is at, such as a phase of the guest's boot. */
  readonly onDetail: (text: string) => void;
}

/** Runs a program to its end and answers its stdout; another exit than `okCodes` throws with its words. */
export async function run(
  argv: readonly string[],
  okCodes: readonly number[] = [0],
): Promise<string> {
  try {
    const { stdout } = await execFileAsync(argv[0]!, argv.slice(1), { maxBuffer: 64 << 20 });
    return stdout;
  } catch (error) {
    const failure = error as { code?: number; stdout?: string; stderr?: string };
    if (typeof failure.code === "number" && okCodes.includes(failure.code)) {
      return failure.stdout ?? "";
    }
    const words = (failure.stderr || failure.stdout || String(error)).trim().split("\n").slice(-15);
    throw new Error(`${argv.slice(0, 3).join(" ")} failed:\n${words.join("\n")}`);
  }
}

export class DemoFlow {
  readonly services: Services;
  readonly #stack: DemoStack;
  readonly #root: string;
  readonly #simulated: boolean;
  readonly #onDetail: (text: string) => void;

  constructor({ stack, root, simulated, onDetail }: FlowOptions) {
    this.services = new Services(stack.path("run"));
    this.#stack = stack;
    this.#root = root;
    this.#simulated = simulated;
    this.#onDetail = onDetail;
  }

  get isRunning(): boolean {
    return this.services.names().some((name) => this.services.running(name) !== undefined);
  }

  get caPath(): string {
    return this.#stack.path("authority", "ca.pem");
  }

  /** The CLI as its user would call it; data comes back as JSON. */
  async dstack<T>(args: readonly string[], okCodes?: readonly number[]): Promise<T> {
    const host = `http://127.0.0.1:${this.#stack.ports.dstackd}`;
    const tokenFile = this.#stack.path("dstackd", "token");
    const cli = join(this.#root, "scripts/dstack");
    const argv = [cli, "--host", host, "--token-file", tokenFile, "--json", ...args];
    return JSON.parse(await run(argv, okCodes)) as T;
  }

  /** Provides QEMU; answers the path to call. */
  async hostTools(): Promise<string> {
    return (await run([join(this.#root, "scripts/host-tools")])).trim().split("\n").at(-1)!;
  }

  async buildImage(flavour: "dev" | "prod"): Promise<GuestImage> {
    const store = join(this.#root, ".cache/images");
    const argv = [join(this.#root, "scripts/build-image"), "--flavour", flavour, "--out", store];
    const dir = (await run(argv)).trim().split("\n").at(-1)!;
    return { name: dir.split("/").at(-1)!, store };
  }

  /** Builds the hello image once per content and serves it; answers what the compose file pins. */
  async serveAppImage(): Promise<string> {
    await this.services.start(this.#stack.registry());
    const layer = this.#stack.path("registry", "hello.tar");
    const source = join(this.#root, "examples/hello/image");
    const newest = Math.max(
      ...readdirSync(source, { recursive: true, withFileTypes: true })
        .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
    );
    if (!existsSync(layer) || statSync(layer).mtimeMs < newest) {
      await run([join(source, "build"), layer]);
    }
    const image = createOciImage(readFileSync(layer), {
      entrypoint: ["/entrypoint"],
      cmd: ["web"],
      exposedPorts: [80],
    });
    const repository = "dstack-edge/hello";
    await pushOciImage(`http://127.0.0.1:${this.#stack.ports.registry}`, repository, "1", image);
    return `${repository}@${image.digest}`;
  }

  async startPrograms(qemu: string, imageStore: string): Promise<void> {
    const stack = this.#stack;
    const authority = demoAuthority(stack.path("authority"), new Date());
    if (!existsSync(stack.allowlistPath)) {
      const allowlist = { gatewayAppId: GATEWAY_APP_ID, osImages: [], apps: {} };
      writeSecret(stack.allowlistPath, JSON.stringify(allowlist, null, 2));
    }
    this.#onDetail("pages");
    for (const page of ["build-console", "build-pages"]) {
      await run([join(this.#root, "scripts", page)]);
    }
    // dstackd first: where there is no TDX, the others are told to trust the root it makes.
    this.#onDetail("dstackd");
    await this.services.start(stack.dstackd(imageStore, qemu));
    this.#onDetail("auth");
    await this.services.start(stack.auth());
    this.#onDetail("KMS");
    await this.services.start(stack.kms(this.#simulated));
    this.#onDetail("gateway");
    await this.#gatewayIdentity();
    await this.services.start(stack.gateway(authority));
    this.#onDetail("verifier");
    await this.services.start(stack.verifier(this.#simulated));
  }

  /** A certificate from the KMS for a gateway that runs as a process, where nothing can measure it. */
  async #gatewayIdentity(): Promise<void> {
    const out = this.#stack.path("gateway", "certs");
    if (existsSync(join(out, "rpc.crt"))) return;
    await run([
      process.execPath,
      join(this.#root, "functions/entries/kms.node.ts"),
      "issue-cert",
      "--config",
      this.#stack.path("kms", "kms.toml"),
      "--app-id",
      GATEWAY_APP_ID,
      "--subject",
      "dstack-gateway",
      "--alt-name",
      "10.0.2.2",
      "--alt-name",
      `gateway.${BASE_DOMAIN}`,
      "--out",
      out,
    ]);
  }

  /** Writes examples/hello with its image pinned; answers the file. */
  composeFile(pinnedImage: string): string {
    const path = this.#stack.path("hello.yaml");
    const example = join(this.#root, "examples/hello/docker-compose.yaml");
    const text = readFileSync(example, "utf8").replaceAll("dstack-edge/hello:1", pinnedImage);
    writeFileSync(path, text);
    return path;
  }

  /** Deploys and waits until the guest says its boot is done; `more` goes to `dstack deploy`. */
  async deploy(
    name: string,
    imageName: string,
    pinnedImage: string,
    more: readonly string[] = [],
  ): Promise<DeployedApp> {
    const watch = new AbortController();
    const following = this.#followBoot(name, watch.signal);
    try {
      return await this.dstack<DeployedApp>([
        "deploy",
        this.composeFile(pinnedImage),
        "--name",
        name,
        "--image",
        imageName,
        "--vcpu",
        "2",
        "--memory",
        "2G",
        "--disk",
        "4G",
        "--public-logs",
        "--allowlist",
        this.#stack.allowlistPath,
        "--reuse",
        "--wait",
        "--timeout",
        "600",
        ...more,
      ]);
    } finally {
      watch.abort();
      await following;
    }
  }

  /** Shows the guest's boot steps while `deploy --wait` waits for them. */
  async #followBoot(name: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // Nothing to show is no reason to fail: the deployment itself reports what goes wrong.
      const cvm = await this.findCvm(name).catch(() => undefined);
      if (cvm && !signal.aborted) this.#onDetail(cvm.bootError || cvm.bootProgress || "starting");
      await delay(1000);
    }
  }

  async findCvm(name: string): Promise<Cvm | undefined> {
    const url = `http://127.0.0.1:${this.#stack.ports.dstackd}/v1/cvms`;
    const response = await fetch(url, {
      headers: { authorization: `Bearer ${this.#stack.consoleToken}` },
      signal: AbortSignal.timeout(5000),
    });
    const { cvms } = await response.json() as { cvms: Cvm[] };
    return cvms.find((cvm) => cvm.name === name);
  }

  /** Asks for the app's page through the gateway until it answers with its app id. */
  async callApp(app: DeployedApp, timeoutMs = 60_000): Promise<string> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      try {
        const { status, body } = await fetchThroughGateway(`${app.url}/cgi-bin/page`, this.caPath);
        if (status === 200 && body.includes(app.appId)) return body;
        throw new Error(`the app answered ${status} without its app id`);
      } catch (error) {
        if (performance.now() > deadlineMs) throw error;
        await delay(500);
      }
    }
  }

  async verify(
    app: DeployedApp,
    image: GuestImage,
    more: readonly string[] = [],
  ): Promise<VerdictSummary> {
    const simulated = this.#simulated
      ? ["--pccs", this.#stack.pccsUrl, "--root", this.#stack.simulatedRootPath, "--simulated"]
      : [];
    return await this.dstack<VerdictSummary>([
      "verify",
      "app",
      app.url,
      "--ca",
      this.caPath,
      "--kms-ca",
      this.#stack.kmsRootCaPath,
      "--app-id",
      app.appId,
      "--instance-id",
      app.instanceId,
      "--compose-hash",
      app.composeHash,
      "--image",
      join(image.store, image.name),
      ...simulated,
      ...more,
    ], [0, 3]);
  }

  /** Ends CVMs first, then the programs; what is not running is no error. */
  async down(): Promise<void> {
    if (this.services.running("dstackd") !== undefined) {
      const { cvms } = await this.dstack<{ cvms: Cvm[] }>(["ps"]);
      for (const { id, status } of cvms) {
        if (status === "running") await this.dstack(["stop", id, "--force"]);
      }
    }
    for (const name of ["verifier", "gateway", "dstackd", "kms", "auth", "registry"]) {
      await this.services.stop(name);
    }
  }

  /** Forgets keys, disks and apps. */
  forget(): void {
    rmSync(this.#stack.state, { recursive: true, force: true });
    mkdirSync(this.#stack.path("run"), { recursive: true, mode: 0o700 });
  }
}

/** A GET through the gateway: names below `.localhost` are this machine, whatever its resolver says. */
export function fetchThroughGateway(
  url: string,
  caPath: string,
): Promise<{ status: number; body: string }> {
  const { hostname, port, pathname } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = get({
      host: "127.0.0.1",
      port,
      path: pathname,
      servername: hostname,
      headers: { host: `${hostname}:${port}` },
      ca: readFileSync(caPath),
      agent: false,
      timeout: 20_000,
    }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on(
        "end",
        () =>
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString("utf8"),
          }),
      );
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("no answer within 20 s")));
    request.on("error", reject);
  });
}

/** Whether this host runs real trust domains. */
export function hostHasTdx(): boolean {
  const path = "/sys/module/kvm_intel/parameters/tdx";
  return existsSync("/dev/kvm") && existsSync(path) && /^[Y1]/.test(readFileSync(path, "utf8"));
}
