import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parserProperty } from "../parser-property.ts";
import { PARSERS } from "./parsers.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const textOf = (path: string) => readFileSync(`${ROOT}${path}`, "utf8");

test("no parser of core/ goes untried", () => {
  const sources = globSync("core/**/*.ts", { cwd: ROOT })
    .filter((path) => !path.endsWith(".test.ts") && !path.startsWith("core/rpc/gen/"));
  const tests = globSync("core/**/*.test.ts", { cwd: ROOT }).map(textOf)
    .filter((text) => text.includes("parserProperty(")).join("\n");
  const names = sources.flatMap((path) =>
    [...textOf(path).matchAll(/^export function ((?:parse|decode)[A-Z]\w*)\(/gm)].map(([, name]) =>
      name!
    )
  );
  const tried = (name: string) =>
    PARSERS.some((one) => one.name === name) || new RegExp(`\\b${name}\\b`).test(tests);
  assert.ok(names.length > 30, "the pattern above still finds them");
  assert.deepEqual(names.filter((name) => !tried(name)), []);
});

for (const { name, parse, sample } of PARSERS) parserProperty(`${name}()`, parse, sample);
