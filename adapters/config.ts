import { readFile } from "node:fs/promises";
import process from "node:process";
import { parse as parseToml, TomlError } from "smol-toml";
import { z } from "zod";
import { AppError } from "#core/errors/app-error.ts";

export interface ConfigSources {
  /** TOML file. */
  readonly file: string;
  /**
   * Variables beginning with this override the file: with `DSTACK_KMS_`, `DSTACK_KMS_CORE__IMAGE__VERIFY`
   * is `core.image.verify`. The value is TOML where it can be read as such, else text.
   */
  readonly envPrefix: string;
  /** Variables with that prefix which mean something else. */
  readonly otherVariables?: readonly string[];
  /** Default: that of this process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Reads and checks the configuration of a program. `schema` is made of strict objects, so that an
 * unknown key is a fault, named with the known one nearest to it. Throws one `config/invalid` that
 * lists every fault, also in `fields.faults`.
 */
export async function loadConfig<S extends z.ZodType>(
  schema: S,
  sources: ConfigSources,
): Promise<z.infer<S>> {
  let text: string;
  try {
    text = await readFile(sources.file, "utf8");
  } catch (cause) {
    throw new AppError("config/invalid", `Cannot read ${sources.file}`, { cause });
  }
  return parseConfig(schema, text, sources);
}

export function parseConfig<S extends z.ZodType>(
  schema: S,
  text: string,
  sources: ConfigSources,
): z.infer<S> {
  let config: Record<string, unknown>;
  try {
    config = parseToml(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const where = `line ${cause.line}, column ${cause.column}`;
    throw invalid(sources.file, [`${where}: ${cause.message.split("\n")[0]}`]);
  }
  applyVariables(config, schema, sources);
  const result = schema.safeParse(config);
  if (result.success) return result.data;
  throw invalid(sources.file, result.error.issues.flatMap((issue) => faultsOf(schema, issue)));
}

function invalid(file: string, faults: string[]): AppError {
  return new AppError("config/invalid", `Cannot use ${file}: ${faults.join("; ")}`, {
    fields: { faults },
  });
}

function applyVariables(
  config: Record<string, unknown>,
  schema: z.ZodType,
  { envPrefix, otherVariables = [], env = process.env }: ConfigSources,
): void {
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(envPrefix) || value === undefined || otherVariables.includes(name)) {
      continue;
    }
    const path: string[] = [];
    for (const part of name.slice(envPrefix.length).split("__")) {
      // Keys are spelled in lower case; the schema knows the few that are not.
      const known = keysAt(schema, path).find((key) => key.toLowerCase() === part.toLowerCase());
      path.push(known ?? part.toLowerCase());
    }
    const last = path.pop()!;
    let table = config;
    for (const key of path) {
      if (!isTable(table[key])) table[key] = {};
      table = table[key] as Record<string, unknown>;
    }
    table[last] = valueOf(value);
  }
}

function valueOf(text: string): unknown {
  try {
    return parseToml(`value = ${text}`)["value"];
  } catch (error) {
    if (error instanceof TomlError) return text;
    throw error;
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function faultsOf(schema: z.ZodType, issue: z.core.$ZodIssue): string[] {
  const at = issue.path.map(String);
  if (issue.code !== "unrecognized_keys") return [`${at.join(".") || "(top)"}: ${issue.message}`];
  const known = keysAt(schema, at);
  return issue.keys.map((key) => {
    const near = nearest(key, known);
    const hint = near === undefined ? "" : `, did you mean ${[...at, near].join(".")}?`;
    return `${[...at, key].join(".")}: unknown key${hint}`;
  });
}

/** The keys an object schema knows at `path`. */
function keysAt(schema: z.ZodType, path: readonly string[]): string[] {
  let node: z.core.$ZodType | undefined = schema;
  for (const key of path) {
    node = unwrapped(node);
    if (node instanceof z.ZodObject) node = node.shape[key];
    else if (node instanceof z.ZodRecord) node = node.valueType;
    else if (node instanceof z.ZodArray) node = node.element;
    else return [];
  }
  node = unwrapped(node);
  return node instanceof z.ZodObject ? Object.keys(node.shape) : [];
}

function unwrapped(node: z.core.$ZodType | undefined): z.core.$ZodType | undefined {
  for (;;) {
    if (
      node instanceof z.ZodOptional || node instanceof z.ZodDefault ||
      node instanceof z.ZodPrefault || node instanceof z.ZodNullable
    ) node = node.def.innerType;
    else if (node instanceof z.ZodPipe) node = node.def.in;
    else return node;
  }
}

/** The word at most a third of its letters away, or two: a swap counts as two. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known.map((key) => ({ key, distance: editDistance(word.toLowerCase(), key) }))
    .filter(({ key, distance }) =>
      distance <= Math.max(key.length > 3 ? 2 : 1, Math.floor(key.length / 3))
    )
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.key;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
