import { open, readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "#core/errors/app-error.ts";
import type { RawDisk } from "../boot/data-disk.ts";
import { BOOT_SECTOR_BYTES, fatLabel } from "../boot/fat-label.ts";

const CLASS_BLOCK = "/sys/class/block";
const DEFAULT_DATA_DEVICE = "/dev/vdb";
const DATA_LABEL = "dstack-data";
const WAIT_TRIES = 40;
const WAIT_MS = 250;

/** Raw access to a block device; no udev is needed anywhere here, nodes come from devtmpfs. */
export async function openDisk(device: string): Promise<RawDisk> {
  const name = device.startsWith("/dev/mapper/")
    ? await mapperName(device)
    : device.replace(/^\/dev\//, "");
  const sectors = await readFile(`${CLASS_BLOCK}/${name}/size`, "utf8").catch((cause) => {
    throw new AppError("guest/disk", `${device} is no block device`, { cause });
  });
  return {
    sizeBytes: Number(sectors.trim()) * 512,
    async read(offset, length) {
      const file = await open(device, "r");
      try {
        return await readFully(file, offset, length);
      } finally {
        await file.close();
      }
    },
    async writeDurably(offset, bytes) {
      const file = await open(device, "r+");
      try {
        for (let done = 0; done < bytes.length;) {
          const { bytesWritten } = await file.write(
            bytes,
            done,
            bytes.length - done,
            offset + done,
          );
          done += bytesWritten;
        }
        await file.sync();
      } finally {
        await file.close();
      }
    },
  };
}

type ReadableFile = Awaited<ReturnType<typeof open>>;

/** All of it, or less where the device ends. */
async function readFully(file: ReadableFile, offset: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** /sys names device-mapper devices dm-N; each says what it is called. */
async function mapperName(device: string): Promise<string> {
  const wanted = device.slice("/dev/mapper/".length);
  for (const name of await readdir(CLASS_BLOCK)) {
    if (!name.startsWith("dm-")) continue;
    const called = await readFile(`${CLASS_BLOCK}/${name}/dm/name`, "utf8");
    if (called.trim() === wanted) return name;
  }
  throw new AppError("guest/disk", `${device} does not exist`);
}

/**
 * The data disk: what the command line names (`PARTLABEL=`, `PARTUUID=`, a path), else a partition
 * labelled dstack-data, else the second disk, whole. Waits up to 10 s for it to appear.
 */
export async function findDataDevice(wanted: string | undefined): Promise<string> {
  for (let attempt = 0; attempt < WAIT_TRIES; attempt++) {
    const found = await lookFor(wanted);
    if (found !== undefined) return found;
    await sleep(WAIT_MS);
  }
  throw new AppError("guest/disk", `There is no data disk ${wanted ?? DEFAULT_DATA_DEVICE}`);
}

async function lookFor(wanted: string | undefined): Promise<string | undefined> {
  if (wanted?.startsWith("/dev/")) return await existing(wanted);
  if (wanted !== undefined) {
    const [kind, value] = wanted.split("=", 2);
    if (kind === "PARTLABEL") return await partition("PARTNAME", value ?? "");
    if (kind === "PARTUUID") return await partition("PARTUUID", value ?? "");
    throw new AppError("config/invalid", `dstack.data_device ${wanted} is not understood`);
  }
  return await partition("PARTNAME", DATA_LABEL) ?? await existing(DEFAULT_DATA_DEVICE);
}

async function existing(device: string): Promise<string | undefined> {
  const name = device.replace(/^\/dev\//, "");
  return (await readdir(CLASS_BLOCK)).includes(name) ? device : undefined;
}

/**
 * The one partition whose uevent says `key=value`. Read-only disks are passed over: verity volumes
 * have a partition of the same label.
 */
async function partition(key: string, value: string): Promise<string | undefined> {
  for (const name of (await readdir(CLASS_BLOCK)).sort()) {
    const uevent = await readFile(`${CLASS_BLOCK}/${name}/uevent`, "utf8");
    if (!uevent.split("\n").includes(`${key}=${value}`)) continue;
    const readOnly = (await readFile(`${CLASS_BLOCK}/${name}/ro`, "utf8")).trim() === "1";
    if (!readOnly) return `/dev/${name}`;
  }
  return undefined;
}

/** The disk whose FAT volume is labelled `label`; undefined when there is none. */
export async function findFatVolume(label: string): Promise<string | undefined> {
  for (const name of (await readdir(CLASS_BLOCK)).sort()) {
    if (/^(loop|ram|dm-|zram)/.test(name)) continue;
    const file = await open(`/dev/${name}`, "r").catch(() => undefined);
    if (file === undefined) continue;
    try {
      const sector = await readFully(file, 0, BOOT_SECTOR_BYTES);
      if (fatLabel(sector) === label) return `/dev/${name}`;
    } finally {
      await file.close();
    }
  }
  return undefined;
}
