import { AppError } from "#core/errors/app-error.ts";

/** One member of a tar archive, with what an image keeps of it; times and owners' names are dropped. */
export interface TarEntry {
  /** Relative, without leading `./` or trailing slash; the root itself is "". */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "hardlink" | "device";
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Target of a symlink; path of the first name of a hard link. */
  readonly target: string;
  readonly content: Uint8Array;
}

const BLOCK = 512;
const TYPES: Readonly<Record<string, TarEntry["type"]>> = {
  "0": "file",
  "\0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "device",
  "4": "device",
  "5": "directory",
};

/** Reads ustar, GNU and pax archives (POSIX.1-2017 pax, section "ustar Interchange Format"). */
export function* readTar(bytes: Uint8Array): Generator<TarEntry> {
  const ascii = new TextDecoder();
  const field = (at: number, length: number) => {
    const end = bytes.indexOf(0, at);
    return ascii.decode(bytes.subarray(at, end === -1 || end > at + length ? at + length : end));
  };
  let longPath: string | undefined;
  let longTarget: string | undefined;
  for (let at = 0; at + BLOCK <= bytes.length;) {
    if (bytes[at] === 0) return;
    const size = readOctal(field(at + 124, 12));
    const body = bytes.subarray(at + BLOCK, at + BLOCK + size);
    if (body.length < size) {
      throw new AppError("input/malformed", "Cannot parse tar: it is cut short");
    }
    const flag = String.fromCharCode(bytes[at + 156]!);
    const prefix = field(at + 257, 6) === "ustar" ? field(at + 345, 155) : "";
    const name = field(at, 100);
    const header = at;
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    if (flag === "g") continue;
    if (flag === "L" || flag === "K") {
      const text = ascii.decode(body).replace(/\0+$/, "");
      if (flag === "L") longPath = text;
      else longTarget = text;
      continue;
    }
    if (flag === "x") {
      const records = readPaxRecords(body);
      longPath = records.get("path") ?? longPath;
      longTarget = records.get("linkpath") ?? longTarget;
      continue;
    }
    const type = TYPES[flag];
    if (type === undefined) {
      throw new AppError("input/unsupported", `Cannot parse tar: ${name} has type '${flag}'`);
    }
    const path = longPath ?? (prefix === "" ? name : `${prefix}/${name}`);
    const target = longTarget ?? field(header + 157, 100);
    longPath = longTarget = undefined;
    yield {
      path: normalPath(path),
      type,
      mode: readOctal(field(header + 100, 8)) & 0o7777,
      uid: readOctal(field(header + 108, 8)),
      gid: readOctal(field(header + 116, 8)),
      target: type === "hardlink" ? normalPath(target) : target,
      content: type === "file" ? body : new Uint8Array(0),
    };
  }
}

/** Writes one member as GNU tar does, with `mtime` in seconds since the epoch for all. */
export function* encodeTarEntry(entry: TarEntry, mtime: number): Generator<Uint8Array> {
  const path = entry.type === "directory" ? `${entry.path}/` : entry.path;
  for (const [flag, text] of [["K", entry.target], ["L", path]] as const) {
    const encoded = new TextEncoder().encode(text);
    if (encoded.length <= 100) continue;
    const body = new Uint8Array(encoded.length + 1);
    body.set(encoded);
    yield header("././@LongLink", flag, 0, 0, 0, body.length, "", 0);
    yield* padded(body);
  }
  const flag = Object.keys(TYPES).find((key) => key !== "\0" && TYPES[key] === entry.type)!;
  const { mode, uid, gid, target, content } = entry;
  yield header(path, flag, mode, uid, gid, content.length, target, mtime);
  yield* padded(content);
}

/** The two zero blocks that end an archive. */
export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK);

function header(
  path: string,
  flag: string,
  mode: number,
  uid: number,
  gid: number,
  size: number,
  target: string,
  mtime: number,
): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, text: string, length: number) =>
    block.set(new TextEncoder().encode(text).subarray(0, length), at);
  const octal = (at: number, value: number, digits: number) =>
    put(at, value.toString(8).padStart(digits, "0"), digits);
  put(0, path, 100);
  octal(100, mode, 7);
  octal(108, uid, 7);
  octal(116, gid, 7);
  octal(124, size, 11);
  octal(136, mtime, 11);
  put(148, "        ", 8);
  put(156, flag, 1);
  put(157, target, 100);
  put(257, "ustar  ", 7);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `, 8);
  return block;
}

function* padded(body: Uint8Array): Generator<Uint8Array> {
  if (body.length === 0) return;
  yield body;
  const rest = body.length % BLOCK;
  if (rest !== 0) yield new Uint8Array(BLOCK - rest);
}

function readOctal(text: string): number {
  const trimmed = text.trim();
  if (!/^[0-7]*$/.test(trimmed)) {
    throw new AppError("input/malformed", `Cannot parse tar: '${trimmed}' is not an octal number`);
  }
  return trimmed === "" ? 0 : parseInt(trimmed, 8);
}

/** pax extended header records, `<length> <key>=<value>\n`. */
function readPaxRecords(body: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  const text = new TextDecoder();
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const length = Number(text.decode(body.subarray(at, space)));
    if (space === -1 || !Number.isSafeInteger(length) || length < 5) {
      throw new AppError("input/malformed", "Cannot parse tar: bad pax record");
    }
    const record = text.decode(body.subarray(space + 1, at + length - 1));
    const equals = record.indexOf("=");
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

function normalPath(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) {
    throw new AppError("input/malformed", `Cannot parse tar: ${path} leaves the root`);
  }
  return parts.join("/");
}
