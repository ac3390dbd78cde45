/**
 * The test command behind `scripts/test`: runs the steps below one after the other, shows the output of
 * those that fail, and closes with one line `N passed, N failed, N skipped` over everything counted.
 */
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";

interface Step {
  readonly name: string;
  readonly what: string;
  /** Argv lists, run in order until one fails. */
  readonly commands: () => string[][];
  readonly timeoutMs: number;
  readonly env?: Record<string, string>;
}

const bin = (name: string) => `node_modules/.bin/${name}`;
const source = [
  "core",
  "adapters",
  "functions",
  "host-daemon",
  "guest",
  "cli",
  "contracts",
  "scripts",
  "tests",
];
const tests = (...patterns: string[]) =>
  globSync(patterns, { exclude: (path) => path.includes("node_modules") }).sort();
const unit = () =>
  tests(
    "{core,adapters,functions,host-daemon,guest,cli}/**/*.test.ts",
    "contracts/*.test.ts",
    "tests/architecture/*.test.ts",
  );
/** Only what is pure or meant for Deno; host-daemon runs on Node alone. */
const unitDeno = () => tests("{core,adapters,functions,guest}/**/*.test.ts");
const nodeTest = (files: string[], concurrency = availableParallelism()) => [
  bin("node"),
  "--test",
  "--test-reporter=spec",
  `--test-concurrency=${concurrency}`,
  "--test-timeout=600000",
  ...files,
];

const STEPS: readonly Step[] = [
  {
    name: "lint",
    what: "deno lint",
    commands: () => [[bin("deno"), "lint", "--quiet", ...source]],
    timeoutMs: 180_000,
  },
  {
    name: "format",
    what: "deno fmt --check",
    commands: () => [[bin("deno"), "fmt", "--check", "--quiet", ...source]],
    timeoutMs: 120_000,
  },
  {
    name: "types",
    what: "tsc --noEmit",
    commands: () => [[bin("tsc"), "--noEmit"]],
    timeoutMs: 300_000,
  },
  {
    name: "generated",
    what: "generated code and documents are those of their sources",
    commands: () => [["scripts/generate-rpc", "--check"], ["scripts/generate-openapi", "--check"]],
    timeoutMs: 300_000,
  },
  {
    name: "unit-node",
    what: "unit and architecture tests under Node 24",
    commands: () => [nodeTest(unit())],
    timeoutMs: 1_200_000,
  },
  {
    name: "unit-deno",
    what: "unit tests under Deno",
    commands: () => [[
      bin("deno"),
      "test",
      "--allow-all",
      "--no-check",
      "--parallel",
      "--reporter=dot",
      ...unitDeno(),
    ]],
    timeoutMs: 1_200_000,
  },
  {
    name: "workers",
    what: "Workers entries in miniflare",
    commands: () => [nodeTest(tests("tests/workers/*.test.ts"))],
    timeoutMs: 300_000,
  },
  {
    name: "conformance",
    what: "our predictions and verdicts beside those of other programs",
    commands: () => [
      ["scripts/host-tools"],
      ["scripts/host-tools", "--older"],
      nodeTest(tests("tests/conformance/**/*.test.ts")),
    ],
    timeoutMs: 600_000,
  },
  {
    name: "e2e",
    what: "end to end in a real VM",
    commands: () => [nodeTest(tests("tests/e2e/*.test.ts"), 1)],
    timeoutMs: 2_700_000,
  },
];

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  reasons: string[];
}

/** Runs one command to its end; a step that overruns its time is ended and counts as failed. */
function run(
  argv: string[],
  step: Step,
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { env, stdio: ["ignore", "pipe", "pipe"] });
    const chunks: string[] = [];
    const timer = setTimeout(() => {
      chunks.push(`\n${step.name}: ended after ${step.timeoutMs / 1000} s\n`);
      child.kill("SIGKILL");
    }, step.timeoutMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        chunks.push(text);
        if (process.env["VERBOSE"]) process.stderr.write(text);
      });
    }
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 1, output: chunks.join("") });
    });
  });
}

/** What a test runner's closing lines say; a command without them counts as one check. */
function count(output: string, code: number): Outcome {
  // deno-lint-ignore no-control-regex
  const plain = output.replace(/\u001b\[[0-9;]*m/g, "");
  const reasons = [...plain.matchAll(/skipped: .*/g)].map((match) => match[0].trim());
  const node = (word: string) =>
    Number(new RegExp(`^ℹ ${word} (\\d+)$`, "m").exec(plain)?.[1] ?? 0);
  if (/^ℹ tests \d+$/m.test(plain)) {
    return {
      passed: node("pass"),
      failed: Math.max(node("fail") + node("cancelled"), code === 0 ? 0 : 1),
      skipped: node("skipped") + node("todo"),
      reasons,
    };
  }
  const deno = /(\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/
    .exec(plain);
  if (deno) {
    return {
      passed: Number(deno[1]),
      failed: Math.max(Number(deno[2]), code === 0 ? 0 : 1),
      skipped: Number(deno[3] ?? 0),
      reasons,
    };
  }
  return code === 0
    ? { passed: 1, failed: 0, skipped: 0, reasons }
    : { passed: 0, failed: 1, skipped: 0, reasons };
}

const wanted = process.argv.slice(2);
if (wanted.includes("--list")) {
  for (const step of STEPS) console.log(`${step.name.padEnd(12)} ${step.what}`);
  process.exit(0);
}
const unknown = wanted.filter((name) => !STEPS.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(`scripts/test: no step '${unknown[0]}'; --list shows them`);
  process.exit(2);
}

const path = `${process.cwd()}/node_modules/.bin:${process.env["PATH"]}`;
const total = { passed: 0, failed: 0, skipped: 0 };
for (const step of STEPS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const startedMs = performance.now();
  const env = { ...process.env, PATH: path, NO_COLOR: "1", FORCE_COLOR: undefined, ...step.env };
  const outcome: Outcome = { passed: 0, failed: 0, skipped: 0, reasons: [] };
  for (const argv of step.commands()) {
    const { code, output } = await run(argv, step, env);
    const one = count(output, code);
    outcome.passed += one.passed;
    outcome.failed += one.failed;
    outcome.skipped += one.skipped;
    outcome.reasons.push(...one.reasons);
    if (code !== 0) {
      process.stdout.write(output.length > 60_000 ? `…${output.slice(-60_000)}` : output);
      break;
    }
  }
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const mark = outcome.failed > 0 ? "✗" : "✓";
  console.log(
    `${mark} ${
      step.name.padEnd(10)
    } ${step.what}: ${outcome.passed} passed, ${outcome.failed} failed, ` +
      `${outcome.skipped} skipped (${seconds} s)`,
  );
  for (const reason of new Set(outcome.reasons)) console.log(`    ${reason}`);
  total.passed += outcome.passed;
  total.failed += outcome.failed;
  total.skipped += outcome.skipped;
}
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exit(total.failed === 0 ? 0 : 1);
