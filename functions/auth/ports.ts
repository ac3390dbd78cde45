import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { AuthBackend, BootRole } from "./backend.ts";
import type { BootDecision, BootInfo } from "./boot-info.ts";

export interface AuthDecisionEvent {
  readonly role: BootRole;
  readonly boot: BootInfo;
  readonly decision: BootDecision;
  /** Of the request that the KMS decides about: W3C trace id, 32 hex digits. */
  readonly traceId: string | undefined;
}

/** What the authorisation service needs from its surroundings. */
export interface AuthPorts {
  readonly backend: AuthBackend;
  readonly logDecision: (event: AuthDecisionEvent) => void;
  readonly logError: (error: unknown) => void;
  readonly metrics: Metrics;
  readonly version: AppVersion;
}
