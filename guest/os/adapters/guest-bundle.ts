import { build } from "esbuild";
import { mkdir } from "node:fs/promises";
import type { Flavour } from "../package-set.ts";
import type { Workspace } from "./workspace.ts";

/**
 * Bundles the guest's program into one file and returns its path. `__SIM_TEE__` is false in production,
 * and what is only reachable through it is left out.
 */
export async function bundleGuest(workspace: Workspace, flavour: Flavour): Promise<string> {
  const directory = `${workspace.root}/dist/guest`;
  await mkdir(directory, { recursive: true });
  const outfile = `${directory}/dstack-guest-${flavour}.js`;
  await build({
    absWorkingDir: workspace.root,
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
  return outfile;
}
