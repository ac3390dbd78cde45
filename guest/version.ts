import type { AppVersion } from "#core/http/operations.ts";

/** Put in place by scripts/build-guest. */
declare const __GUEST_REVISION__: string | undefined;

/**
 * What Version answers: the release of the reference whose behaviour the agent has, because SDKs infer
 * capabilities from it, and our own revision.
 */
export const GUEST_VERSION: AppVersion = {
  version: "0.6.0",
  rev: typeof __GUEST_REVISION__ === "undefined" ? "unknown" : __GUEST_REVISION__,
};
