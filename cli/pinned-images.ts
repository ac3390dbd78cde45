import { isMap, isScalar, parseDocument } from "yaml";
import { AppError } from "#core/errors/app-error.ts";
import type { FetchLike } from "#core/http/fetch-like.ts";

const MANIFEST_TYPES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** Images of a compose file that name a tag, which whoever runs the registry may move. */
export function unpinnedImages(compose: string): string[] {
  return [...imageValues(compose)].map(({ image }) => image).filter((image) => !isPinned(image));
}

/**
 * Replaces every image tag by the digest `registryUrl` gives it today, so that the compose hash names
 * the very bytes that run. Comments and layout stay as they are.
 */
export async function pinImages(
  compose: string,
  registryUrl: string,
  fetch: FetchLike,
): Promise<string> {
  let pinned = compose;
  // From the end, so that earlier offsets stay right.
  for (const { image, start, end } of [...imageValues(compose)].reverse()) {
    if (isPinned(image)) continue;
    const [, repository, tag = "latest"] = /^(.+?)(?::([\w.-]+))?$/.exec(image) ?? [];
    const url = `${registryUrl.replace(/\/+$/, "")}/v2/${repository}/manifests/${tag}`;
    const response = await fetch(url, { method: "HEAD", headers: { accept: MANIFEST_TYPES } });
    const digest = response.headers.get("docker-content-digest");
    if (!response.ok || digest === null || !/^sha256:[0-9a-f]{64}$/.test(digest)) {
      throw new AppError("upstream/invalid", `${registryUrl} has no image ${image}`);
    }
    pinned = `${pinned.slice(0, start)}${repository}@${digest}${pinned.slice(end)}`;
  }
  return pinned;
}

function isPinned(image: string): boolean {
  return /@sha256:[0-9a-f]{64}$/.test(image);
}

function* imageValues(compose: string): Generator<{ image: string; start: number; end: number }> {
  const document = parseDocument(compose);
  if (document.errors.length > 0) {
    throw new AppError("input/malformed", `Compose file: ${document.errors[0]!.message}`);
  }
  const services = document.get("services");
  if (!isMap(services)) throw new AppError("input/malformed", "Compose file has no services");
  for (const { value } of services.items) {
    const image = isMap(value) ? value.get("image", true) : undefined;
    if (isScalar(image) && typeof image.value === "string" && image.range) {
      yield { image: image.value, start: image.range[0], end: image.range[1] };
    }
  }
}
