/** How often a healthy route is registered again, and how long silence is taken for health. Seconds. */
const PERIOD_S = 180;
const SILENCE_S = 180;
const FIRST_BACKOFF_S = 30;
const MAX_BACKOFF_S = 120;

/** What the checker remembers between polls. Times in unix seconds. */
export interface CheckerState {
  readonly consecutiveFailures: number;
  readonly lastAttemptAt: number | undefined;
  readonly lastForcedAt: number | undefined;
  /** When a missing handshake was first seen; only a handshake clears it. */
  readonly missingSince: number | undefined;
}

export interface Observation {
  /** Unix seconds. */
  readonly now: number;
  readonly configPresent: boolean;
  /** The newest over all peers; 0 for none. */
  readonly latestHandshake: number;
}

export type CheckerAction = "none" | "refresh" | "forced-refresh";

/**
 * A checker that finds a configuration when it starts counts the period from then: restarting many
 * guests' checkers must not register the whole fleet again at once.
 */
export function initialState(now: number, configPresent: boolean): CheckerState {
  return {
    consecutiveFailures: 0,
    lastAttemptAt: configPresent ? now : undefined,
    lastForcedAt: undefined,
    missingSince: undefined,
  };
}

/** What to do now (spec/os.md 3.10), and the state that follows from what was seen. */
export function decide(
  state: CheckerState,
  { now, configPresent, latestHandshake }: Observation,
): { readonly action: CheckerAction; readonly state: CheckerState } {
  if (!configPresent) {
    const wait = Math.max(FIRST_BACKOFF_S, backoff(state.consecutiveFailures));
    return {
      action: isDue(state.lastAttemptAt, now, wait) ? "forced-refresh" : "none",
      state: { ...state, missingSince: undefined },
    };
  }
  const missingSince = latestHandshake > 0 ? undefined : state.missingSince ?? now;
  const silentSince = latestHandshake > 0 ? latestHandshake : missingSince ?? now;
  const next = { ...state, missingSince };
  if (now - silentSince >= SILENCE_S) {
    return {
      action: isDue(state.lastForcedAt, now, SILENCE_S) ? "forced-refresh" : "none",
      state: next,
    };
  }
  return { action: isDue(state.lastAttemptAt, now, PERIOD_S) ? "refresh" : "none", state: next };
}

/** The state after an attempt that ended at `now`. */
export function afterAttempt(
  state: CheckerState,
  attempt: { readonly now: number; readonly forced: boolean; readonly succeeded: boolean },
): CheckerState {
  return {
    ...state,
    consecutiveFailures: attempt.succeeded ? 0 : state.consecutiveFailures + 1,
    lastAttemptAt: attempt.now,
    lastForcedAt: attempt.forced ? attempt.now : state.lastForcedAt,
  };
}

/** Seconds to wait after so many failures in a row: 0, 30, 60, 120, 120, ... */
export function backoff(consecutiveFailures: number): number {
  if (consecutiveFailures === 0) return 0;
  return Math.min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** Math.min(consecutiveFailures - 1, 10));
}

/** The newest time of `wg show <if> latest-handshakes`; 0 when there is none. Other lines are ignored. */
export function parseLatestHandshake(text: string): number {
  const times = text.split("\n").map((line) => /^\S+\s+([0-9]{1,15})$/.exec(line.trim())?.[1]);
  return Math.max(0, ...times.map((time) => Number(time ?? 0)));
}

function isDue(last: number | undefined, now: number, interval: number): boolean {
  return last === undefined || now - last >= interval;
}
