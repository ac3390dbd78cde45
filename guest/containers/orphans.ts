import { fromUtf8 } from "#core/bytes/bytes.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";
import { listContainers, removeContainer, stringMembers } from "../agent/docker-client.ts";
import type { Files, Log, Run } from "../ports.ts";
import { runChecked } from "../run-checked.ts";

const PROJECT_LABEL = "com.docker.compose.project";
const SERVICE_LABEL = "com.docker.compose.service";
/** Characters of an id that people are shown. */
const SHORT_ID = 12;

type Labels = Readonly<Record<string, string>>;

/** What a compose file makes of itself. */
export interface ComposeProject {
  readonly name: string;
  readonly services: ReadonlySet<string>;
}

/** Compose itself says what project a file is and which services, of any profile, it has. */
export async function readComposeProject(run: Run, composeFile: string): Promise<ComposeProject> {
  const output = await runChecked(run, [
    "docker-compose",
    "--profile",
    "*",
    "-f",
    composeFile,
    "config",
    "--no-interpolate",
    "--format",
    "json",
  ]);
  const project = new JsonObject(JSON.parse(output), "compose project");
  const services = project.raw("services") ?? {};
  return { name: project.string("name"), services: new Set(Object.keys(services)) };
}

/** The service a container was made for when its project no longer has it (spec/os.md 3.11). */
export function orphanedService(labels: Labels, project: ComposeProject): string | undefined {
  const service = labels[SERVICE_LABEL];
  if (labels[PROJECT_LABEL] !== project.name || service === undefined) return undefined;
  return project.services.has(service) ? undefined : service;
}

/** Through dockerd, volumes of the container included. Answers a line for each one. */
export async function removeOrphans(
  project: ComposeProject,
  dryRun: boolean,
  docker: FetchLike,
): Promise<string[]> {
  const lines: string[] = [];
  for (const { id, labels } of await listContainers(docker)) {
    const service = orphanedService(labels, project);
    if (service === undefined) continue;
    if (!dryRun) await removeContainer(id, docker);
    lines.push(lineOf(dryRun, service, id));
  }
  return lines;
}

/** While dockerd is down: a container is its directory. What cannot be read is left alone. */
export async function removeOrphansOffline(
  project: ComposeProject,
  dryRun: boolean,
  dockerRoot: string,
  ports: { readonly files: Pick<Files, "list" | "read" | "remove">; readonly log: Log },
): Promise<string[]> {
  const { files, log } = ports;
  const lines: string[] = [];
  for (const id of await files.list(`${dockerRoot}/containers`)) {
    const directory = `${dockerRoot}/containers/${id}`;
    const config = await files.read(`${directory}/config.v2.json`);
    let labels: Labels;
    try {
      labels = labelsOf(config);
    } catch {
      log("container without a readable configuration", { id });
      continue;
    }
    const service = orphanedService(labels, project);
    if (service === undefined) continue;
    if (!dryRun) await files.remove(directory);
    lines.push(lineOf(dryRun, service, id.slice(0, SHORT_ID)));
  }
  return lines;
}

function labelsOf(config: Uint8Array | undefined): Labels {
  if (config === undefined) throw new AppError("resource/not-found", "No configuration");
  const container = new JsonObject(JSON.parse(fromUtf8(config)), "container");
  const labels = new JsonObject(container.raw("Config"), "container: Config").raw("Labels") ?? {};
  return stringMembers(labels);
}

function lineOf(dryRun: boolean, service: string, id: string): string {
  return `${dryRun ? "would remove" : "removing orphaned container"} ${service} ${id}`;
}
