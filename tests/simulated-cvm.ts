import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { utf8 } from "../core/bytes/bytes.ts";
import { mrConfigIdV1 } from "../core/compose/mr-config.ts";
import type { Attestation } from "../core/attestation/attestation.ts";
import { parseTrustAnchor, type TrustAnchor } from "../core/attestation/trust-anchor.ts";
import { attestationOfTdxGuest } from "../core/attestation/versioned-attestation.ts";
import { encodeCcel, parseCcel } from "../core/event-log/ccel.ts";
import { replayRuntimeEvents } from "../core/event-log/replay.ts";
import type { RuntimeEvent } from "../core/event-log/runtime-event.ts";
import type { AcpiDigests } from "../core/event-log/tdx-event.ts";
import { encodeAcpiBlobs } from "../core/measurement/acpi/blobs.ts";
import { acpiMachineOf } from "../core/measurement/acpi/vm-machine.ts";
import { encodeChecksumFile, osImageHash } from "../core/measurement/checksum-file.ts";
import {
  type ExpectedRegisters,
  expectedTdxRegisters,
} from "../core/measurement/expected-registers.ts";
import {
  encodeTdxMeasurementDocument,
  type TdxMeasurementDocument,
} from "../core/measurement/tdx-measurement-document.ts";
import { encodeVmConfig, type VmConfig } from "../core/measurement/vm-config.ts";
import { createSimulatedPlatform, type SimulatedPlatform } from "../core/tdx/simulated-platform.ts";

const GIB = 2 ** 30;
const digest = (text: string) => sha384(utf8(text));

/** What a test chooses about its CVM; everything else is a plausible constant. */
export interface SimulatedCvmSpec {
  readonly composeHash?: Uint8Array;
  readonly appId?: Uint8Array;
  readonly instanceId?: Uint8Array;
  readonly reportData?: Uint8Array;
  /** `boot`: as it asks for keys, before the key-provider event. */
  readonly stage?: "boot" | "running";
  /** Payload of the key-provider event. */
  readonly keyProvider?: { readonly name: string; readonly id: string };
  /** The default is version 1 for the compose hash. */
  readonly mrConfigId?: Uint8Array;
  /** 8 bytes of TDATTRIBUTES. */
  readonly tdAttributes?: Uint8Array;
  /** Takes the place of the events the guest would extend. */
  readonly events?: readonly RuntimeEvent[];
  /** MRTD, RTMR0-2 and the boot log, instead of those of a made-up image. */
  readonly registers?: ExpectedRegisters;
  /** Digests of other ACPI tables than the VM's shape yields. */
  readonly acpiDigests?: AcpiDigests;
  /** Extra members of vm_config. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly seed?: number;
}

export interface SimulatedCvm {
  readonly platform: SimulatedPlatform;
  readonly trustAnchor: TrustAnchor;
  readonly attestation: Attestation;
  readonly osImageHash: Uint8Array;
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  readonly instanceId: Uint8Array;
}

/** A CVM on a simulated TEE: evidence that the strict verification accepts under its own root. */
export function simulatedCvm(spec: SimulatedCvmSpec = {}): SimulatedCvm {
  const composeHash = spec.composeHash ?? sha256(utf8("compose"));
  const appId = spec.appId ?? composeHash.slice(0, 20);
  const instanceId = spec.instanceId ?? sha256(utf8("instance")).slice(0, 20);
  const document = encodeTdxMeasurementDocument(IMAGE);
  const checksumFile = encodeChecksumFile(new Map([["measurement.tdx.cbor", sha256(document)]]));
  const imageHash = osImageHash(checksumFile);
  const expected = spec.registers ?? expectedTdxRegisters({
    document: IMAGE,
    memoryBytes: 4 * GIB,
    twoPass: false,
    acpiDigests: spec.acpiDigests ?? ACPI_DIGESTS,
  });
  const keyProvider = spec.keyProvider ?? { name: "kms", id: "3059" };
  const event = (name: string, payload: Uint8Array | string = ""): RuntimeEvent => ({
    event: name,
    payload: typeof payload === "string" ? utf8(payload) : payload,
    version: 1,
  });
  const boot = [
    event("system-preparing"),
    event("app-id", appId),
    event("compose-hash", composeHash),
    event("instance-id", instanceId),
    event("boot-mr-done"),
  ];
  const running = [
    event("os-image-hash", imageHash),
    event("key-provider", JSON.stringify({ name: keyProvider.name, id: keyProvider.id })),
    event("storage-fs", "ext4"),
    event("system-ready"),
  ];
  const events = spec.events ?? (spec.stage === "boot" ? boot : [...boot, ...running]);
  const reportData = spec.reportData ?? new Uint8Array(64);
  const platform = createSimulatedPlatform(new Uint8Array(32).fill(spec.seed ?? 1));
  const quote = platform.signQuote({
    mrTd: expected.mrTd,
    rtmrs: [...expected.rtmrs, replayRuntimeEvents(events)],
    mrConfigId: spec.mrConfigId ?? mrConfigIdV1(composeHash),
    reportData,
    ...(spec.tdAttributes ? { tdAttributes: spec.tdAttributes } : {}),
  });
  const config = JSON.parse(encodeVmConfig({
    ...CONFIG,
    osImageHash: imageHash,
    tdxMeasurement: { checksumFile, measurement: document },
  })) as Record<string, unknown>;
  return {
    platform,
    trustAnchor: parseTrustAnchor("simulated", platform.rootCertificateDer),
    attestation: attestationOfTdxGuest({
      quote,
      reportData,
      bootLog: parseCcel(encodeCcel(expected.events)),
      runtimeEvents: events,
      config: JSON.stringify({ ...config, ...spec.config }),
    }),
    osImageHash: imageHash,
    composeHash,
    appId,
    instanceId,
  };
}

const IMAGE: TdxMeasurementDocument = {
  image: {
    cmdlineSha384: digest("console=ttyS0 dstack.tee=sim"),
    kernelAuthenticode: digest("kernel"),
    initrdSha384: digest("initrd"),
  },
  mrTd: { singlePass: digest("firmware, one pass"), twoPass: digest("firmware, two passes") },
  acceptedMemory: {
    hobAddress: 0x809000,
    ranges: [{ start: 0x800000, pages: 6 }],
  },
};

const CONFIG: VmConfig = {
  osImageHash: new Uint8Array(),
  cpuCount: 2,
  memoryBytes: 4 * GIB,
  qemuVersion: "10.0.0",
  pciHole64Size: 0,
  hugepages: false,
  numGpus: 0,
  numNvswitches: 0,
  numNics: 1,
  numVerityVolumes: 0,
  swtpm: false,
  hotplugOff: false,
  hostShareMode: "vhd",
  tdxAttestationVariant: "lite",
};

const ACPI_DIGESTS: AcpiDigests = (() => {
  const { loader, rsdp, tables } = encodeAcpiBlobs(acpiMachineOf(CONFIG));
  return { loader: sha384(loader), rsdp: sha384(rsdp), tables: sha384(tables) };
})();
