import type { ByteReader } from "../bytes/byte-reader.ts";
import { ByteWriter } from "../bytes/byte-writer.ts";
import {
  readScaleBytes,
  readScaleString,
  readScaleVec,
  writeScaleBytes,
  writeScaleString,
  writeScaleVec,
} from "../encoding/scale.ts";
import type { RuntimeEvent } from "../event-log/runtime-event.ts";
import { MAX_EVENTS, type TdxEvent } from "../event-log/tdx-event.ts";
import {
  type Attestation,
  type PlatformEvidence,
  TPM_PLATFORMS,
  type TpmQuote,
} from "./attestation.ts";

/** Any run inside a container; the container itself is bounded by its reader. */
const MAX_RUN = 10 * 1024 * 1024;
const MAX_CERTIFICATES = 16;

/**
 * Reads a V0 container (SCALE, spec attestation.md 3.2) and leaves the reader behind it: a CSR has
 * one without length as its last member. Digest versions are not encoded, every event is version 1.
 */
export function readAttestationV0(r: ByteReader): Attestation {
  const version = r.u8("version");
  if (version !== 0) throw r.malformed("version", `is ${version}, expected 0`);
  const platform = readPlatform(r);
  const runtimeEvents = readScaleVec(r, "runtime events", MAX_EVENTS, readRuntimeEvent);
  const reportData = r.bytes("report data", 64);
  const config = readScaleString(r, "config", MAX_RUN);
  return { platform, stack: { kind: "dstack", reportData, runtimeEvents, config } };
}

/** Encodes as V0; what V0 cannot hold is a programmer's mistake (ask `fitsV0` first). */
export function encodeAttestationV0({ platform, stack }: Attestation): Uint8Array {
  if (stack.kind !== "dstack") throw new TypeError("V0 has no dstack-pod stack");
  const w = new ByteWriter().u8(0);
  writePlatform(w, platform);
  writeScaleVec(w, stack.runtimeEvents, (to, event) => {
    requireVersion1(event);
    writeScaleString(to, event.event);
    writeScaleBytes(to, event.payload);
  });
  w.bytes(stack.reportData);
  writeScaleString(w, stack.config);
  return w.finish();
}

function readPlatform(r: ByteReader): PlatformEvidence {
  const index = r.u8("platform");
  switch (index) {
    case 0:
      return { kind: "tdx", ...readTdxQuote(r) };
    case 1:
      return { kind: "gcp-tdx", ...readTdxQuote(r), tpmQuote: readTpmQuote(r) };
    case 2:
      return { kind: "nitro-enclave", nsmQuote: readScaleBytes(r, "NSM quote", MAX_RUN) };
    case 3:
      return {
        kind: "sev-snp",
        report: readScaleBytes(r, "SNP report", MAX_RUN),
        certChain: readScaleVec(
          r,
          "certificate chain",
          MAX_CERTIFICATES,
          (from) => readScaleBytes(from, "certificate", MAX_RUN),
        ),
        mrConfig: readScaleString(r, "mr_config", MAX_RUN),
      };
    case 4:
      return { kind: "aws-nitro-tpm", attestationDoc: readScaleBytes(r, "document", MAX_RUN) };
    default:
      throw r.malformed("platform", `has unknown index ${index}`);
  }
}

function writePlatform(w: ByteWriter, platform: PlatformEvidence): void {
  switch (platform.kind) {
    case "tdx":
      w.u8(0);
      writeTdxQuote(w, platform);
      break;
    case "gcp-tdx":
      w.u8(1);
      writeTdxQuote(w, platform);
      writeTpmQuote(w, platform.tpmQuote);
      break;
    case "nitro-enclave":
      w.u8(2);
      writeScaleBytes(w, platform.nsmQuote);
      break;
    case "sev-snp":
      w.u8(3);
      writeScaleBytes(w, platform.report);
      writeScaleVec(w, platform.certChain, writeScaleBytes);
      writeScaleString(w, platform.mrConfig);
      break;
    case "aws-nitro-tpm":
      w.u8(4);
      writeScaleBytes(w, platform.attestationDoc);
      break;
  }
}

function readTdxQuote(r: ByteReader): { quote: Uint8Array; eventLog: TdxEvent[] } {
  return {
    quote: readScaleBytes(r, "TDX quote", MAX_RUN),
    eventLog: readScaleVec(r, "event log", MAX_EVENTS, (from) => ({
      imr: from.u32le("imr"),
      eventType: from.u32le("event type"),
      digest: readScaleBytes(from, "digest", MAX_RUN),
      event: readScaleString(from, "event", MAX_RUN),
      payload: readScaleBytes(from, "event payload", MAX_RUN),
      version: 1,
    })),
  };
}

function writeTdxQuote(
  w: ByteWriter,
  { quote, eventLog }: { readonly quote: Uint8Array; readonly eventLog: readonly TdxEvent[] },
): void {
  writeScaleBytes(w, quote);
  writeScaleVec(w, eventLog, (to, event) => {
    requireVersion1(event);
    to.u32le(event.imr).u32le(event.eventType);
    writeScaleBytes(to, event.digest);
    writeScaleString(to, event.event);
    writeScaleBytes(to, event.payload);
  });
}

function readRuntimeEvent(r: ByteReader): RuntimeEvent {
  return {
    event: readScaleString(r, "runtime event", MAX_RUN),
    payload: readScaleBytes(r, "runtime event payload", MAX_RUN),
    version: 1,
  };
}

function readTpmQuote(r: ByteReader): TpmQuote {
  const message = readScaleBytes(r, "TPM message", MAX_RUN);
  const signature = readScaleBytes(r, "TPM signature", MAX_RUN);
  const pcrValues = readScaleVec(r, "PCR values", 64, (from) => ({
    index: from.u32le("PCR index"),
    algorithm: readScaleString(from, "PCR algorithm", 64),
    value: readScaleBytes(from, "PCR value", 64),
  }));
  const akCert = readScaleBytes(r, "AK certificate", MAX_RUN);
  const index = r.u8("TPM platform");
  const platform = TPM_PLATFORMS[index];
  if (platform === undefined) throw r.malformed("TPM platform", `has unknown index ${index}`);
  const eventLog = readScaleVec(r, "TPM event log", MAX_EVENTS, (from) => ({
    pcrIndex: from.u32le("PCR index"),
    digest: readScaleBytes(from, "digest", 64),
  }));
  return { message, signature, pcrValues, akCert, platform, eventLog };
}

function writeTpmQuote(w: ByteWriter, quote: TpmQuote): void {
  writeScaleBytes(w, quote.message);
  writeScaleBytes(w, quote.signature);
  writeScaleVec(w, quote.pcrValues, (to, pcr) => {
    to.u32le(pcr.index);
    writeScaleString(to, pcr.algorithm);
    writeScaleBytes(to, pcr.value);
  });
  writeScaleBytes(w, quote.akCert);
  w.u8(TPM_PLATFORMS.indexOf(quote.platform));
  writeScaleVec(w, quote.eventLog, (to, event) => {
    to.u32le(event.pcrIndex);
    writeScaleBytes(to, event.digest);
  });
}

function requireVersion1(event: { readonly version: number }): void {
  if (event.version !== 1) throw new TypeError("V0 cannot hold events of digest version 2");
}
