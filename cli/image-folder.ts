import { AppError } from "#core/errors/app-error.ts";
import { sha256Of } from "#core/measurement/digest.ts";
import type { ImageFolder } from "#core/measurement/verified-image.ts";
import type { CliPorts } from "./context.ts";
import { readInput } from "./input-file.ts";

/** A guest image its user named; each file is read once. */
export function imageFolder(directory: string, ports: CliPorts): ImageFolder {
  const files = new Map<string, Promise<Uint8Array | undefined>>();
  const file = (name: string) => {
    let bytes = files.get(name);
    if (bytes === undefined) files.set(name, bytes = readIfThere(`${directory}/${name}`, ports));
    return bytes;
  };
  return {
    read: async (name, maxBytes) => {
      const bytes = await file(name);
      if (bytes === undefined || bytes.length <= maxBytes) return bytes;
      throw new AppError("input/too-large", `${directory}/${name} exceeds ${maxBytes} bytes`);
    },
    sha256: async (name) => {
      const bytes = await file(name);
      return bytes && await sha256Of(bytes);
    },
  };
}

async function readIfThere(path: string, ports: CliPorts): Promise<Uint8Array | undefined> {
  try {
    return await readInput(path, ports);
  } catch (error) {
    const { cause } = error as { cause?: { code?: unknown } };
    if (cause?.code === "ENOENT") return undefined;
    throw error;
  }
}
