import { fromUtf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";

/**
 * daemon.json with the host's registry mirror, other members kept. A mirror without TLS has to be named
 * as insecure too; images are authenticated by their digests, or not at all. Throws `config/invalid`.
 */
export function withRegistryMirror(existing: Uint8Array | undefined, mirror: string): string {
  let config: unknown = {};
  if (existing !== undefined) {
    try {
      config = JSON.parse(fromUtf8(existing));
    } catch (cause) {
      throw new AppError("config/invalid", "/etc/docker/daemon.json is not JSON", { cause });
    }
  }
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new AppError("config/invalid", "/etc/docker/daemon.json is not an object");
  }
  let url: URL;
  try {
    url = new URL(mirror);
  } catch (cause) {
    throw new AppError("config/invalid", "docker_registry of the host is no URL", { cause });
  }
  const members = config as Record<string, unknown>;
  const insecure = url.protocol === "http:"
    ? { "insecure-registries": withMember(members["insecure-registries"], url.host) }
    : {};
  return JSON.stringify({ ...members, "registry-mirrors": [mirror], ...insecure }, null, 2) + "\n";
}

function withMember(list: unknown, member: string): unknown[] {
  const members = Array.isArray(list) ? list : [];
  return members.includes(member) ? members : [...members, member];
}
