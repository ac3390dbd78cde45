import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import type { TdxEvent } from "../event-log/tdx-event.ts";

/** The names every API uses for the kinds of TEE evidence. */
export const TEE_VARIANTS = {
  "tdx": "dstack-tdx",
  "gcp-tdx": "dstack-gcp-tdx",
  "nitro-enclave": "dstack-nitro-enclave",
  "sev-snp": "dstack-amd-sev-snp",
  "aws-nitro-tpm": "dstack-aws-nitro-tpm",
} as const;

export type PlatformKind = keyof typeof TEE_VARIANTS;
export type TeeVariant = (typeof TEE_VARIANTS)[PlatformKind];

export interface TdxEvidence {
  readonly kind: "tdx";
  readonly quote: Uint8Array;
  /** Boot events of RTMR0-2 (perhaps only the ACPI ones) and runtime events of RTMR3. */
  readonly eventLog: readonly TdxEvent[];
}

export interface GcpTdxEvidence {
  readonly kind: "gcp-tdx";
  readonly quote: Uint8Array;
  readonly eventLog: readonly TdxEvent[];
  readonly tpmQuote: TpmQuote;
}

export interface NitroEnclaveEvidence {
  readonly kind: "nitro-enclave";
  readonly nsmQuote: Uint8Array;
}

export interface SevSnpEvidence {
  readonly kind: "sev-snp";
  readonly report: Uint8Array;
  readonly certChain: readonly Uint8Array[];
  /** The MrConfigV3 document, as received. */
  readonly mrConfig: string;
}

export interface AwsNitroTpmEvidence {
  readonly kind: "aws-nitro-tpm";
  readonly attestationDoc: Uint8Array;
}

/** The platform words of a TPM quote, in the order of their SCALE index. */
export const TPM_PLATFORMS = ["dstack", "gcp", "nitroenclave", "aws-ec2"] as const;

export interface TpmQuote {
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
  readonly pcrValues: readonly {
    readonly index: number;
    readonly algorithm: string;
    readonly value: Uint8Array;
  }[];
  readonly akCert: Uint8Array;
  readonly platform: (typeof TPM_PLATFORMS)[number];
  readonly eventLog: readonly { readonly pcrIndex: number; readonly digest: Uint8Array }[];
}

export type PlatformEvidence =
  | TdxEvidence
  | GcpTdxEvidence
  | NitroEnclaveEvidence
  | SevSnpEvidence
  | AwsNitroTpmEvidence;

/** What the guest adds to the hardware's evidence. */
export interface GuestStack {
  readonly kind: "dstack" | "dstack-pod";
  /** 64 bytes that the evidence must bind. */
  readonly reportData: Uint8Array;
  /** What RTMR3 (or PCR14) replays to; a list of its own beside the platform's event log. */
  readonly runtimeEvents: readonly RuntimeEvent[];
  /** The vm_config JSON text; untrusted until the measurements recompute. */
  readonly config: string;
  /** dstack-pod only: report data is app-data(sha512) of this text. */
  readonly reportDataPayload?: string;
}

/**
 * Evidence and what the guest says it means. Nothing in it is trusted before `appraise`; what a field
 * is called says what the guest claims.
 */
export interface Attestation {
  readonly platform: PlatformEvidence;
  readonly stack: GuestStack;
}
