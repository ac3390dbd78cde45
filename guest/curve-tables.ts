import { ed25519 } from "@noble/curves/ed25519.js";
import { p256 } from "@noble/curves/nist.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";

/** Bits of a scalar per table row. The library's 8 pay off after hundreds of operations, not before. */
const WINDOW_BITS = 4;

/**
 * Makes the first multiplication on each curve cheap: a guest does a handful at boot, and with the
 * library's large tables the first one alone takes ten times as long as all the others. Call before
 * any key is used.
 */
export function useSmallCurveTables(): void {
  for (const point of [p256.Point.BASE, secp256k1.Point.BASE, ed25519.Point.BASE]) {
    point.precompute(WINDOW_BITS);
  }
}
