import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");
const TREES = ["core", "adapters", "functions", "host-daemon", "guest", "cli"] as const;
type Tree = typeof TREES[number];

interface SourceFile {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly { readonly specifier: string; readonly typeOnly: boolean }[];
}

/** Source without tests, generated code and what only a browser runs. */
const sources = globSync(TREES.map((tree) => `${tree}/**/*.{ts,tsx}`), { cwd: ROOT })
  .filter((path) => !/\.(test|fixture)\.tsx?$|\/gen\/|(^|\/)node_modules\//.test(path))
  .map(readSource);

function readSource(path: string): SourceFile {
  const text = readFileSync(join(ROOT, path), "utf8");
  // Imports stand at the start of a line; strings that only look like one do not.
  const statements = text.matchAll(
    /^(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/gm,
  );
  const imports = Array.from(statements, ([, type, named, dynamic]) => ({
    specifier: named ?? dynamic!,
    typeOnly: type !== undefined,
  }));
  return { path, text, imports };
}

/** The file an import names, from the root of the repository; undefined for packages. */
function targetOf(file: SourceFile, specifier: string): string | undefined {
  if (specifier.startsWith("#")) return specifier.slice(1);
  if (!specifier.startsWith(".") || specifier.endsWith("/package.json")) return undefined;
  return relative(ROOT, join(ROOT, dirname(file.path), specifier));
}

function treeOf(path: string): string {
  return path.split("/", 1)[0]!;
}

/** `file imports specifier` for every import that `isBad`. */
function violations(
  isBad: (
    file: SourceFile,
    specifier: string,
    target: string | undefined,
    typeOnly: boolean,
  ) => boolean,
): string[] {
  return sources.flatMap((file) =>
    file.imports.filter(({ specifier, typeOnly }) =>
      isBad(file, specifier, targetOf(file, specifier), typeOnly)
    ).map(({ specifier }) => `${file.path} imports ${specifier}`)
  );
}

const ALLOWED: Readonly<Record<Tree, readonly string[]>> = {
  "core": ["core"],
  "adapters": ["adapters", "core"],
  "functions": ["functions", "adapters", "core"],
  "host-daemon": ["host-daemon", "adapters", "core"],
  "guest": ["guest", "adapters", "core"],
  "cli": ["cli", "adapters", "core", "openapi"],
};

test("there is something to check", () => {
  assert.ok(sources.length > 50);
  assert.ok(sources.some(({ path }) => path === "core/rpc/server.ts"));
});

test("imports go down: programs meet in core/ and on the wire", () => {
  assert.deepEqual(
    violations((file, _specifier, target) => {
      if (target === undefined) return false;
      const from = treeOf(file.path) as Tree;
      if (ALLOWED[from].includes(treeOf(target))) return false;
      // The gateway's data plane composes the gateway's routing (design section 3).
      if (file.path.startsWith("host-daemon/gateway/")) {
        return !/^functions\/(gateway|db\/gateway-)/.test(target);
      }
      // The console is a client of its own API like the CLI.
      return !(file.path.startsWith("host-daemon/console/") && target.startsWith("openapi/"));
    }),
    [],
  );
});

test("an import from another folder of the tree is named by #, not by ../..", () => {
  assert.deepEqual(
    violations((file, specifier, target) =>
      target !== undefined && specifier.startsWith(".") && treeOf(target) !== treeOf(file.path)
    ),
    [],
  );
});

/** Where a program touches its runtime. */
function mayUseRuntime(path: string): boolean {
  return treeOf(path) === "adapters" || path.includes("/adapters/") ||
    path.startsWith("functions/entries/") || /(^|\/)main\.ts$/.test(path) ||
    /\.config\.ts$/.test(path) || path.startsWith("guest/os/");
}

test("a runtime is imported in adapters, entries and main.ts only", () => {
  const runtime = /^(node|bun|cloudflare|deno|jsr|https?):/;
  assert.deepEqual(
    violations((file, specifier) => runtime.test(specifier) && !mayUseRuntime(file.path)),
    [],
  );
});

test("Deno and process are used in adapters, entries and main.ts only", () => {
  const used = /(?<![\w."'`/$-])(Deno\.[a-z]|process\.(env|argv|exit|std|pid|cwd)\b)/;
  const ownProcess = /\b(const|let) process\b|[({,]\s*process[:,)}]/; // a variable of that name
  const bad = sources.filter(({ path, text }) =>
    !mayUseRuntime(path) && used.test(code(text)) && !ownProcess.test(text)
  );
  assert.deepEqual(bad.map(({ path }) => path), []);
});

test("core/ has no clock, no network and no randomness but WebCrypto's", () => {
  const impure =
    /\b(Date\.now\(|new Date\(\)|performance\.now\(|Math\.random\(|setTimeout\(|setInterval\()|(?<![\w.#])fetch\(/;
  const bad = sources.filter(({ path, text }) =>
    treeOf(path) === "core" && impure.test(code(text))
  );
  assert.deepEqual(bad.map(({ path }) => path), []);
});

/** Layers of core/, lowest first; a folder may import its own layer and those below. */
const CORE_LAYERS: readonly (readonly string[])[] = [
  ["bytes", "collections", "errors"],
  ["encoding", "crypto", "x509", "http"],
  ["compose", "tdx", "sev-snp", "nitro", "tpm", "nvidia", "event-log"],
  ["measurement", "attestation"],
  ["ra-tls", "rpc"],
];

test("imports inside core/ go down its layers", () => {
  const layerOf = (path: string) =>
    CORE_LAYERS.findIndex((layer) => layer.includes(path.split("/")[1]!));
  const unplaced = new Set(
    sources.filter(({ path }) => treeOf(path) === "core" && layerOf(path) < 0)
      .map(({ path }) => dirname(path)),
  );
  assert.deepEqual([...unplaced], [], "a folder of core/ without a layer: add it above");
  assert.deepEqual(
    violations((file, _specifier, target) =>
      treeOf(file.path) === "core" && target !== undefined && treeOf(target) === "core" &&
      layerOf(target) > layerOf(file.path)
    ),
    [],
  );
});

test("no Workers entry reaches key-holding code or adapters", () => {
  const byPath = new Map(sources.map((file) => [file.path, file]));
  const reached = (from: string, seen = new Set<string>()): Set<string> => {
    const file = byPath.get(from);
    if (file === undefined || seen.has(from)) return seen;
    seen.add(from);
    for (const { specifier, typeOnly } of file.imports) {
      const target = targetOf(file, specifier);
      if (target !== undefined && !typeOnly) reached(target, seen);
    }
    return seen;
  };
  const holdsKeys = /^functions\/(kms\/(key-store|bootstrap|certificates|sign-cert)|entries\/key-)/;
  const bad = sources.filter(({ path }) => path.endsWith(".workers.ts"))
    .flatMap(({ path }) =>
      [...reached(path)].filter((target) => holdsKeys.test(target) || treeOf(target) === "adapters")
        .map((target) => `${path} reaches ${target}`)
    );
  assert.deepEqual(bad, []);
});

test("every import names its file with its extension", () => {
  assert.deepEqual(
    violations((_file, _specifier, target) =>
      target !== undefined && !/\.(ts|tsx|json|sql|css|html)$/.test(target)
    ),
    [],
  );
});

/** Source without comments, as far as a test needs it. */
function code(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "")
    .replaceAll(/\s\/\/ .*$/gm, "");
}
