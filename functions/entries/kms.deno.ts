/**
 * deno run with: --allow-net --allow-read --allow-write=<cert_dir>,<database's directory>
 *   --allow-env --allow-sys=hostname --allow-ffi (libSQL's driver for local files is native)
 */
import process from "node:process";
import { kmsMain } from "./kms-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => kmsMain(process.argv.slice(2)));
