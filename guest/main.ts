import process from "node:process";
import { errorChain } from "#core/errors/app-error.ts";
import {
  type CommandLine,
  type CommandLineSpec,
  parseCommandLine,
} from "./commands/command-line.ts";

interface Command {
  readonly usage: string;
  readonly spec: CommandLineSpec;
  /** Modules are loaded on use: in the guest's one bundle that is what starting costs. */
  run(line: CommandLine): Promise<number>;
}

const none: CommandLineSpec = { options: {} };
const inputOutput: CommandLineSpec = {
  options: { input: "value", output: "value" },
  short: { i: "input", o: "output" },
};

/** False in production bundles, which then hold nothing that plays a TEE. */
declare const __SIM_TEE__: boolean | undefined;

const COMMANDS: Readonly<Record<string, Command>> = {
  run: {
    usage: "run",
    spec: none,
    run: async () => (await import("./commands/run.ts")).runCommand(),
  },
  setup: {
    usage: "setup [--work-dir DIR] [--device DEV] [--mount-point DIR]",
    spec: { options: { "work-dir": "value", device: "value", "mount-point": "value" } },
    run: async ({ options }) => (await import("./commands/setup.ts")).setupCommand(options),
  },
  agent: {
    usage: "agent [--watchdog] [-c FILE]",
    spec: {
      options: { watchdog: "switch", config: "value" },
      short: { w: "watchdog", c: "config" },
    },
    run: async ({ options }) => (await import("./commands/agent.ts")).agentCommand(options),
  },
  app: {
    usage: "app start|stop",
    spec: none,
    run: async ({ operands }) => (await import("./commands/app.ts")).appCommand(operands[0]),
  },
  "gateway-checker": {
    usage: "gateway-checker [--work-dir DIR]",
    spec: { options: { "work-dir": "value" } },
    run: async ({ options }) =>
      (await import("./commands/gateway-checker.ts")).gatewayCheckerCommand(options),
  },
  quote: {
    usage: "quote < 64 bytes",
    spec: none,
    run: async () => (await import("./commands/tools.ts")).quoteCommand(),
  },
  eventlog: {
    usage: "eventlog",
    spec: none,
    run: async () => (await import("./commands/tools.ts")).eventLogCommand(),
  },
  extend: {
    usage: "extend -e NAME [-p HEX]",
    spec: {
      options: { event: "value", payload: "value" },
      short: { e: "event", p: "payload" },
    },
    run: async ({ options }) => (await import("./commands/tools.ts")).extendCommand(options),
  },
  show: {
    usage: "show",
    spec: none,
    run: async () => (await import("./commands/tools.ts")).showCommand(),
  },
  hex: {
    usage: "hex [FILE]",
    spec: none,
    run: async ({ operands }) => (await import("./commands/tools.ts")).hexCommand(operands[0]),
  },
  rand: {
    usage: "rand [-n 20] [-o FILE] [-x]",
    spec: {
      options: { bytes: "value", output: "value", hex: "switch" },
      short: { n: "bytes", o: "output", x: "hex" },
    },
    run: async ({ options }) => (await import("./commands/tools.ts")).randCommand(options),
  },
  "replay-imr": {
    usage: "replay-imr",
    spec: none,
    run: async () => (await import("./commands/evidence.ts")).replayImrCommand(),
  },
  "quote-report": {
    usage: "quote-report --report-data HEX [--sys-config FILE] [-o FILE] [--debug]",
    spec: {
      options: {
        "report-data": "value",
        "sys-config": "value",
        output: "value",
        debug: "switch",
      },
      short: { o: "output" },
    },
    run: async ({ options }) =>
      (await import("./commands/evidence.ts")).quoteReportCommand(options),
  },
  attest: {
    usage: "attest --report-data HEX [--app-id HEX] [-o attestation.bin] [--hex]",
    spec: {
      options: { "report-data": "value", "app-id": "value", output: "value", hex: "switch" },
      short: { o: "output" },
    },
    run: async ({ options }) => (await import("./commands/evidence.ts")).attestCommand(options),
  },
  "attest-info": {
    usage: "attest-info [-i attestation.bin]",
    spec: { options: { input: "value" }, short: { i: "input" } },
    run: async ({ options }) => (await import("./commands/evidence.ts")).attestInfoCommand(options),
  },
  "attest-json": {
    usage: "attest-json [-i attestation.bin] [-o FILE]",
    spec: inputOutput,
    run: async ({ options }) => (await import("./commands/evidence.ts")).attestJsonCommand(options),
  },
  "attest-strip": {
    usage: "attest-strip [-i attestation.bin] [-o attestation.strip.bin]",
    spec: inputOutput,
    run: async ({ options }) =>
      (await import("./commands/evidence.ts")).attestStripCommand(options),
  },
  "gen-ra-cert": {
    usage: "gen-ra-cert --ca-cert FILE --ca-key FILE -c CERT -k KEY",
    spec: {
      options: { "ca-cert": "value", "ca-key": "value", cert: "value", key: "value" },
      short: { c: "cert", k: "key" },
    },
    run: async ({ options }) => (await import("./commands/keys.ts")).genRaCertCommand(options),
  },
  "gen-ca-cert": {
    usage: "gen-ca-cert --cert FILE --key FILE [--ca-level 1]",
    spec: {
      options: { cert: "value", key: "value", "ca-level": "value" },
      short: { c: "cert", k: "key" },
    },
    run: async ({ options }) => (await import("./commands/keys.ts")).genCaCertCommand(options),
  },
  "gen-app-keys": {
    usage: "gen-app-keys [--ca-level 1] -o FILE",
    spec: { options: { "ca-level": "value", output: "value" }, short: { o: "output" } },
    run: async ({ options }) => (await import("./commands/keys.ts")).genAppKeysCommand(options),
  },
  "get-keys": {
    usage: "get-keys -k KMS_URL [--app-id HEX] [-o FILE] [--root-ca FILE]",
    spec: {
      options: { "kms-url": "value", "app-id": "value", output: "value", "root-ca": "value" },
      short: { k: "kms-url", o: "output" },
    },
    run: async ({ options }) => (await import("./commands/keys.ts")).getKeysCommand(options),
  },
  "host-shared": {
    usage: "host-shared mount|unmount --mount-point DIR",
    spec: { options: { "mount-point": "value" } },
    run: async (line) => (await import("./commands/tools.ts")).hostSharedCommand(line),
  },
  "gateway-refresh": {
    usage: "gateway-refresh [--work-dir DIR] [--force]",
    spec: { options: { "work-dir": "value", force: "switch" } },
    run: async ({ options }) =>
      (await import("./commands/gateway-checker.ts")).gatewayRefreshCommand(options),
  },
  "remove-orphans": {
    usage: "remove-orphans -f COMPOSE [-n] [--no-dockerd] [-d /var/lib/docker]",
    spec: {
      options: {
        "compose-file": "value",
        "dry-run": "switch",
        "no-dockerd": "switch",
        "docker-root": "value",
      },
      short: { f: "compose-file", n: "dry-run", d: "docker-root" },
    },
    run: async ({ options }) =>
      (await import("./commands/orphans.ts")).removeOrphansCommand(options),
  },
  "notify-host": {
    usage: "notify-host -e EVENT -d PAYLOAD [-u URL]",
    spec: {
      options: { event: "value", payload: "value", url: "value" },
      short: { e: "event", d: "payload", u: "url" },
    },
    run: async ({ options }) => (await import("./commands/tools.ts")).notifyHostCommand(options),
  },
  ...(typeof __SIM_TEE__ === "undefined" || __SIM_TEE__
    ? {
      simulate: {
        usage: "simulate --dir DIR --dstack-socket PATH --tappd-socket PATH",
        spec: {
          options: { dir: "value", "dstack-socket": "value", "tappd-socket": "value" },
        } as const,
        run: async ({ options }: CommandLine) =>
          (await import("./commands/simulate.ts")).simulateCommand(options),
      },
    }
    : {}),
};

/** The reference has these for clouds whose machines have a TPM. */
const TPM_COMMANDS: ReadonlySet<string> = new Set(["vtpm-attest", "tpm-quote", "tpm-verify"]);

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args[0] === "tdxctl" ? args.slice(1) : args;
  if (name !== undefined && TPM_COMMANDS.has(name)) {
    process.stderr.write(`dstack-guest ${name}: This image has no TPM tools\n`);
    return 1;
  }
  const command = name === undefined ? undefined : COMMANDS[name];
  if (command === undefined) {
    const usages = Object.values(COMMANDS).map(({ usage }) => `  dstack-guest ${usage}\n`);
    process.stderr.write(`Usage:\n${usages.join("")}`);
    return 2;
  }
  let line: CommandLine;
  try {
    line = parseCommandLine(rest, command.spec);
  } catch (error) {
    process.stderr.write(`${errorChain(error)}\nUsage: dstack-guest ${command.usage}\n`);
    return 2;
  }
  try {
    return await command.run(line);
  } catch (error) {
    process.stderr.write(`dstack-guest ${name}: ${errorChain(error)}\n`);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));
