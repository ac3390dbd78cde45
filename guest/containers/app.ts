import type { AppCompose } from "#core/compose/app-compose.ts";
import { AppError, errorChain } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import type { HostNotifier } from "../boot/host-notifier.ts";
import type { Files, Log, Sleep } from "../ports.ts";
import {
  composePhase,
  failureSummary,
  isRestoreRace,
  isTransientFailure,
} from "./compose-output.ts";

const COMPOSE_FILE = "docker-compose.yaml";
const FIRST_RETRY_MS = 3_000;
const MAX_RETRY_MS = 60_000;
/** How often, and how far apart, compose is tried again beside a dockerd that restores containers. */
const RESTORE_TRIES = 5;
const RESTORE_WAIT_MS = 2_000;
/** Containers get this long to end before docker kills them. */
const STOP_SECONDS = 20;

export interface AppPorts {
  readonly files: Files;
  readonly log: Log;
  readonly sleep: Sleep;
  /** Runs a command to its end and hands on each line it writes. */
  readonly runLines: (
    argv: readonly string[],
    options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
    onLine: (line: string) => void,
  ) => Promise<number>;
  readonly notifier: HostNotifier;
  /** Docker's API; its socket waits for dockerd to come up. */
  readonly docker: FetchLike;
  /** Resolves when nothing else of the boot is under way: "done" means the app can be used. */
  readonly allElse: () => Promise<void>;
}

export interface AppOptions {
  /** `/dstack`. */
  readonly dir: string;
  readonly compose: AppCompose;
  /** Inherited by the app's scripts and by compose's interpolation. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Runs the app (spec/os.md 2.5). A registry that is down is waited for, and the host sees that;
 * anything else that fails is final. Throws `guest/app-failed`.
 */
export async function startApp(options: AppOptions, ports: AppPorts): Promise<void> {
  const { compose } = options;
  try {
    const usesDocker = compose.runner !== "bash";
    const env = compose.preLaunchScript === undefined
      ? options.env
      : await runPreLaunchScript(compose.preLaunchScript, options, ports);
    if (usesDocker) await composeUp(options.dir, env, ports);
    else await runMainScript(compose.bashScript!, options.dir, env, ports);
    await ports.allElse();
    ports.notifier.notify("boot.progress", "done");
    ports.log("app is up");
    if (usesDocker) await prune(ports);
  } catch (error) {
    const code = error instanceof AppError ? error.code : "internal";
    ports.notifier.notify("boot.error", `${code}: ${errorChain(error)}`);
    throw error;
  } finally {
    await ports.notifier.flush();
  }
}

/** Stops the containers so that `unless-stopped` ones stay stopped over the next boot's start. */
export async function stopApp(options: AppOptions, ports: AppPorts): Promise<void> {
  if (options.compose.runner === "bash") return;
  const code = await ports.runLines(
    composeArgv(options.dir, "stop", "--timeout", String(STOP_SECONDS)),
    { cwd: options.dir, env: options.env },
    (line) => ports.log("compose", { line }),
  );
  if (code !== 0) throw new AppError("guest/app-failed", `docker compose stop ended with ${code}`);
}

function composeArgv(dir: string, ...command: string[]): string[] {
  // Compose v2 by itself: as a plugin of `docker` a second large program would start first.
  return ["docker-compose", "--progress", "plain", "-f", `${dir}/${COMPOSE_FILE}`, ...command];
}

async function composeUp(
  dir: string,
  env: Readonly<Record<string, string>>,
  ports: AppPorts,
): Promise<void> {
  const { notifier } = ports;
  notifier.notify("boot.progress", "starting containers");
  for (let attempt = 0;; attempt++) {
    let output = "";
    let phase = "starting containers";
    const code = await ports.runLines(
      composeArgv(dir, "up", "--remove-orphans", "-d", "--build", "--quiet-pull"),
      { cwd: dir, env },
      (line) => {
        ports.log("compose", { line });
        output = `${output}${line}\n`.slice(-16_384);
        const now = composePhase(line) ?? phase;
        if (now !== phase) notifier.notify("boot.progress", phase = now);
      },
    );
    if (code === 0) {
      if (attempt > 0) notifier.notify("boot.error", "");
      return;
    }
    if (isRestoreRace(output) && attempt < RESTORE_TRIES) {
      ports.log("dockerd restores containers, will try again", { attempt });
      await ports.sleep(RESTORE_WAIT_MS);
      continue;
    }
    const failure = `failed to start containers: ${failureSummary(output)}`;
    if (!isTransientFailure(output)) throw new AppError("guest/app-failed", failure);
    const waitMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
    ports.log("compose failed, will try again", { waitMs });
    notifier.notify("boot.progress", "waiting for the registry");
    notifier.notify(
      "boot.error",
      `guest/app-failed: ${failure}; trying again in ${waitMs / 1000} s`,
    );
    await ports.sleep(waitMs);
  }
}

/**
 * Sourced, as the reference does: what the script exports, compose sees. The shell's environment comes
 * back through a file, because the script may print what it likes.
 */
async function runPreLaunchScript(
  script: string,
  options: AppOptions,
  ports: AppPorts,
): Promise<Readonly<Record<string, string>>> {
  ports.notifier.notify("boot.progress", "pre-launch");
  const [scriptPath, envPath] = ["/run/dstack/pre-launch-script", "/run/dstack/pre-launch-env"];
  await ports.files.write(scriptPath, script, 0o600);
  await ports.files.write(envPath, "", 0o600);
  const code = await ports.runLines(
    ["bash", "-euo", "pipefail", "-c", `. "$1"; env -0 > "$2"`, "pre-launch", scriptPath, envPath],
    { cwd: options.dir, env: options.env },
    (line) => ports.log("pre-launch", { line }),
  );
  if (code !== 0) throw new AppError("guest/app-failed", `pre_launch_script ended with ${code}`);
  const entries = new TextDecoder().decode(await ports.files.read(envPath)).split("\0");
  await ports.files.remove(envPath);
  return Object.fromEntries(
    entries.filter((entry) => entry.includes("=")).map((entry) => {
      const at = entry.indexOf("=");
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

async function runMainScript(
  script: string,
  dir: string,
  env: Readonly<Record<string, string>>,
  ports: AppPorts,
): Promise<void> {
  ports.notifier.notify("boot.progress", "running main script");
  const path = "/run/dstack/bash-script";
  await ports.files.write(path, script, 0o600);
  const code = await ports.runLines(["bash", path], { cwd: dir, env }, (line) => {
    ports.log("script", { line });
  });
  if (code !== 0) throw new AppError("guest/app-failed", `bash_script ended with ${code}`);
}

/** Images nobody uses any more would fill the disk; anonymous volumes too (spec/os.md 2.5). */
async function prune({ docker, log }: AppPorts): Promise<void> {
  for (const what of ['images/prune?filters={"dangling":["false"]}', "volumes/prune"]) {
    try {
      const response = await docker(`http://docker/${what}`, { method: "POST", headers: {} });
      const answer = await response.text();
      if (!response.ok) log("prune failed", { what, answer: answer.slice(0, 300) });
    } catch (error) {
      log("prune failed", { what, error: errorChain(error) });
    }
  }
}
