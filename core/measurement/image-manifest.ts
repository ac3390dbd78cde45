import { utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { isFlatName } from "./checksum-file.ts";

export const MANIFEST_FILE_NAME = "metadata.json";

/** metadata.json of an image folder (spec/os.md 1.2). File names are flat: inside that folder. */
export interface ImageManifest {
  /** TDX firmware. */
  readonly bios?: string;
  /** SEV-SNP firmware. */
  readonly biosSev?: string;
  readonly kernel: string;
  /** The kernel command line without what a boot loader appends. */
  readonly cmdline: string;
  readonly initrd: string;
  readonly rootfs?: string;
  /** Empty when the manifest has none; a VMM then reads it off the folder's name. */
  readonly version: string;
  readonly gitRevision: string;
  /** The host share is mounted read-only. */
  readonly sharedRo: boolean;
  readonly isDev: boolean;
  readonly ovmfVariant?: string;
}

/** Unknown members are ignored, as old images have some. Throws `input/malformed`. */
export function parseImageManifest(bytes: Uint8Array): ImageManifest {
  const o = new JsonObject(parseStrictJson(bytes, MANIFEST_FILE_NAME), MANIFEST_FILE_NAME)
    .withoutNulls();
  const fileName = (name: string) => requireFlat(name, o.string(name));
  const optionalFileName = <K extends string>(key: K, name: string) =>
    (o.has(name) ? { [key]: fileName(name) } : {}) as { [P in K]?: string };
  return {
    ...optionalFileName("bios", "bios"),
    ...optionalFileName("biosSev", "bios-sev"),
    kernel: fileName("kernel"),
    cmdline: o.string("cmdline", ""),
    initrd: fileName("initrd"),
    ...optionalFileName("rootfs", "rootfs"),
    version: o.string("version", ""),
    gitRevision: o.string("git_revision", ""),
    sharedRo: o.boolean("shared_ro", false),
    isDev: o.boolean("is_dev", false),
    ...(o.has("ovmf_variant") ? { ovmfVariant: o.string("ovmf_variant") } : {}),
  };
}

/** The members in the reference's order, indented by four. */
export function encodeImageManifest(manifest: ImageManifest): Uint8Array {
  const members = {
    bios: manifest.bios,
    "bios-sev": manifest.biosSev,
    kernel: manifest.kernel,
    cmdline: manifest.cmdline,
    initrd: manifest.initrd,
    rootfs: manifest.rootfs,
    version: manifest.version,
    git_revision: manifest.gitRevision,
    shared_ro: manifest.sharedRo,
    is_dev: manifest.isDev,
    ovmf_variant: manifest.ovmfVariant,
  };
  return utf8(JSON.stringify(members, undefined, 4) + "\n");
}

/** The dm-verity root and data size that the measured command line commits to. */
export interface RootfsCommitment {
  /** 64 hex digits. */
  readonly rootHash: string;
  /** Bytes; the hash tree starts there. */
  readonly dataSize: number;
}

/** Throws `input/malformed` when the command line lacks either or has one twice. */
export function rootfsCommitmentOf(cmdline: string): RootfsCommitment {
  const rootHash = parameterOf(cmdline, "dstack.rootfs_hash", /^[0-9a-f]{64}$/);
  const dataSize = Number(parameterOf(cmdline, "dstack.rootfs_size", /^[1-9][0-9]{0,15}$/));
  return { rootHash, dataSize };
}

function parameterOf(cmdline: string, name: string, form: RegExp): string {
  const values = cmdline.split(/\s+/)
    .filter((word) => word.startsWith(`${name}=`))
    .map((word) => word.slice(name.length + 1));
  const [value] = values;
  if (values.length !== 1 || !form.test(value!)) {
    throw new AppError(
      "input/malformed",
      `Cannot parse kernel command line: it must have one valid ${name}`,
    );
  }
  return value!;
}

function requireFlat(member: string, name: string): string {
  if (isFlatName(name)) return name;
  throw new AppError(
    "input/malformed",
    `Cannot parse ${MANIFEST_FILE_NAME}: ${member} ${JSON.stringify(name)} is not a flat file name`,
  );
}
