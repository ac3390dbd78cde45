/** deno run with: --allow-net=<address:port> --allow-read --allow-env */
import process from "node:process";
import { authMain } from "./auth-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => authMain(process.argv.slice(2)));
