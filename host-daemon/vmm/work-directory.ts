import { utf8 } from "#core/bytes/bytes.ts";
import { fat32Image } from "../disk/fat32.ts";
import { emptyQcow2, grownQcow2, QCOW2_HEADER_BYTES } from "../disk/qcow2.ts";
import type { HostFiles } from "./ports.ts";
import { requireVmId } from "./vm-id.ts";

/** Size of the share volume in bytes and its label (spec/vmm.md section 4.9). */
const SHARE_BYTES = 128 * 1024 * 1024;
const SHARE_LABEL = "DSTACKSHR";

/** Largest files this daemon reads back from a share. */
const MAX_SHARED_FILE_BYTES = 50 * 1024 * 1024;

export const LOG_CHANNELS = ["serial", "stdout", "stderr"] as const;
export type LogChannel = (typeof LOG_CHANNELS)[number];

/** Files of one VM, `<run_path>/<vm id>/` (spec/vmm.md section 4.1). The share holds a secret: 0700. */
export class WorkDirectory {
  readonly path: string;
  readonly #files: HostFiles;

  constructor(runPath: string, vmId: string, files: HostFiles) {
    this.path = `${runPath}/${requireVmId(vmId)}`;
    this.#files = files;
  }

  get monitorSocket(): string {
    return `${this.path}/qmp.sock`;
  }

  log(channel: LogChannel): string {
    return `${this.path}/${channel}.log`;
  }

  async create(): Promise<void> {
    await this.#files.makeDirectory(this.path, 0o700);
    await this.#files.makeDirectory(`${this.path}/shared`, 0o700);
  }

  readShared(name: SharedFile): Promise<Uint8Array | undefined> {
    return this.#files.readBytes(`${this.path}/shared/${name}`, MAX_SHARED_FILE_BYTES);
  }

  async writeShared(name: SharedFile, content: Uint8Array | string): Promise<void> {
    await this.#files.writeAtomic(`${this.path}/shared/${name}`, content, 0o600);
  }

  /** The volume through which the guest reads `shared/`; it reads at boot only, so it is made anew. */
  async buildShareVolume(): Promise<void> {
    const files = [];
    for (const name of SHARED_FILES) {
      const content = await this.readShared(name);
      if (content !== undefined) files.push({ name, content });
    }
    const parts = fat32Image(files, {
      label: SHARE_LABEL,
      sizeBytes: SHARE_BYTES,
      serial: 0xd57ac4,
    });
    await this.#files.writeImage(`${this.path}/shared.img`, parts, SHARE_BYTES, 0o600);
  }

  /** The data disk, made on the first start only. */
  async ensureDataDisk(diskGib: number): Promise<void> {
    const path = `${this.path}/hda.img`;
    if (await this.#files.exists(path)) return;
    const { parts, lengthBytes } = emptyQcow2(BigInt(diskGib) << 30n);
    await this.#files.writeImage(path, parts, lengthBytes, 0o600);
  }

  /** A disk that does not exist yet is made with its new size at the next start. */
  async growDataDisk(diskGib: number): Promise<void> {
    const path = `${this.path}/hda.img`;
    if (!(await this.#files.exists(path))) return;
    const header = await this.#files.readFrom(path, 0, QCOW2_HEADER_BYTES);
    await this.#files.patch(path, grownQcow2(header, BigInt(diskGib) << 30n));
  }

  /** Keeps a log from filling the disk: what a guest prints is its own choice. */
  async limitLogs(maxBytes: number, backups: number, now: Date): Promise<void> {
    for (const channel of LOG_CHANNELS) {
      const size = await this.#files.sizeOf(this.log(channel));
      if (size <= maxBytes) continue;
      await this.#files.rotateInPlace(this.log(channel), backups);
      const what = backups === 0
        ? `discarded ${size} bytes`
        : `rotated ${size} bytes to ${channel}.log.1`;
      await this.#files.append(this.log(channel), `\n===== ${what} @ ${stampOf(now)} =====\n\n`);
    }
  }

  /** Moves the logs of the last boot away and opens new ones with a line that says when. */
  async beginLogs(backups: number, now: Date): Promise<void> {
    for (const channel of LOG_CHANNELS) {
      await this.#files.rotate(this.log(channel), backups);
      await this.#files.append(this.log(channel), `===== boot @ ${stampOf(now)} =====\n\n`);
    }
    await this.#files.remove(this.monitorSocket);
    await this.#files.remove(`${this.path}/serial.pty`);
  }

  /** The manifest in the reference's shape, for people and tools that look here; rows are the truth. */
  async writeManifest(manifest: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#files.writeAtomic(
      `${this.path}/vm-manifest.json`,
      utf8(JSON.stringify(manifest, null, 2) + "\n"),
      0o600,
    );
  }

  async remove(): Promise<void> {
    await this.#files.removeTree(this.path);
  }
}

function stampOf(now: Date): string {
  return now.toISOString().replace(/\.\d+Z$/, "Z");
}

/** What a guest reads; nothing else in `shared/` reaches it. */
const SHARED_FILES = [
  "app-compose.json",
  ".encrypted-env",
  ".user-config",
  ".instance_info",
  ".sys-config.json",
] as const;
export type SharedFile = (typeof SHARED_FILES)[number];
