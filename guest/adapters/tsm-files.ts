import { mkdir, open, readFile } from "node:fs/promises";
import type { TsmFiles } from "../tee/tdx.ts";
import { withFileLock } from "./file-lock.ts";

/** The kernel's configfs and sysfs attributes: one open, one transfer, one close each. */
export const tsmFiles: TsmFiles = {
  async makeDirectory(path) {
    try {
      await mkdir(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  },

  readText: (path) => readFile(path, "utf8"),

  async readBytes(path, maxBytes) {
    const file = await open(path, "r");
    try {
      const buffer = new Uint8Array(maxBytes + 1);
      let length = 0;
      while (length < buffer.length) {
        const { bytesRead } = await file.read(buffer, length, buffer.length - length, null);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      return buffer.slice(0, length);
    } finally {
      await file.close();
    }
  },

  async writeBytes(path, data) {
    const file = await open(path, "r+").catch((error) => {
      if ((error as NodeJS.ErrnoException).code === "EACCES") return open(path, "w");
      throw error;
    });
    try {
      await file.write(data, 0, data.length, 0);
    } finally {
      await file.close();
    }
  },

  withLock: (path, action) => withFileLock(path, action, { create: false }),
};
