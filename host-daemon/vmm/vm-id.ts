import { AppError } from "#core/errors/app-error.ts";

/** Checked before every path join: 1 to 64 of `[A-Za-z0-9_-]` (spec/vmm.md section 4.1). */
export function requireVmId(id: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) throw new AppError("input/malformed", "invalid VM id");
  return id;
}

/** Characters a CVM's name may hold; an empty name is allowed (spec/vmm.md section 3.3). */
export function requireCvmName(name: string): string {
  if (!/^[A-Za-z0-9\-_. @~!$^()]*$/.test(name)) {
    throw new AppError("input/malformed", `Invalid name: ${name.slice(0, 100)}`);
  }
  return name;
}

/** Image directory names: ASCII, no path parts (spec/vmm.md section 4.7). */
export function requireImageName(name: string): string {
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(name) || name.includes("..") || name.startsWith(".")) {
    throw new AppError("input/malformed", "Invalid image name");
  }
  return name;
}
