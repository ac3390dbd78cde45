import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Files, Log, Run, Sleep } from "../ports.ts";
import { runChecked } from "../run-checked.ts";
import {
  LUKS_HEADER_ZONE,
  LUKS_PAYLOAD_OFFSET,
  luksPresence,
  validateLuksHeader,
} from "./luks-header.ts";

/** Name of the device-mapper device, as in the reference. */
const MAPPER_NAME = "dstack_data_disk";
const MAPPER = `/dev/mapper/${MAPPER_NAME}`;
/** On tmpfs and root's alone: the header copy that the host cannot change while it is used. */
const PRIVATE_DIR = "/run/dstack/luks";
const HEADER_COPY = `${PRIVATE_DIR}/header`;

const SECTOR_BYTES = 512;
/** Inode tables are zeroed in the background, slowly: a boot has better to do than to encrypt zeros. */
const MOUNT_OPTIONS = "init_itable=100";
/** Device nodes are made by libdevmapper itself: waiting for udev costs time and buys nothing here. */
const DM_ENV = { DM_DISABLE_UDEV: "1" };
const MAPPER_TRIES = 20;
const MAPPER_WAIT_MS = 250;

/** Raw access to the disk, beside what cryptsetup does. */
export interface RawDisk {
  readonly sizeBytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Resolves once the bytes are on the disk. */
  writeDurably(offset: number, bytes: Uint8Array): Promise<void>;
}

export interface DataDiskPorts {
  readonly run: Run;
  readonly files: Files;
  readonly openDisk: (device: string) => Promise<RawDisk>;
  readonly isMountPoint: (path: string) => Promise<boolean>;
  readonly sleep: Sleep;
  readonly log: Log;
}

export interface DataDiskOptions {
  readonly device: string;
  readonly mountPoint: string;
  /** 32 bytes; its hex text is the passphrase. */
  readonly diskCryptKey: Uint8Array;
  /** false only where the measured command line says so. */
  readonly encrypted: boolean;
  /** Bytes; 0 for none. */
  readonly swapBytes: number;
  /** An app without a key provider cannot read its last disk: it gets a new one each boot. */
  readonly ephemeral: boolean;
  readonly onPhase: (phase: "initializing data disk" | "mounting data disk") => void;
}

/**
 * Opens the data disk, making it first where there is none, and mounts it.
 *
 * On the first boot the header is built on tmpfs and written to the disk last, after the file system:
 * a disk with a header is always a finished one, so a crash at any step leaves a disk that the next
 * boot makes anew. On later boots cryptsetup reads a validated copy, never the disk's own header.
 */
export async function mountDataDisk(
  options: DataDiskOptions,
  ports: DataDiskPorts,
): Promise<void> {
  if (await ports.isMountPoint(options.mountPoint)) return;
  const disk = await ports.openDisk(options.device);
  if (disk.sizeBytes < 2 * LUKS_PAYLOAD_OFFSET) {
    throw new AppError("guest/disk", `The data disk has ${disk.sizeBytes} bytes, too few`);
  }
  const volume = options.encrypted
    ? await openEncrypted(options, disk, ports)
    : await openPlain(options, disk, ports);
  await ports.files.makeDirectory(options.mountPoint);
  await runChecked(ports.run, [
    "mount",
    "-t",
    "ext4",
    "-o",
    MOUNT_OPTIONS,
    volume,
    options.mountPoint,
  ], {
    errorCode: "guest/disk",
  });
  if (options.swapBytes > 0) await addSwap(options, ports);
}

async function openEncrypted(
  options: DataDiskOptions,
  disk: RawDisk,
  ports: DataDiskPorts,
): Promise<string> {
  const { run, files } = ports;
  await files.makeDirectory(PRIVATE_DIR, 0o700);
  try {
    const start = await disk.read(0, LUKS_HEADER_ZONE);
    const presence = luksPresence(start);
    if (presence === "damaged") {
      throw new AppError(
        "guest/disk-header",
        "The data disk lost its primary LUKS header; it is left as it is",
      );
    }
    if (presence === "present" && !options.ephemeral) {
      options.onPhase("mounting data disk");
      // cryptsetup wants the file to reach to the payload; what lies in between is nobody's.
      const header = await privateHeader(start, disk);
      await files.write(HEADER_COPY, header, 0o600, LUKS_PAYLOAD_OFFSET);
      await luksOpen(options, ports);
      await checkFileSystem(MAPPER, ports);
    } else {
      if (presence === "absent") requireNoPartitionTable(start);
      options.onPhase("initializing data disk");
      await luksFormat(options, ports);
      await luksOpen(options, ports);
      await makeFileSystem(MAPPER, ports);
      await runChecked(run, ["sync", MAPPER], { errorCode: "guest/disk" });
      const header = (await files.read(HEADER_COPY))!;
      await disk.writeDurably(0, header.subarray(0, LUKS_HEADER_ZONE));
    }
  } finally {
    await files.remove(PRIVATE_DIR);
  }
  return MAPPER;
}

/**
 * What of the disk's start cryptsetup will read, in one buffer that is validated and then used. Most
 * headers lie within what was read already.
 */
async function privateHeader(start: Uint8Array, disk: RawDisk): Promise<Uint8Array> {
  const used = validateLuksHeader(start);
  if (used <= start.length) return start.subarray(0, used);
  const whole = await disk.read(0, used);
  if (validateLuksHeader(whole) !== used) {
    throw new AppError("guest/disk-header", "The LUKS header changed while it was read");
  }
  return whole;
}

/** Every parameter is named: cryptsetup's defaults differ between versions and devices. */
async function luksFormat(options: DataDiskOptions, ports: DataDiskPorts): Promise<void> {
  await ports.files.remove(HEADER_COPY);
  // deno-fmt-ignore
  await runChecked(ports.run, [
    "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2",
    "--header", HEADER_COPY, "--offset", String(LUKS_PAYLOAD_OFFSET / SECTOR_BYTES),
    "--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--sector-size", "512",
    // The passphrase has 256 bits of entropy: stretching it would only cost boot time.
    "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
    "--key-file", "-", options.device,
  ], { input: toHex(options.diskCryptKey), env: DM_ENV, errorCode: "guest/disk" });
  validateLuksHeader((await ports.files.read(HEADER_COPY))!);
}

async function luksOpen(options: DataDiskOptions, ports: DataDiskPorts): Promise<void> {
  // deno-fmt-ignore
  await runChecked(ports.run, [
    "cryptsetup", "open", "--type", "luks2", "--header", HEADER_COPY,
    "--key-file", "-", options.device, MAPPER_NAME,
  ], { input: toHex(options.diskCryptKey), env: DM_ENV, errorCode: "guest/disk" });
  for (let attempt = 0; !await ports.files.exists(MAPPER); attempt++) {
    if (attempt === MAPPER_TRIES) throw new AppError("guest/disk", `${MAPPER} does not appear`);
    await ports.sleep(MAPPER_WAIT_MS);
  }
}

async function openPlain(
  options: DataDiskOptions,
  disk: RawDisk,
  ports: DataDiskPorts,
): Promise<string> {
  const start = await disk.read(0, 4096);
  const hasFileSystem = start[1080] === 0x53 && start[1081] === 0xef; // ext4 s_magic
  if (hasFileSystem && !options.ephemeral) {
    options.onPhase("mounting data disk");
    await checkFileSystem(options.device, ports);
  } else {
    requireNoPartitionTable(start);
    options.onPhase("initializing data disk");
    await makeFileSystem(options.device, ports);
  }
  return options.device;
}

async function makeFileSystem(volume: string, ports: DataDiskPorts): Promise<void> {
  const lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
  await runChecked(ports.run, ["mkfs.ext4", "-F", "-q", "-E", lazy, volume], {
    errorCode: "guest/disk",
  });
}

/** Replays the journal, repairs what can be, and grows the file system with its disk. */
async function checkFileSystem(volume: string, ports: DataDiskPorts): Promise<void> {
  const { run } = ports;
  await runChecked(run, ["e2fsck", "-p", volume], { okCodes: [0, 1], errorCode: "guest/disk" });
  if (!await hasGrown(volume, ports)) return;
  await runChecked(run, ["e2fsck", "-f", "-p", volume], {
    okCodes: [0, 1],
    errorCode: "guest/disk",
  });
  await runChecked(run, ["resize2fs", volume], { errorCode: "guest/disk" });
}

/** Whether the volume has room for 16 MiB more than its ext4 superblock says. */
async function hasGrown(volume: string, ports: DataDiskPorts): Promise<boolean> {
  const device = await ports.openDisk(volume);
  const superblock = await device.read(1024, 1024);
  const view = new DataView(superblock.buffer, superblock.byteOffset);
  const blockBytes = 1024 << view.getUint32(0x18, true);
  const blocks = view.getUint32(0x04, true) + view.getUint32(0x150, true) * 2 ** 32;
  return device.sizeBytes - blocks * blockBytes >= 16 * 1024 * 1024;
}

async function addSwap(options: DataDiskOptions, ports: DataDiskPorts): Promise<void> {
  const path = `${options.mountPoint}/swapfile`;
  await ports.files.remove(path);
  await ports.files.write(path, "", 0o600);
  for (
    const argv of [
      ["fallocate", "-l", String(options.swapBytes), path],
      ["mkswap", path],
      ["swapon", path],
    ]
  ) {
    await runChecked(ports.run, argv, { errorCode: "guest/disk" });
  }
}

/** The wrong disk, most likely: the data disk is used whole. */
function requireNoPartitionTable(start: Uint8Array): void {
  if (start[510] === 0x55 && start[511] === 0xaa) {
    throw new AppError("guest/disk", "The data disk has a partition table; it is left as it is");
  }
}
