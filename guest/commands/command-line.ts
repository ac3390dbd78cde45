import { AppError } from "#core/errors/app-error.ts";

/** How a command is called: `value` options take one, `switch` options stand alone. */
export interface CommandLineSpec {
  readonly options: Readonly<Record<string, "value" | "switch">>;
  /** One-letter forms. */
  readonly short?: Readonly<Record<string, string>>;
}

export interface CommandLine {
  /** Switches have the value "". */
  readonly options: ReadonlyMap<string, string>;
  readonly operands: readonly string[];
}

/** Parses `--name value`, `--name=value` and `-n value`. Throws `config/invalid` for what is not in the spec. */
export function parseCommandLine(args: readonly string[], spec: CommandLineSpec): CommandLine {
  const options = new Map<string, string>();
  const operands: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-") || arg === "-") {
      operands.push(arg);
      continue;
    }
    const [written, inline] = splitOnce(arg);
    const name = written.startsWith("--") ? written.slice(2) : spec.short?.[written.slice(1)];
    const kind = name === undefined ? undefined : spec.options[name];
    if (name === undefined || kind === undefined) {
      throw new AppError("config/invalid", `Unknown option ${written}`);
    }
    if (kind === "switch") {
      if (inline !== undefined) throw new AppError("config/invalid", `${written} takes no value`);
      options.set(name, "");
      continue;
    }
    const value = inline ?? args[++i];
    if (value === undefined) throw new AppError("config/invalid", `${written} needs a value`);
    options.set(name, value);
  }
  return { options, operands };
}

function splitOnce(arg: string): [string, string | undefined] {
  const at = arg.indexOf("=");
  return at === -1 ? [arg, undefined] : [arg.slice(0, at), arg.slice(at + 1)];
}
