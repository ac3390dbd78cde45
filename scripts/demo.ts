/** The demo behind `scripts/demo`: see `DEMO_HELP`. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import {
  BASE_DOMAIN,
  demoAuthority,
  DemoStack,
  GATEWAY_APP_ID,
  requireFreePorts,
  writeSecret,
} from "./lib/demo-stack.ts";
import { DEMO_HELP, type DemoOptions, parseDemoOptions } from "./lib/demo-options.ts";
import { createOciImage, pushOciImage } from "./lib/oci-image.ts";
import { Phases } from "./lib/phases.ts";
import { delay, Services } from "./lib/service.ts";

const execFileAsync = promisify(execFile);
const root = join(import.meta.dirname, "..");
process.chdir(root);

interface DeployedApp {
  readonly vmId: string;
  readonly appId: string;
  readonly instanceId: string;
  readonly composeHash: string;
  readonly url: string;
}

interface Cvm {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly bootProgress: string;
  readonly bootError: string;
}

interface VerdictSummary {
  readonly outcome: string;
  readonly simulated: boolean;
  readonly reason: { code: string; detail: string } | null;
  readonly checks: readonly { id: string; result: string; detail: string }[];
}

/** Runs a program to its end; its stderr goes through, its stdout comes back. */
async function run(argv: readonly string[], okCodes: readonly number[] = [0]): Promise<string> {
  try {
    const { stdout } = await execFileAsync(argv[0]!, argv.slice(1), {
      maxBuffer: 64 << 20,
      env: process.env,
    });
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

/** A GET through the gateway: names below `.localhost` are this machine, whatever its resolver says. */
function fetchThroughGateway(
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

class Demo {
  readonly #options: DemoOptions;
  readonly #stack: DemoStack;
  readonly #services: Services;
  readonly #phases = new Phases();
  #simulated = true;

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#stack = new DemoStack(root, options.portBase);
    this.#services = new Services(this.#stack.path("run"));
  }

  /** The CLI as its user would call it; data comes back as JSON. */
  async #dstack<T>(args: readonly string[], okCodes?: readonly number[]): Promise<T> {
    const host = `http://127.0.0.1:${this.#stack.ports.dstackd}`;
    const tokenFile = this.#stack.path("dstackd", "token");
    const output = await run(
      ["scripts/dstack", "--host", host, "--token-file", tokenFile, "--json", ...args],
      okCodes,
    );
    return JSON.parse(output) as T;
  }

  async up(): Promise<Record<string, unknown>> {
    const { ports } = this.#stack;
    const ours = this.#services.names().some((name) => this.#services.running(name) !== undefined)
      ? Object.values(ports)
      : [];
    await requireFreePorts(ports, ours);
    this.#simulated = !hostHasTdx();
    const flavour = this.#simulated ? "dev" : "prod";

    const qemu = await this.#phases.run("host tools", async () => {
      await run(["scripts/host-tools"]);
      return join(root, ".cache/host-tools/bin/qemu-system-x86_64");
    });
    const image = await this.#phases.run(
      `guest image (${flavour})`,
      () => this.#buildImage(flavour),
    );
    const pinned = await this.#phases.run("app image and registry", () => this.#serveAppImage());
    await this.#phases.run(
      "KMS, auth, gateway, dstackd",
      () => this.#startPrograms(qemu, image.dir),
    );
    const app = await this.#phases.run("deploy and boot", () => this.#deploy(image.name, pinned));
    const caPath = this.#stack.path("authority", "ca.pem");
    await this.#phases.run("call the app over HTTPS", () => this.#callApp(app, caPath));
    const verdict = await this.#phases.run(
      "verify the app",
      () => this.#verify(app, caPath, image),
    );
    this.#report(app, verdict);
    return {
      app_id: app.appId,
      instance_id: app.instanceId,
      url: app.url,
      verdict,
      phases: this.#phases.times,
      simulated: verdict.simulated,
    };
  }

  async #buildImage(flavour: "dev" | "prod"): Promise<{ name: string; dir: string }> {
    const images = join(root, ".cache/images");
    const dir = (await run(["scripts/build-image", "--flavour", flavour, "--out", images])).trim()
      .split("\n").at(-1)!;
    return { name: dir.split("/").at(-1)!, dir: images };
  }

  /** Builds the hello image once per content and serves it; returns what the compose file pins. */
  async #serveAppImage(): Promise<string> {
    await this.#services.start(this.#stack.registry());
    const layer = this.#stack.path("registry", "hello.tar");
    const source = "examples/hello/image";
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

  async #startPrograms(qemu: string, imageDir: string): Promise<void> {
    const stack = this.#stack;
    const authority = demoAuthority(stack.path("authority"), new Date());
    if (!existsSync(stack.allowlistPath)) {
      writeSecret(
        stack.allowlistPath,
        JSON.stringify({ gatewayAppId: GATEWAY_APP_ID, osImages: [], apps: {} }, null, 2),
      );
    }
    void stack.consoleToken; // made before dstackd's configuration names it
    this.#phases.detail("dstackd");
    await this.#services.start(stack.dstackd(imageDir, qemu));
    this.#phases.detail("auth");
    await this.#services.start(stack.auth());
    this.#phases.detail("kms");
    await this.#services.start(stack.kms(this.#simulated));
    this.#phases.detail("gateway");
    await this.#gatewayIdentity();
    await this.#services.start(stack.gateway(authority));
    this.#phases.detail("verifier");
    if (existsSync("functions/entries/verifier.node.ts")) {
      await this.#services.start(stack.verifier(this.#simulated));
    }
  }

  async #gatewayIdentity(): Promise<void> {
    const out = this.#stack.path("gateway", "certs");
    if (existsSync(join(out, "rpc.crt"))) return;
    await run([
      process.execPath,
      "functions/entries/kms.node.ts",
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

  async #deploy(imageName: string, pinned: string): Promise<DeployedApp> {
    const compose = this.#stack.path("hello.yaml");
    const text = readFileSync("examples/hello/docker-compose.yaml", "utf8")
      .replaceAll("dstack-edge/hello:1", pinned);
    writeFileSync(compose, text);
    const watch = new AbortController();
    const following = this.#followBoot(watch.signal);
    try {
      return await this.#dstack<DeployedApp>([
        "deploy",
        compose,
        "--name",
        "hello",
        "--image",
        imageName,
        "--vcpu",
        "2",
        "--memory",
        "2G",
        "--disk",
        "4G",
        "--gateway",
        "--public-logs",
        "--allowlist",
        this.#stack.allowlistPath,
        "--reuse",
        "--wait",
      ]);
    } finally {
      watch.abort();
      await following;
    }
  }

  /** Shows the guest's boot steps while `deploy --wait` waits for them. */
  async #followBoot(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { cvms } = await this.#dstack<{ cvms: Cvm[] }>(["ps"]).catch(() => ({ cvms: [] }));
      const cvm = cvms.find(({ name }) => name === "hello");
      if (cvm && !signal.aborted) {
        this.#phases.detail(cvm.bootError || cvm.bootProgress || "starting");
      }
      await delay(1000);
    }
  }

  async #callApp(app: DeployedApp, caPath: string): Promise<void> {
    const deadlineMs = performance.now() + 60_000;
    for (;;) {
      try {
        const { status, body } = await fetchThroughGateway(`${app.url}/cgi-bin/page`, caPath);
        if (status === 200 && body.includes(app.appId)) return;
        throw new Error(`the app answered ${status} without its app id`);
      } catch (error) {
        if (performance.now() > deadlineMs) throw error;
        await delay(500);
      }
    }
  }

  async #verify(
    app: DeployedApp,
    caPath: string,
    image: { name: string; dir: string },
  ): Promise<VerdictSummary> {
    const simulated = this.#simulated
      ? ["--pccs", this.#stack.pccsUrl, "--root", this.#stack.simulatedRootPath, "--simulated"]
      : [];
    return await this.#dstack<VerdictSummary>([
      "verify",
      "app",
      app.url,
      "--ca",
      caPath,
      "--kms-ca",
      this.#stack.kmsRootCaPath,
      "--compose-hash",
      app.composeHash,
      "--image",
      join(image.dir, image.name),
      ...simulated,
    ], [0, 3]);
  }

  #report(app: DeployedApp, verdict: VerdictSummary): void {
    const say = (line = "") => process.stderr.write(`${line}\n`);
    const marks: Record<string, string> = { passed: "✓", failed: "✗" };
    say();
    say(verdict.outcome === "accepted" ? "The app was verified:" : "The app was REFUSED:");
    for (const check of verdict.checks) {
      say(`  ${marks[check.result] ?? "·"} ${check.detail} (${check.id}: ${check.result})`);
    }
    if (verdict.reason) say(`  refused: ${verdict.reason.detail} (${verdict.reason.code})`);
    say();
    if (verdict.simulated) {
      say(
        "The TEE is SIMULATED: this machine has no TDX, so dstackd signed the quote itself. All of the",
      );
      say(
        "above was really checked, under a root this demo made; it proves nothing about the hardware.",
      );
      say();
    }
    say(`  app      ${app.url}/   (CA: ${this.#stack.path("authority", "ca.pem")})`);
    say(
      `  console  http://127.0.0.1:${this.#stack.ports.dstackd}/?token=${"$"}(cat ${
        this.#stack.path("dstackd", "token")
      })`,
    );
    say();
    say(
      this.#options.keep
        ? "Everything keeps running; `scripts/demo --down` stops it."
        : "Stopped again; `scripts/demo --keep` leaves it running, with keys and disk as they are.",
    );
  }

  /** Ends CVMs first, then the programs; what is not running is no error. */
  async down(): Promise<void> {
    if (this.#services.running("dstackd") !== undefined) {
      const { cvms } = await this.#dstack<{ cvms: Cvm[] }>(["ps"]);
      for (const { id, status } of cvms) {
        if (status === "running") await this.#dstack(["stop", id, "--force"]);
      }
    }
    for (const name of ["verifier", "gateway", "dstackd", "kms", "auth", "registry"]) {
      await this.#services.stop(name);
    }
    if (this.#options.fresh) rmSync(this.#stack.state, { recursive: true, force: true });
  }
}

function hostHasTdx(): boolean {
  const path = "/sys/module/kvm_intel/parameters/tdx";
  return existsSync("/dev/kvm") && existsSync(path) && /^[Y1]/.test(readFileSync(path, "utf8"));
}

async function main(): Promise<number> {
  let options: DemoOptions;
  try {
    options = parseDemoOptions(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`demo: ${(error as Error).message}\n`);
    return 2;
  }
  if (options.help) {
    process.stdout.write(DEMO_HELP);
    return 0;
  }
  const demo = new Demo(options);
  if (options.down) {
    await demo.down();
    process.stderr.write("demo: stopped\n");
    return 0;
  }
  let interrupted = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => {
      interrupted = true;
      process.stderr.write("\ndemo: interrupted, stopping what was started\n");
      demo.down().finally(() => process.exit(130));
    });
  }
  try {
    const result = await demo.up();
    if (!options.keep) await demo.down();
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    return (result["verdict"] as VerdictSummary).outcome === "accepted" ? 0 : 3;
  } catch (error) {
    if (interrupted) return await new Promise<number>(() => {});
    process.stderr.write(`demo: ${(error as Error).message}\n`);
    process.stderr.write(
      "demo: what was started keeps running for a look; scripts/demo --down stops it\n",
    );
    return 1;
  }
}

process.exitCode = await main();
