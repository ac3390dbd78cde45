import { AppError } from "#core/errors/app-error.ts";
import { JsonObject } from "#core/encoding/json-object.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";

/** Where dockerd listens in a guest. */
export const DOCKER_SOCKET = "/var/run/docker.sock";
/** Any host will do: the port reaches Docker's socket. */
const BASE = "http://docker";
const LIST_TIMEOUT_MS = 5_000;

export interface ContainerSummary {
  readonly id: string;
  /** As Docker gives them, with a leading slash. */
  readonly names: readonly string[];
  readonly image: string;
  readonly imageId: string;
  /** Unix seconds. */
  readonly createdSeconds: number;
  readonly state: string;
  readonly status: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** All containers, running or not (Docker Engine API, ContainerList). */
export async function listContainers(docker: FetchLike): Promise<readonly ContainerSummary[]> {
  const response = await docker(`${BASE}/containers/json?all=true`, {
    method: "GET",
    headers: {},
    signal: AbortSignal.timeout(LIST_TIMEOUT_MS),
  });
  const list: unknown = await response.json();
  if (!response.ok || !Array.isArray(list)) {
    throw new AppError("upstream/invalid", `Docker answered ${response.status}`);
  }
  return list.map((item) => {
    const container = new JsonObject(item, "container").withoutNulls();
    return {
      id: container.string("Id", ""),
      names: container.strings("Names", []),
      image: container.string("Image", ""),
      imageId: container.string("ImageID", ""),
      createdSeconds: container.unsigned("Created", Number.MAX_SAFE_INTEGER, 0),
      state: container.string("State", ""),
      status: container.string("Status", ""),
      labels: stringMembers(container.raw("Labels")),
    };
  });
}

/** The members that are strings, which all of Docker's labels are. */
export function stringMembers(value: unknown): Readonly<Record<string, string>> {
  const entries = Object.entries(value ?? {}).filter(([, member]) => typeof member === "string");
  return Object.fromEntries(entries);
}

/** Kills it where it runs, and takes its anonymous volumes along (Docker Engine API, ContainerDelete). */
export async function removeContainer(id: string, docker: FetchLike): Promise<void> {
  const response = await docker(`${BASE}/containers/${id}?force=true&v=true`, {
    method: "DELETE",
    headers: {},
  });
  await response.body?.cancel();
  if (!response.ok && response.status !== 404) {
    throw new AppError("upstream/invalid", `Docker answered ${response.status}`);
  }
}

export interface LogRequest {
  /** Unix seconds; 0 for unbounded. */
  readonly since: number;
  readonly until: number;
  readonly follow: boolean;
  readonly timestamps: boolean;
  readonly tail: string;
}

/**
 * Both outputs of a container. The name comes from an address anyone may call: it must not become
 * another path of Docker's API. `framed` says whether the stream is multiplexed.
 */
export async function containerLog(
  name: string,
  request: LogRequest,
  docker: FetchLike,
  signal: AbortSignal,
): Promise<{ readonly stream: ReadableStream<Uint8Array>; readonly framed: boolean }> {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(name)) {
    throw new AppError("input/malformed", "Invalid container name");
  }
  const parameters = new URLSearchParams({
    stdout: "1",
    stderr: "1",
    since: String(request.since),
    until: String(request.until),
    follow: request.follow ? "1" : "0",
    timestamps: request.timestamps ? "1" : "0",
    tail: request.tail,
  });
  const response = await docker(`${BASE}/containers/${name}/logs?${parameters}`, {
    method: "GET",
    headers: {},
    signal,
  });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw response.status === 404
      ? new AppError("resource/not-found", `No such container: ${name}`)
      : new AppError("upstream/invalid", `Docker answered ${response.status}`);
  }
  const type = response.headers.get("content-type") ?? "";
  return { stream: response.body, framed: !type.includes("raw-stream") };
}
