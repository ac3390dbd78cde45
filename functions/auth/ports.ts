import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { BootDecision, BootInfo } from "./boot-info.ts";
import type { BootRole } from "./policy.ts";

export interface AuthDecisionEvent {
  readonly role: BootRole;
  readonly boot: BootInfo;
  readonly decision: BootDecision;
}

/** What the authorisation service needs from its surroundings. */
export interface AuthPorts {
  /** The text of the allowlist file, read anew at every call. Rejects when there is none. */
  readonly readAllowlist: () => Promise<string>;
  readonly logDecision: (event: AuthDecisionEvent) => void;
  readonly logError: (error: unknown) => void;
  readonly metrics: Metrics;
  readonly version: AppVersion;
}
