/**
 * Runs with: --allow-net=<listeners, auth service, PCCS> --allow-env --allow-sys=cpus,networkInterfaces,hostname
 * --allow-read=<sources, cert_dir, database, trust anchors, /var/run> --allow-write=<cert_dir, database>
 * --allow-ffi=<node_modules> (libSQL's driver for files is native).
 */
import process from "node:process";
import { kmsMain } from "./kms-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => kmsMain(process.argv.slice(2)));
