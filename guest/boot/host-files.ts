/** The files a host hands over, and the most bytes of each the guest takes (spec/os.md 3.2). */
export const HOST_FILES = [
  { name: "app-compose.json", maxBytes: 50 * 1024 * 1024, required: true },
  { name: ".sys-config.json", maxBytes: 32 * 1024, required: true },
  { name: ".instance_info", maxBytes: 10 * 1024, required: false },
  { name: ".encrypted-env", maxBytes: 256 * 1024, required: false },
  { name: ".user-config", maxBytes: 50 * 1024 * 1024, required: false },
] as const;

export type HostFileName = (typeof HOST_FILES)[number]["name"];

/** The copies the guest works on; it never looks at the share again. */
export type HostFiles = ReadonlyMap<HostFileName, Uint8Array>;
