import { parseArgs } from "node:util";
import type { BenchResult } from "./result.ts";

/** Every suite, imported when it runs: a cold measurement must not pay for the others. */
const SUITES: Readonly<Record<string, () => Promise<{ run: () => Promise<BenchResult[]> }>>> = {
  attestation: () => import("./attestation.ts"),
  gateway: () => import("./gateway.ts"),
  kms: () => import("./kms.ts"),
  measurement: () => import("./measurement.ts"),
  parsers: () => import("./parsers.ts"),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" } },
});
const unknown = positionals.filter((name) => !Object.hasOwn(SUITES, name));
if (unknown.length > 0) {
  process.stderr.write(
    `No benchmark ${unknown.join(", ")}. There are: ${Object.keys(SUITES).join(", ")}\n`,
  );
  process.exit(2);
}
const results: BenchResult[] = [];
for (const name of positionals.length > 0 ? positionals : Object.keys(SUITES)) {
  const suite = await SUITES[name]!();
  results.push(...await suite.run());
}
process.stdout.write(values.json ? JSON.stringify(results, undefined, 2) + "\n" : table(results));

function table(lines: readonly BenchResult[]): string {
  return lines.map(({ name, ours_ms, peer, peer_ms, ratio }) => {
    const beside = peer === null ? "" : `  ${peer} ${peer_ms} ms  ratio ${ratio}`;
    return `${name}: ${ours_ms} ms${beside}\n`;
  }).join("");
}
