import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AppError } from "../core/errors/app-error.ts";

/** Codes that blame what was parsed, or a file an operator named. */
const BLAMES_INPUT =
  /^(input\/|attestation\/refused|measurement\/|compose\/|crypto\/|config\/invalid|image\/)/;
const NOISE_BYTES = 64 * 1024;

/**
 * Every parser of untrusted bytes holds this: whatever it gets, it answers or throws an AppError that
 * blames the input. Tried on noise, on 64 KiB of one byte and of noise, and on `sample` (a well-formed
 * input, when given) cut, extended and with bytes changed.
 */
export function parserProperty(
  name: string,
  parse: (bytes: Uint8Array) => unknown,
  sample?: () => Uint8Array,
): void {
  test(`${name} throws nothing but errors about the input`, () => {
    const holds = (bytes: Uint8Array) => {
      try {
        parse(bytes);
      } catch (error) {
        assert.ok(error instanceof AppError, `threw ${String(error)}`);
        assert.match(error.code, BLAMES_INPUT);
      }
    };
    const length = { minLength: NOISE_BYTES, maxLength: NOISE_BYTES };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2048 }), holds));
    fc.assert(fc.property(fc.uint8Array(length), holds), { numRuns: 5 });
    for (let byte = 0; byte < 256; byte++) holds(new Uint8Array(NOISE_BYTES).fill(byte));
    if (sample === undefined) return;
    const good = sample();
    parse(good);
    const changes = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(fc.property(changes, fc.nat(good.length), fc.uint8Array(), (list, cut, tail) => {
      const changed = good.slice();
      for (const [at, value] of list) changed[at] = value;
      holds(changed);
      holds(changed.slice(0, cut));
      holds(Uint8Array.of(...changed, ...tail));
      // A cut is always noticed unless the format allows padding, which then is what was cut.
      holds(good.slice(0, cut));
    }));
  });
}
