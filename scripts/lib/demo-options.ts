import { parseArgs } from "node:util";

export const DEMO_HELP = `scripts/demo: from a clone to an attested HTTPS app, on this machine

  scripts/demo            everything below, then stop what was started
  scripts/demo --keep     the same, and leave it running
  scripts/demo --down     stop all that a demo left running, and remove its network

Options:
  --json                  print one JSON object on stdout, progress on stderr
  --port-base N           first of the 20 TCP ports used on loopback (default 19100)
  --fresh                 forget keys, disks and apps of earlier runs first
  --help                  this text
`;

export interface DemoOptions {
  readonly help: boolean;
  readonly keep: boolean;
  readonly down: boolean;
  readonly json: boolean;
  readonly fresh: boolean;
  readonly portBase: number;
}

/** Throws TypeError naming the option that is wrong. */
export function parseDemoOptions(args: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", short: "h", default: false },
      keep: { type: "boolean", default: false },
      down: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      fresh: { type: "boolean", default: false },
      "port-base": { type: "string", default: "19100" },
    },
  });
  const portBase = Number(values["port-base"]);
  if (!Number.isInteger(portBase) || portBase < 1024 || portBase > 65_000) {
    throw new TypeError("--port-base takes a port from 1024 to 65000");
  }
  if (values.keep && values.down) throw new TypeError("--keep and --down contradict each other");
  const { help, keep, down, json, fresh } = values;
  return { help, keep, down, json, fresh, portBase };
}
