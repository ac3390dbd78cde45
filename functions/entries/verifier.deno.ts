/**
 * Runs with: --allow-net=<address:port>,<host of the PCCS> --allow-read=<sources, configuration, roots>
 * --allow-env.
 */
import process from "node:process";
import { verifierMain } from "./verifier-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => verifierMain(process.argv.slice(2)));
