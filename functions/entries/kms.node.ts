#!/usr/bin/env node
import process from "node:process";
import { kmsMain } from "./kms-main.ts";
import { runProgram } from "./process.ts";

await runProgram(() => kmsMain(process.argv.slice(2)));
