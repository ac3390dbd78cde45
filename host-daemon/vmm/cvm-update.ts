import type { NetworkRequest } from "./cvm-request.ts";
import type { PortRequest } from "./port-mapping.ts";

/** `vmm.UpdateVmRequest`; what is undefined or empty stays as it is. */
export interface CvmUpdate {
  readonly composeFile: string;
  readonly encryptedEnv: Uint8Array;
  readonly userConfig: string;
  readonly vcpu?: number | undefined;
  /** MiB. */
  readonly memory?: number | undefined;
  /** GiB. */
  readonly diskSize?: number | undefined;
  readonly image?: string | undefined;
  readonly noTee?: boolean | undefined;
  /** A list replaces the old one, also an empty list. */
  readonly ports?: readonly PortRequest[] | undefined;
  readonly kmsUrls?: readonly string[] | undefined;
  readonly gatewayUrls?: readonly string[] | undefined;
  readonly networks?: readonly NetworkRequest[] | undefined;
}
