/** What `docker compose up` tells on its plain progress lines. */
export type ComposePhase = "pulling images" | "starting containers";

/** The phase a line belongs to; undefined when it says nothing about it. */
export function composePhase(line: string): ComposePhase | undefined {
  if (/\bPulling\b|\bDownloading\b|\bExtracting\b/.test(line)) return "pulling images";
  if (/\b(Creating|Starting|Recreate)\b/.test(line)) return "starting containers";
  return undefined;
}

/**
 * Failures that pass when a registry, or the way to it, comes back. Everything else is the compose
 * file's, and trying again would only hide it.
 */
const TRANSIENT = [
  /connection refused/i,
  /connection reset/i,
  /no such host/i,
  /i\/o timeout/i,
  /context deadline exceeded/i,
  /TLS handshake timeout/i,
  /net\/http: request canceled/i,
  /network is unreachable/i,
  /no route to host/i,
  /temporary failure in name resolution/i,
  /unexpected EOF/i,
  /: EOF$/im,
  /toomanyrequests/i,
  /\b50[0-4] (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)/i,
  /received unexpected HTTP status: 5\d\d/i,
];

export function isTransientFailure(output: string): boolean {
  return TRANSIENT.some((pattern) => pattern.test(output));
}

/**
 * After an unclean end dockerd starts the containers it finds while compose starts them too; whoever is
 * second is told this. It passes once dockerd has restored them, and is final when it does not.
 */
const RESTORING = [
  /port is already allocated/i,
  /address already in use/i,
  /is already in progress/i,
  /marked for removal/i,
];

export function isRestoreRace(output: string): boolean {
  return RESTORING.some((pattern) => pattern.test(output));
}

/** The lines that say why, for the host: errors first, else the last ones. */
export function failureSummary(output: string): string {
  const lines = output.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const errors = lines.filter((line) =>
    /error|failed|denied|not found|refused|invalid/i.test(line)
  );
  return (errors.length > 0 ? errors : lines).slice(-3).join("; ").slice(-1000);
}
