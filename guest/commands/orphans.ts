import { unixFetch } from "#adapters/unix-http.ts";
import { log } from "../adapters/console.ts";
import { files } from "../adapters/files.ts";
import { run } from "../adapters/run.ts";
import { writeStandardOutput } from "../adapters/standard-streams.ts";
import { readComposeProject, removeOrphans, removeOrphansOffline } from "../containers/orphans.ts";
import { DOCKER_SOCKET } from "../agent/docker-client.ts";
import { type Options, required } from "./tools.ts";

/** `remove-orphans -f COMPOSE [-n] [--no-dockerd] [-d /var/lib/docker]`. */
export async function removeOrphansCommand(options: Options): Promise<number> {
  const project = await readComposeProject(run, required(options, "compose-file"));
  const dryRun = options.has("dry-run");
  const lines = options.has("no-dockerd")
    ? await removeOrphansOffline(project, dryRun, options.get("docker-root") ?? "/var/lib/docker", {
      files,
      log,
    })
    : await removeOrphans(project, dryRun, unixFetch(DOCKER_SOCKET));
  await writeStandardOutput(lines.map((line) => `${line}\n`).join(""));
  return 0;
}
