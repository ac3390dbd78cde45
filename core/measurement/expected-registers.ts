import { ByteWriter } from "../bytes/byte-writer.ts";
import { concatBytes, utf8 } from "../bytes/bytes.ts";
import { AppError } from "../errors/app-error.ts";
import { ACPI_LABELS, type AcpiDigests, type TdxEvent } from "../event-log/tdx-event.ts";
import { replayDigests } from "../event-log/replay.ts";
import {
  BOOT_0000,
  BOOT_ORDER,
  CALLING_EFI_APPLICATION,
  type ConstantEvent,
  EMPTY_CFV_SHA384,
  EVENT_TYPE,
  EXIT_BOOT_SERVICES,
  EXITED_BOOT_SERVICES,
  guid,
  INITRD_TAG,
  LOAD_OPTIONS_TAG,
  SECURE_BOOT_EVENTS,
  SEPARATOR,
  utf16le,
} from "./efi-constants.ts";
import { HIGH_MEMORY_THRESHOLD, tdHobDigest } from "./td-hob.ts";
import type { TdxMeasurementDocument } from "./tdx-measurement-document.ts";

/** A boot event with the name measurement tools give it (spec/attestation.md 5.8). */
export interface ExpectedEvent extends TdxEvent {
  readonly label: string;
}

export interface ExpectedRegisters {
  readonly mrTd: Uint8Array;
  /** RTMR0, RTMR1, RTMR2 when the kernel starts. 48 bytes each. */
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array];
  /** Every boot event in the order of a real log; replaying them yields `rtmrs`. */
  readonly events: readonly ExpectedEvent[];
  /** The 13 events of RTMR0. */
  readonly rtmr0Events: readonly ExpectedEvent[];
}

/** The shape of a VM as far as it changes registers. */
export interface VmShape {
  readonly memoryBytes: number;
  /** QEMU adds all pages of a section before it measures them: see `usesTwoPass`. */
  readonly twoPass: boolean;
  readonly acpiDigests: AcpiDigests;
}

/** The only memory sizes for which one kernel digest holds (spec/attestation.md 5.5). */
export function supportsLiteMeasurement(memoryBytes: number): boolean {
  return memoryBytes === 0x8000_0000 || memoryBytes >= HIGH_MEMORY_THRESHOLD;
}

/**
 * MRTD and RTMR0-2 of an image, from its measurement document alone. Throws `measurement/unsupported`
 * for a memory size the document does not cover.
 */
export function expectedTdxRegisters(
  input: VmShape & { readonly document: TdxMeasurementDocument },
): ExpectedRegisters {
  if (!supportsLiteMeasurement(input.memoryBytes)) {
    throw new AppError(
      "measurement/unsupported",
      `A measurement document covers exactly 2 GiB of memory or 2816 MiB and more, not ${
        input.memoryBytes / 2 ** 20
      } MiB`,
    );
  }
  return registersOf(input.document, input);
}

/** As `expectedTdxRegisters`; the caller vouches that the kernel digest is the one for this memory size. */
export function registersOf(document: TdxMeasurementDocument, shape: VmShape): ExpectedRegisters {
  const events = bootEvents(document, shape);
  const register = (imr: number) =>
    replayDigests(events.filter((event) => event.imr === imr).map((event) => event.digest));
  return {
    mrTd: shape.twoPass ? document.mrTd.twoPass : document.mrTd.singlePass,
    rtmrs: [register(0), register(1), register(2)],
    events,
    rtmr0Events: events.filter((event) => event.imr === 0),
  };
}

/** In the order a log shows them: BootOrder and Boot0000 come after the kernel was loaded. */
function bootEvents(document: TdxMeasurementDocument, shape: VmShape): ExpectedEvent[] {
  const { image, acceptedMemory } = document;
  const acpi = shape.acpiDigests;
  return [
    event(0, {
      label: "td_hob",
      eventType: EVENT_TYPE.efiHandoffTables2,
      payload: handoffTablePayload(acceptedMemory.hobAddress),
      digest: tdHobDigest(acceptedMemory, shape.memoryBytes),
    }),
    event(0, {
      label: "cfv_image",
      eventType: EVENT_TYPE.efiPlatformFirmwareBlob2,
      payload: CFV_PAYLOAD,
      digest: EMPTY_CFV_SHA384,
    }),
    ...SECURE_BOOT_EVENTS.map((variable) => event(0, variable)),
    event(0, SEPARATOR),
    acpiEvent("acpi_loader", ACPI_LABELS[0], acpi.loader),
    acpiEvent("acpi_rsdp", ACPI_LABELS[1], acpi.rsdp),
    acpiEvent("acpi_tables", ACPI_LABELS[2], acpi.tables),
    event(1, {
      label: "kernel",
      eventType: EVENT_TYPE.efiBootServicesApplication,
      payload: KERNEL_PAYLOAD,
      digest: image.kernelAuthenticode,
    }),
    event(0, BOOT_ORDER),
    event(0, BOOT_0000),
    event(1, CALLING_EFI_APPLICATION),
    event(1, SEPARATOR),
    event(2, {
      label: "cmdline",
      eventType: EVENT_TYPE.eventTag,
      payload: LOAD_OPTIONS_TAG,
      digest: image.cmdlineSha384,
    }),
    event(2, {
      label: "initrd",
      eventType: EVENT_TYPE.eventTag,
      payload: INITRD_TAG,
      digest: image.initrdSha384,
    }),
    event(1, EXIT_BOOT_SERVICES),
    event(1, EXITED_BOOT_SERVICES),
  ];
}

function event(imr: number, constant: ConstantEvent, name = ""): ExpectedEvent {
  return { ...constant, imr, event: name, version: 1 };
}

function acpiEvent(label: string, name: string, digest: Uint8Array): ExpectedEvent {
  if (digest.length !== 48) throw new TypeError(`The ${label} digest must be 48 bytes`);
  const marker = {
    label,
    eventType: EVENT_TYPE.platformConfigFlags,
    payload: utf8("ACPI DATA"),
    digest,
  };
  return event(0, marker, name);
}

/** UEFI_HANDOFF_TABLE_POINTERS2 with one table, the TD HOB. */
function handoffTablePayload(hobAddress: number): Uint8Array {
  return new ByteWriter().u8(9).utf8("TdxTable\0").u64le(1n)
    .bytes(guid("93bb96af-b9f2-4eb8-9462-e0ba74564236")).u64le(BigInt(hobAddress)).finish();
}

/** UEFI_PLATFORM_FIRMWARE_BLOB2 of the configuration volume: 0x84000 bytes at 0xffc00000. */
const CFV_PAYLOAD = new ByteWriter().u8(41).utf8("Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0")
  .u64le(0xffc0_0000n).u64le(0x8_4000n).finish();

/** UEFI_IMAGE_LOAD_EVENT; where the kernel was loaded is not predictable, so address and size are 0. */
const KERNEL_PAYLOAD = (() => {
  const path = concatBytes(
    Uint8Array.of(4, 3, 20, 0), // vendor media: QEMU's kernel loader
    guid("1428f772-b64a-441e-b8c3-9ebdd7f893c7"),
    Uint8Array.of(4, 4, 18, 0), // file path
    utf16le("kernel\0"),
    Uint8Array.of(0x7f, 0xff, 4, 0), // end of path
  );
  return new ByteWriter().zeros(24).u64le(BigInt(path.length)).bytes(path).finish();
})();
