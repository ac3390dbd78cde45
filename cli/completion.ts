import type { Command } from "commander";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What may follow a command's name. */
interface Level {
  /** Names of the commands on the way, joined by blanks; empty at the top. */
  readonly path: string;
  readonly words: readonly Word[];
}

interface Word {
  readonly text: string;
  readonly description: string;
}

/** A script for a shell to source: completes the commands and options that `program` has. */
export function completionScript(program: Command, shell: Shell): string {
  const levels = levelsOf(program, "");
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](program.name(), levels);
}

function levelsOf(command: Command, path: string): Level[] {
  const commands = command.commands.filter((one) => one.name() !== "help");
  const help = { text: "--help", description: "show what there is" };
  const words = [
    ...commands.map((one) => ({ text: one.name(), description: one.description() })),
    ...command.options.map(({ long, short, description }) => ({
      text: long ?? short ?? "",
      description,
    })),
    help,
  ];
  return [
    { path, words },
    ...commands.flatMap((one) => levelsOf(one, `${path} ${one.name()}`.trimStart())),
  ];
}

/** `case` arms that follow the commands typed so far; the same text serves bash and zsh. */
function walk(levels: readonly Level[]): string {
  return levels.filter(({ path }) => path !== "").map(({ path }) => {
    const above = path.split(" ").slice(0, -1).join(" ");
    return `      ${quote(`${above}/${path.split(" ").at(-1)}`)}) at=${quote(path)} ;;`;
  }).join("\n");
}

function bashScript(name: string, levels: readonly Level[]): string {
  const arms = levels.map(({ path, words }) =>
    `    ${quote(path)}) words=${quote(words.map(({ text }) => text).join(" "))} ;;`
  );
  return `# bash completion of ${name}: source it, or put it into bash_completion.d
_${name}() {
  local current=\${COMP_WORDS[COMP_CWORD]} at= words= word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at/$word" in
${walk(levels)}
    esac
  done
  case "$at" in
${arms.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _${name} ${name}
`;
}

function zshScript(name: string, levels: readonly Level[]): string {
  const arms = levels.map(({ path, words }) => {
    const entries = words.map(({ text, description }) =>
      `      ${quote(`${text.replaceAll(":", "\\:")}:${description}`)}`
    );
    return `    ${quote(path)}) known=(\n${entries.join("\n")}\n    ) ;;`;
  });
  return `#compdef ${name}
# zsh completion of ${name}: source it after compinit, or put it as _${name} into $fpath
_${name}() {
  local at= word
  local -a known
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$at/$word" in
${walk(levels)}
    esac
  done
  case "$at" in
${arms.join("\n")}
  esac
  _describe ${name} known || _files
}
compdef _${name} ${name}
`;
}

function fishScript(name: string, levels: readonly Level[]): string {
  const lines = levels.flatMap(({ path, words }) =>
    words.map(({ text, description }) => {
      const what = text.startsWith("--") ? `-l ${text.slice(2)}` : `-f -a ${text}`;
      const condition = `'__${name}_at "${path}"'`;
      return `complete -c ${name} -n ${condition} ${what} -d ${quote(description)}`;
    })
  );
  const known = levels.map(({ path }) => quote(path)).filter((path) => path !== "''");
  return `# fish completion of ${name}: source it, or put it into fish/completions/${name}.fish
function __${name}_at
    set -l at
    for word in (commandline -opc)[2..]
        set -l next (string join ' ' $at $word)
        contains -- "$next" ${known.join(" ")}; and set at (string split ' ' $next)
    end
    test "$at" = "$argv[1]"
end
${lines.join("\n")}
`;
}

/** As one word of a POSIX shell; fish reads it alike, for texts without a backslash. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "’")}'`;
}
