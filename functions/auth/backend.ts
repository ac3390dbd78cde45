import type { BootInfo } from "./boot-info.ts";

export type BootRole = "app" | "kms";

/** What a backend says about one boot. */
export interface BackendDecision {
  readonly isAllowed: boolean;
  readonly gatewayAppId: string;
  /** In the reference's words; empty when allowed. */
  readonly reason: string;
  /** What decided: the allowlist, a contract. */
  readonly rule: string;
  /** What its operator can do about a denial. Names nothing but what the caller sent. */
  readonly remedy?: string;
  /** Where an on-chain answer was read; hash with 0x. */
  readonly block?: { readonly number: number; readonly hash: string };
}

/** What a KMS shows about its authorisation. */
export interface BackendInfo {
  readonly kmsContractAddr: string;
  readonly ethRpcUrl: string;
  readonly gatewayAppId: string;
  readonly chainId: number;
  readonly appImplementation: string;
}

/** Who decides about boots. Any throw is a denial. */
export interface AuthBackend {
  /** `simple`, `chain`, `mock`. */
  readonly name: string;
  readonly decide: (role: BootRole, boot: BootInfo) => Promise<BackendDecision>;
  /** Rejects while nothing could be decided. */
  readonly info: () => Promise<BackendInfo>;
}
