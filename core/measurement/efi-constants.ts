import { sha384 } from "@noble/hashes/sha2.js";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, fromHex, utf8 } from "../bytes/bytes.ts";

/** TCG event types (PC Client Platform Firmware Profile 10.4.1). */
export const EVENT_TYPE = {
  separator: 0x4,
  eventTag: 0x6,
  platformConfigFlags: 0xa,
  efiVariableDriverConfig: 0x8000_0001,
  efiVariableBoot: 0x8000_0002,
  efiBootServicesApplication: 0x8000_0003,
  efiAction: 0x8000_0007,
  efiPlatformFirmwareBlob2: 0x8000_000a,
  efiHandoffTables2: 0x8000_000b,
} as const;

/** A boot event whose digest does not depend on the image. */
export interface ConstantEvent {
  readonly label: string;
  readonly eventType: number;
  /** What the log shows beside the digest. */
  readonly payload: Uint8Array;
  readonly digest: Uint8Array;
}

const GLOBAL_VARIABLE = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const IMAGE_SECURITY = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f");

/**
 * SHA-384 of the configuration firmware volume (0x84000 bytes, no variable set) that every IntelTdx
 * build carries. Not derived here: `measureTdxImage` compares it with the firmware at hand.
 */
export const EMPTY_CFV_SHA384 = fromHex(
  "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790",
);

/** Secure boot is off and no key is enrolled: five empty variables. */
export const SECURE_BOOT_EVENTS: readonly ConstantEvent[] = [
  emptyVariable("efi:SecureBoot", GLOBAL_VARIABLE, "SecureBoot"),
  emptyVariable("efi:PK", GLOBAL_VARIABLE, "PK"),
  emptyVariable("efi:KEK", GLOBAL_VARIABLE, "KEK"),
  emptyVariable("efi:db", IMAGE_SECURITY, "db"),
  emptyVariable("efi:dbx", IMAGE_SECURITY, "dbx"),
];

export const SEPARATOR = constant("separator", EVENT_TYPE.separator, new Uint8Array(4));

/** Boot variables are hashed by content alone, not with their name as the driver configuration is. */
export const BOOT_ORDER = bootVariable("boot_order", "BootOrder", new Uint8Array(2));
export const BOOT_0000 = bootVariable("Boot0000", "Boot0000", uiAppLoadOption());

export const CALLING_EFI_APPLICATION = action("Calling EFI Application from Boot Option");
export const EXIT_BOOT_SERVICES = action("Exit Boot Services Invocation");
export const EXITED_BOOT_SERVICES = action("Exit Boot Services Returned with Success");

/** EV_EVENT_TAG payloads of the Linux EFI stub (drivers/firmware/efi/libstub). */
export const LOAD_OPTIONS_TAG = taggedEvent(0x8f3b22ed, "LOADED_IMAGE::LoadOptions");
export const INITRD_TAG = taggedEvent(0x8f3b22ec, "Linux initrd");

export function utf16le(text: string): Uint8Array {
  const w = new ByteWriter();
  for (let i = 0; i < text.length; i++) w.u16le(text.charCodeAt(i));
  return w.finish();
}

/** The binary form: the first three groups are little endian. */
export function guid(text: string): Uint8Array {
  const [a, b, c, d, e] = text.split("-").map((group) => fromHex(group)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  return concatBytes(a.toReversed(), b.toReversed(), c.toReversed(), d, e);
}

function constant(label: string, eventType: number, payload: Uint8Array): ConstantEvent {
  return { label, eventType, payload, digest: sha384(payload) };
}

function action(text: string): ConstantEvent {
  return constant(text, EVENT_TYPE.efiAction, utf8(text));
}

function emptyVariable(label: string, vendor: Uint8Array, name: string): ConstantEvent {
  return constant(
    label,
    EVENT_TYPE.efiVariableDriverConfig,
    variable(vendor, name, new Uint8Array()),
  );
}

function bootVariable(label: string, name: string, content: Uint8Array): ConstantEvent {
  return {
    label,
    eventType: EVENT_TYPE.efiVariableBoot,
    payload: variable(GLOBAL_VARIABLE, name, content),
    digest: sha384(content),
  };
}

/** UEFI_VARIABLE_DATA (PC Client Platform Firmware Profile 10.2.6). */
function variable(vendor: Uint8Array, name: string, content: Uint8Array): Uint8Array {
  return new ByteWriter().bytes(vendor).u64le(BigInt(name.length)).u64le(BigInt(content.length))
    .bytes(utf16le(name)).bytes(content).finish();
}

/** EFI_LOAD_OPTION of the boot manager menu: the application `UiApp` inside the firmware volume. */
function uiAppLoadOption(): Uint8Array {
  const path = concatBytes(
    Uint8Array.of(4, 7, 20, 0), // media device path: firmware volume
    guid("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1"),
    Uint8Array.of(4, 6, 20, 0), // media device path: file in the volume
    guid("462caa21-7614-4503-836e-8ab6f4662331"),
    Uint8Array.of(0x7f, 0xff, 4, 0), // end of path
  );
  return new ByteWriter().u32le(0x109) // active, category application, hidden
    .u16le(path.length).bytes(utf16le("UiApp\0")).bytes(path).finish();
}

function taggedEvent(id: number, text: string): Uint8Array {
  const content = utf8(text + "\0");
  return new ByteWriter().u32le(id).u32le(content.length).bytes(content).finish();
}
