/** Runs with: --allow-net=<address:port> --allow-read=<sources, configuration, allowlist> --allow-env. */
import process from "node:process";
import { authMain } from "./auth-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => authMain(process.argv.slice(2)));
