import { build } from "esbuild";
import { mkdir, readFile } from "node:fs/promises";
import { checkBundle } from "../bundle-rules.ts";
import type { Flavour } from "../package-set.ts";

/**
 * Bundles the program of the source tree at `root` into a file below `directory` and returns its path.
 * `__SIM_TEE__` is false in production, and what is only reachable through it is left out.
 */
export async function bundleGuest(
  root: string,
  directory: string,
  flavour: Flavour,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const outfile = `${directory}/dstack-guest-${flavour}.js`;
  await build({
    absWorkingDir: root,
    entryPoints: ["guest/main.ts"],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2024",
    minify: true,
    legalComments: "none",
    define: { __SIM_TEE__: flavour === "dev" ? "true" : "false" },
    logLevel: "warning",
    // CommonJS packages inside an ES module bundle still ask for require().
    banner: {
      js:
        'import{createRequire as __dstackRequire}from"node:module";const require=__dstackRequire(import.meta.url);',
    },
  });
  checkBundle(flavour, await readFile(outfile, "utf8"));
  return outfile;
}
