import { compare } from "bcryptjs";
import { AppError } from "#core/errors/app-error.ts";

/** 60 characters: version, cost, salt and hash. A cost above 16 takes seconds a try. */
const BCRYPT = /^\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}$/;
/** Of nobody: compared with when the user is unknown, so that both take as long. */
const NOBODY = "$2b$10$abcdefghijklmnopqrstuuTRmDB6vjFl3b2Sc1sJ7Sb7F0Wn3T5Cy";

/**
 * Reads an htpasswd file: `user:bcrypt` lines, blank ones and those that begin with # skipped. Throws
 * `config/invalid` for an empty file, an empty or repeated user, and any other kind of hash.
 */
export function parseHtpasswd(text: string): (user: string, password: string) => Promise<boolean> {
  const hashes = new Map<string, string>();
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    const [user, hash] = [line.slice(0, colon), line.slice(colon + 1)];
    if (colon < 1 || hashes.has(user) || !BCRYPT.test(hash)) {
      throw new AppError(
        "config/invalid",
        `Line ${index + 1} of the htpasswd file is not a user of its own with a bcrypt hash`,
      );
    }
    hashes.set(user, hash);
  }
  if (hashes.size === 0) throw new AppError("config/invalid", "The htpasswd file names nobody");
  return async (user, password) => {
    const hash = hashes.get(user);
    const matches = await compare(password, hash ?? NOBODY);
    return hash !== undefined && matches;
  };
}
