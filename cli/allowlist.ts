import { utf8 } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { CliPorts } from "./context.ts";
import { readInputText } from "./input-file.ts";

interface AllowlistFile {
  osImages?: string[];
  apps?: Record<string, { composeHashes?: string[]; devices?: string[]; allowAnyDevice?: boolean }>;
  [member: string]: unknown;
}

/**
 * Lets an app's compose, on this OS image, have keys from the KMS that reads this allowlist file. Adds,
 * never removes; the file is replaced whole.
 */
export async function allowApp(
  path: string,
  app: { readonly appId: string; readonly composeHash: string; readonly osImageHash: string },
  ports: CliPorts,
): Promise<void> {
  const before = await readInputText(path, ports);
  let file: AllowlistFile;
  try {
    file = JSON.parse(before) as AllowlistFile;
  } catch (cause) {
    throw new AppError("input/malformed", `Cannot read allowlist ${path}`, { cause });
  }
  const withValue = (
    list: string[] | undefined,
    value: string,
  ) => [...new Set([...(list ?? []), value])];
  const entry = file.apps?.[app.appId];
  const changed = {
    ...file,
    osImages: withValue(file.osImages, app.osImageHash),
    apps: {
      ...file.apps,
      [app.appId]: {
        devices: [],
        allowAnyDevice: true,
        ...entry,
        composeHashes: withValue(entry?.composeHashes, app.composeHash),
      },
    },
  };
  const text = `${JSON.stringify(changed, null, 2)}\n`;
  if (text !== `${JSON.stringify(file, null, 2)}\n`) await ports.writeFile(path, utf8(text));
}
