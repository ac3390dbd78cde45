import process from "node:process";
import type { AppVersion } from "#core/http/operations.ts";
import manifest from "../../package.json" with { type: "json" };

export const VERSION: AppVersion = {
  version: manifest.version,
  /** Set by the build: `git:<20 hex>`. */
  rev: process.env["DSTACK_REVISION"] ?? "unknown",
};
