import type { Verdict } from "#core/attestation/verdict.ts";
import type { Subtree } from "#core/crypto/merkle-tree.ts";
import type { PublicPointOf } from "#core/crypto/p256.ts";
import type { Metrics } from "#core/http/metrics.ts";
import type { AppVersion } from "#core/http/operations.ts";
import type { BoundEvidence } from "#core/ra-tls/peer.ts";
import type { DecisionFilter, KmsDecision, NewDecision } from "#functions/db/kms-decisions.ts";
import type { LogHead } from "#functions/db/release-log.ts";
import type { RootEpochs } from "./epochs.ts";
import type { AuthApi, BootRole } from "./auth-api.ts";
import type { Limits } from "./limits.ts";
import type { BootstrapInfo, KmsIdentity } from "./key-store.ts";

/**
 * Which measurements make up the identity: all runtime events, or those up to `boot-mr-done`
 * (certificates outlive a boot, so their holder is judged by what booted).
 */
export type MeasurementScope = "runtime" | "boot-time";

export interface AppraisalRequest extends BoundEvidence {
  /** The VM configuration to measure against; empty: the one inside the attestation. */
  readonly vmConfig: string;
  /** What the caller wants to be. */
  readonly role: BootRole;
  readonly scope: MeasurementScope;
}

/** Verifies evidence. Refused evidence is a verdict; unreadable input or missing collateral throws. */
export type Appraise = (request: AppraisalRequest) => Promise<Verdict>;

/** The CVM this KMS runs in. */
export interface SelfAttestation {
  /** Versioned attestation binding 64 bytes of report data. */
  readonly attest: (reportData: Uint8Array) => Promise<Uint8Array>;
  readonly vmConfig: () => Promise<string>;
}

/** The release log (functions/db/release-log.ts). */
export interface DecisionStore {
  /** Resolves with the row's id once it is stored for good. */
  readonly append: (decision: NewDecision) => Promise<number>;
  readonly list: (filter: DecisionFilter) => Promise<KmsDecision[]>;
  readonly currentHead: () => Promise<LogHead>;
  /** From leaf `start`, which counts from 0. */
  readonly leafHashes: (start: number, limit: number) => Promise<Uint8Array[]>;
  readonly subtree: Subtree;
  readonly root: (size: number) => Promise<Uint8Array>;
}

export interface KmsLog {
  readonly decision: (decision: KmsDecision) => void;
  /** `what` failed; the request it failed in goes on or was answered. */
  readonly error: (what: string, error: unknown) => void;
}

/** What the KMS may do (kms.md 9); names are those of kms.toml. */
export interface KmsPolicy {
  readonly enforceSelfAuthorization: boolean;
  readonly sevSnpKeyRelease: boolean;
  readonly awsNitroTpmKeyRelease: boolean;
  /** auth_api.type is `dev`: shown in GetMeta. */
  readonly isDev: boolean;
  readonly siteName: string;
}

/** What a KMS needs to decide about boots. */
export interface DecidingPorts {
  readonly now: () => Date;
  readonly appraise: Appraise;
  readonly authApi: AuthApi;
  readonly decisions: DecisionStore;
  readonly log: KmsLog;
  readonly policy: KmsPolicy;
  readonly limits: Limits;
  /** Absent where the KMS does not run in a CVM. */
  readonly self?: SelfAttestation | undefined;
}

/** What a KMS that holds keys needs. */
export interface KmsPorts extends DecidingPorts {
  readonly identity: KmsIdentity;
  readonly epochs: RootEpochs;
  /** The runtime's own, where it is faster than the default. */
  readonly publicPointOf?: PublicPointOf | undefined;
  readonly bootstrapInfo: () => Promise<BootstrapInfo | undefined>;
  readonly metrics: Metrics;
  readonly version: AppVersion;
}
