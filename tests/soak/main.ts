import { parseArgs } from "node:util";
import { soakKms } from "./kms.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: "string", default: "30" },
    json: { type: "boolean", default: false },
  },
});
const minutes = Number(values.minutes);
if (positionals.join(" ") !== "kms" || !(minutes > 0)) {
  process.stderr.write("Usage: scripts/soak kms [--minutes N] [--json]\n");
  process.exit(2);
}
const result = await soakKms(minutes * 60_000, (text) => process.stderr.write(`${text}\n`));
process.stdout.write(
  values.json
    ? `${JSON.stringify(result, undefined, 2)}\n`
    : Object.entries(result).map(([name, value]) => `${name}: ${value}\n`).join(""),
);
process.exitCode = result.ok ? 0 : 1;
