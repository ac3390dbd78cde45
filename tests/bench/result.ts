/** One line of a benchmark: ours beside a peer's, measured in the same run. */
export interface BenchResult {
  readonly name: string;
  readonly ours_ms: number;
  /** Name and version of what it is compared with; null where nothing comparable exists. */
  readonly peer: string | null;
  readonly peer_ms: number | null;
  /** ours_ms / peer_ms. */
  readonly ratio: number | null;
}

export function withoutPeer(name: string, oursMs: number): BenchResult {
  return { name, ours_ms: round(oursMs), peer: null, peer_ms: null, ratio: null };
}

export function againstPeer(
  name: string,
  oursMs: number,
  peer: string,
  peerMs: number,
): BenchResult {
  const [ours_ms, peer_ms] = [round(oursMs), round(peerMs)];
  return { name, ours_ms, peer, peer_ms, ratio: round(oursMs / peerMs) };
}

/** The middle one of several samples: a busy machine spoils means. */
export function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)]!;
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
