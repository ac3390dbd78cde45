import type { TdxEvent } from "../event-log/tdx-event.ts";
import type { ExpectedEvent } from "../measurement/expected-registers.ts";
import type { VmConfig } from "../measurement/vm-config.ts";

/** Registers an image must yield, 48 bytes each. */
export interface ReferenceRegisters {
  readonly mrTd: Uint8Array;
  /** RTMR0, RTMR1, RTMR2. */
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array];
  /** The boot events behind RTMR0-2, for whoever looks for the one that differs. */
  readonly events?: readonly ExpectedEvent[];
  /** What the manifest of an image says that was at hand. */
  readonly image?: { readonly version: string; readonly isDev: boolean };
}

/**
 * What the relying party expects. Absent members are not compared: their checks say not-checked, and
 * the verdict's identity tells what the evidence holds instead.
 */
export interface Reference {
  /** SHA-256 of sha256sum.txt of the images that may run; 32 bytes each. */
  readonly osImageHashes?: readonly Uint8Array[];
  readonly composeHash?: Uint8Array;
  readonly appId?: Uint8Array;
  readonly instanceId?: Uint8Array;
  /** `id` is the hex of the event; absent accepts any provider of that name. */
  readonly keyProvider?: { readonly name: string; readonly id?: string };
  /** The MrConfigV3 document, as received, when the configuration does not carry it. */
  readonly mrConfigDocument?: Uint8Array;
  /**
   * Registers of a VM whose configuration has no measurement document inside (variant `legacy`), for
   * callers that hold the image. Undefined when they do not know it. Asked for genuine evidence alone.
   */
  readonly registersOf?: (
    config: VmConfig,
    bootLog: readonly TdxEvent[],
  ) => Promise<ReferenceRegisters | undefined>;
}
