/** A guest image folder, checked: every file it names is inside it and matches its checksum list. */
export interface GuestImage {
  readonly name: string;
  /** From metadata.json, else from the folder's name. */
  readonly version: string;
  readonly sharedReadOnly: boolean;
  /** Absolute paths. */
  readonly kernel: string;
  readonly initrd: string;
  readonly rootfs: string;
  readonly firmware: string | undefined;
  readonly commandLine: string;
  readonly ovmfVariant: string | undefined;
  /** SHA-256 of sha256sum.txt, 32 bytes. */
  readonly osImageHash: Uint8Array;
  readonly checksumFile: Uint8Array;
  /** measurement.tdx.cbor, when the image has one. */
  readonly tdxMeasurement: Uint8Array | undefined;
}

/** What a list of images shows; nothing of it was verified. */
export interface ImageSummary {
  readonly name: string;
  readonly version: string;
  readonly isDev: boolean;
  /** metadata.json. */
  readonly metadata: string;
}

/** The TEE driver the measured command line selects (design section 5). */
export function teeOfCommandLine(commandLine: string): string | undefined {
  let tee: string | undefined;
  for (const word of commandLine.split(" ")) {
    if (word.startsWith("dstack.tee=")) tee = word.slice("dstack.tee=".length);
  }
  return tee;
}
