import { globSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Abi, Hex } from "viem";

/** Of one contract: what callers and deployers need, and what a test of its layout needs. */
export interface Artifact {
  readonly abi: Abi;
  readonly bytecode: Hex;
  readonly methodIdentifiers: Readonly<Record<string, string>>;
  readonly storage: readonly {
    readonly label: string;
    readonly slot: string;
    readonly offset: number;
  }[];
}

interface SolcOutput {
  readonly errors?: readonly { readonly severity: string; readonly formattedMessage: string }[];
  readonly contracts: Readonly<Record<string, Readonly<Record<string, SolcContract>>>>;
}

interface SolcContract {
  readonly abi: Abi;
  readonly evm: {
    readonly bytecode: { readonly object: string };
    readonly methodIdentifiers: Readonly<Record<string, string>>;
  };
  readonly storageLayout?: {
    readonly storage: readonly {
      readonly label: string;
      readonly slot: string;
      readonly offset: number;
    }[];
  };
}

const ROOT = fileURLToPath(new URL(".", import.meta.url));
const require = createRequire(import.meta.url);

/** Whether the compiler and its libraries are installed. */
export function canCompile(): boolean {
  try {
    require.resolve("solc");
    require.resolve("@openzeppelin/contracts-upgradeable/package.json");
    return true;
  } catch {
    return false;
  }
}

/** Compiles every contract of this folder, and its `test/`, by name. Throws what the compiler says. */
export function compileContracts(): ReadonlyMap<string, Artifact> {
  const solc = require("solc") as {
    compile(input: string, callbacks: { import(path: string): { contents: string } }): string;
  };
  const names = globSync(["*.sol", "test/*.sol"], { cwd: ROOT });
  const sources = Object.fromEntries(
    names.map((name) => [name, { content: readFileSync(`${ROOT}${name}`, "utf8") }]),
  );
  const input = {
    language: "Solidity",
    sources,
    settings: {
      evmVersion: "cancun",
      optimizer: { enabled: true, runs: 200 },
      outputSelection: {
        "*": { "*": ["abi", "evm.bytecode.object", "evm.methodIdentifiers", "storageLayout"] },
      },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), {
    import: (path) => ({ contents: readFileSync(require.resolve(path), "utf8") }),
  })) as SolcOutput;
  const errors = output.errors?.filter(({ severity }) => severity === "error") ?? [];
  if (errors.length > 0) throw new Error(errors.map((e) => e.formattedMessage).join("\n"));
  const artifacts = Object.values(output.contracts).flatMap((file) => Object.entries(file));
  return new Map(artifacts.map(([name, { abi, evm, storageLayout }]) => [name, {
    abi,
    bytecode: `0x${evm.bytecode.object}` as Hex,
    methodIdentifiers: evm.methodIdentifiers,
    storage: storageLayout?.storage ?? [],
  }]));
}
