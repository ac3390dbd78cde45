import { PARSERS } from "../conformance/parsers.ts";
import { type BenchResult, withoutPeer } from "./result.ts";

const BYTES = 64 * 1024;
const ROUNDS = 5;

/**
 * 64 KiB of noise, of each single byte, and of each parser's own sample over and over: the slowest of
 * them, for the parser whose slowest is slowest. The budget is 50 ms.
 */
export async function run(): Promise<BenchResult[]> {
  const noise = crypto.getRandomValues(new Uint8Array(BYTES));
  const printable = noise.map((byte) => 0x20 + byte % 0x5f);
  const same = Array.from({ length: 256 }, (_, byte) => new Uint8Array(BYTES).fill(byte));
  let worst = { name: "none", ms: 0 };
  for (const { name, parse, sample } of PARSERS) {
    const repeated = sample && repeat(sample());
    for (const input of [noise, printable, ...same, ...(repeated ? [repeated] : [])]) {
      const ms = Math.min(...Array.from({ length: ROUNDS }, () => timed(() => parse(input))));
      if (ms > worst.ms) worst = { name, ms };
    }
  }
  return [
    withoutPeer(`64 KiB of noise, slowest parser of ${PARSERS.length} (${worst.name})`, worst.ms),
  ];
}

function repeat(sample: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: BYTES }, (_, i) => sample[i % sample.length]!);
}

/** Milliseconds; that it is refused is another test's concern. */
function timed(parse: () => unknown): number {
  const start = performance.now();
  try {
    parse();
  } catch {
    // noise
  }
  return performance.now() - start;
}
