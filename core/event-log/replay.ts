import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { concatBytes } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { type HashName, type RuntimeEvent, runtimeEventDigest } from "./runtime-event.ts";
import { effectiveDigest, type TdxEvent } from "./tdx-event.ts";

const SHA384_BYTES = 48;

/** One extension: `register' = H(register || digest)`. */
export function extendRegister(
  register: Uint8Array,
  digest: Uint8Array,
  hash: HashName = "sha384",
): Uint8Array {
  return (hash === "sha384" ? sha384 : sha256)(concatBytes(register, digest));
}

/** A register that starts at zero and is extended with each digest. */
export function replayDigests(
  digests: readonly Uint8Array[],
  hash: HashName = "sha384",
): Uint8Array {
  const zero = new Uint8Array(hash === "sha384" ? SHA384_BYTES : 32);
  return digests.reduce((register, digest) => extendRegister(register, digest, hash), zero);
}

/** RTMR0 to RTMR3 as a whole log yields them. Throws `input/malformed` for an unknown register or digest. */
export function replayEventLog(
  log: readonly TdxEvent[],
): [Uint8Array, Uint8Array, Uint8Array, Uint8Array] {
  const digests: [Uint8Array[], Uint8Array[], Uint8Array[], Uint8Array[]] = [[], [], [], []];
  for (const event of log) {
    const of = digests[event.imr];
    if (!of) throw malformed(`register ${event.imr} does not exist`);
    const digest = effectiveDigest(event);
    if (digest.length !== SHA384_BYTES) throw malformed(`a digest has ${digest.length} bytes`);
    of.push(digest);
  }
  return [
    replayDigests(digests[0]),
    replayDigests(digests[1]),
    replayDigests(digests[2]),
    replayDigests(digests[3]),
  ];
}

/**
 * RTMR3 (SHA-384) or PCR14 as the runtime events yield it. `through` stops after the first event of
 * that name, inclusively; without such an event everything is replayed.
 */
export function replayRuntimeEvents(
  events: readonly RuntimeEvent[],
  options: { readonly through?: string; readonly hash?: HashName } = {},
): Uint8Array {
  const last = events.findIndex(({ event }) => event === options.through);
  const counted = last === -1 ? events : events.slice(0, last + 1);
  const hash = options.hash ?? "sha384";
  return replayDigests(counted.map((event) => runtimeEventDigest(event, hash)), hash);
}

function malformed(why: string): AppError {
  return new AppError("input/malformed", `Cannot replay event log: ${why}`);
}
