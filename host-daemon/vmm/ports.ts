import type { QmpClient } from "../qemu/qmp.ts";
import type { ImagePart } from "../disk/fat32.ts";

/** What recognises one process of this host beyond doubt, also after dstackd restarted. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat. */
  readonly startTicks: string;
  /** /proc/sys/kernel/random/boot_id when it started. */
  readonly hostBootId: string;
}

/** Files below directories dstackd owns. Paths are absolute; missing files are `undefined`. */
export interface HostFiles {
  readBytes(path: string, maxBytes: number): Promise<Uint8Array | undefined>;
  /** The last `maxBytes` of a file, from its end. */
  readTail(path: string, maxBytes: number): Promise<Uint8Array | undefined>;
  writeAtomic(path: string, content: Uint8Array | string, mode: number): Promise<void>;
  /** A sparse file of `lengthBytes`, written aside and renamed into place. */
  writeImage(
    path: string,
    parts: readonly ImagePart[],
    lengthBytes: number,
    mode: number,
  ): Promise<void>;
  /** Overwrites parts of a file that nobody else uses. */
  patch(path: string, parts: readonly ImagePart[]): Promise<void>;
  makeDirectory(path: string, mode: number): Promise<void>;
  exists(path: string): Promise<boolean>;
  sizeOf(path: string): Promise<number>;
  remove(path: string): Promise<void>;
  removeTree(path: string): Promise<void>;
  /** Moves `path` to `path.1`, shifting older ones; at most `backups` are kept. */
  rotate(path: string, backups: number): Promise<void>;
  /** As `rotate`, for a file that another process appends to: copies and empties it in place. */
  rotateInPlace(path: string, backups: number): Promise<void>;
  append(path: string, text: string): Promise<void>;
  /** Reads `path` from `offset` up to `maxBytes`. */
  readFrom(path: string, offset: number, maxBytes: number): Promise<Uint8Array>;
}

/** Starts and watches QEMU. */
export interface VmRunner {
  /** In a session of its own, so that it outlives dstackd; returns once it runs. */
  launch(
    argv: readonly string[],
    options: { cwd: string; stdoutPath: string; stderrPath: string },
  ): Promise<ProcessIdentity>;
  isAlive(identity: ProcessIdentity): boolean;
  /** Processes that have `argument` among their arguments, whoever started them. */
  findByArgument(argument: string): Promise<ProcessIdentity[]>;
  /** SIGKILL to the process and its group, if it is still the one meant. */
  kill(identity: ProcessIdentity): void;
  connectMonitor(socketPath: string): Promise<QmpClient>;
  /** A loopback TCP port nobody listens on right now. */
  freePort(): Promise<number>;
  /** Throws `host/port-taken` when something listens there. */
  requireFree(protocol: "tcp" | "udp", address: string, port: number): Promise<void>;
}
