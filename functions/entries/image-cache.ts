import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { ImageCache } from "#functions/kms/admin-app.ts";

/** `core.image.cache_dir`: a folder an image, a JSON file a measurement (older ones had no suffix). */
export function imageCacheDirectory(path: string): ImageCache {
  return {
    clear: async (kind, hash) => {
      const directory = join(path, kind);
      const targets = hash === "all"
        ? [directory]
        : [join(directory, hash), join(directory, `${hash}.json`)];
      for (const target of targets) await rm(target, { recursive: true, force: true });
    },
  };
}
