#!/usr/bin/env node
import process from "node:process";
import { verifierMain } from "./verifier-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => verifierMain(process.argv.slice(2)));
