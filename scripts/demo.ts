/** The demo behind `scripts/demo`: see `DEMO_HELP`. */
import { join } from "node:path";
import process from "node:process";
import { DemoFlow, type DeployedApp, hostHasTdx, type VerdictSummary } from "./lib/demo-flow.ts";
import { DEMO_HELP, type DemoOptions, parseDemoOptions } from "./lib/demo-options.ts";
import { DemoStack, requireFreePorts } from "./lib/demo-stack.ts";
import { Phases } from "./lib/phases.ts";

const EXIT_REFUSED = 3;
const root = join(import.meta.dirname, "..");
process.chdir(root);

interface DemoResult {
  readonly app: DeployedApp;
  readonly verdict: VerdictSummary;
}

async function runDemo(
  flow: DemoFlow,
  stack: DemoStack,
  simulated: boolean,
  phases: Phases,
): Promise<DemoResult> {
  await requireFreePorts(stack.ports, flow.isRunning ? Object.values(stack.ports) : []);
  const flavour = simulated ? "dev" : "prod";
  const qemu = await phases.run("host tools", () => flow.hostTools());
  const image = await phases.run(`guest image (${flavour})`, () => flow.buildImage(flavour));
  const pinned = await phases.run("app image and registry", () => flow.serveAppImage());
  await phases.run("KMS, auth, gateway, dstackd", () => flow.startPrograms(qemu, image.store));
  const app = await phases.run("deploy and boot", () => flow.deploy("hello", image.name, pinned));
  await phases.run("call the app over HTTPS", () => flow.callApp(app));
  const verdict = await phases.run("verify the app", () => flow.verify(app, image));
  return { app, verdict };
}

/** What was proven, in plain words, on stderr. */
function report(
  { app, verdict }: DemoResult,
  stack: DemoStack,
  caPath: string,
  keep: boolean,
): void {
  const marks: Record<string, string> = { passed: "✓", failed: "✗" };
  const checks = verdict.checks.map(({ id, result, detail }) =>
    `  ${marks[result] ?? "·"} ${detail} (${id}: ${result})`
  );
  const lines = [
    "",
    verdict.outcome === "accepted" ? "The app was verified:" : "The app was REFUSED:",
    ...checks,
    ...(verdict.reason ? [`  refused: ${verdict.reason.detail} (${verdict.reason.code})`] : []),
    "",
    ...(verdict.simulated
      ? [
        "The TEE is SIMULATED: this machine has no TDX, so dstackd signed the quote itself. All of the",
        "above was really checked, under a root this demo made; it proves nothing about the hardware.",
        "",
      ]
      : []),
    `  app       ${app.url}/`,
    `            signed by the demo's own CA, ${caPath}`,
    `  console   http://127.0.0.1:${stack.ports.dstackd}/?token=$(cat ${
      stack.path("dstackd", "token")
    })`,
    `  verifier  http://127.0.0.1:${stack.ports.verifier}/`,
    "",
    keep
      ? "Everything keeps running; scripts/demo --down stops it."
      : "Stopped again; scripts/demo --keep leaves it running, with the same keys and disk.",
  ];
  process.stderr.write(`${lines.join("\n")}\n`);
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
  const simulated = !hostHasTdx();
  const phases = new Phases();
  const stack = new DemoStack(root, join(root, ".cache/demo"), options.portBase);
  const flow = new DemoFlow({ stack, root, simulated, onDetail: (text) => phases.detail(text) });
  if (options.down || options.fresh) {
    await flow.down();
    if (options.fresh) flow.forget();
    if (options.down) {
      process.stderr.write("demo: stopped\n");
      return 0;
    }
  }
  let interrupted = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => {
      interrupted = true;
      process.stderr.write("\ndemo: interrupted, stopping what was started\n");
      flow.down().finally(() => process.exit(130));
    });
  }
  try {
    const result = await runDemo(flow, stack, simulated, phases);
    report(result, stack, flow.caPath, options.keep);
    if (!options.keep) await flow.down();
    const { app, verdict } = result;
    if (options.json) {
      const { appId: app_id, instanceId: instance_id, url } = app;
      const summary = {
        app_id,
        instance_id,
        url,
        verdict,
        phases: phases.times,
        simulated: verdict.simulated,
      };
      process.stdout.write(`${JSON.stringify(summary)}\n`);
    }
    return verdict.outcome === "accepted" ? 0 : EXIT_REFUSED;
  } catch (error) {
    if (interrupted) return await new Promise<number>(() => {}); // the handler above ends the process
    process.stderr.write(`demo: ${(error as Error).message}\n`);
    if (flow.isRunning) {
      process.stderr.write(
        "demo: what was started keeps running for a look; scripts/demo --down stops it\n",
      );
    }
    return 1;
  }
}

process.exitCode = await main();
