import type { TdxEvidence } from "#core/attestation/attestation.ts";
import type { ReferenceRegisters } from "#core/attestation/reference.ts";
import { tdReportOf } from "#core/attestation/versioned-attestation.ts";
import { equalBytes, toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import { ACPI_LABELS, type TdxEvent } from "#core/event-log/tdx-event.ts";
import { encodeAcpiBlobs } from "#core/measurement/acpi/blobs.ts";
import { acpiMachineOf } from "#core/measurement/acpi/vm-machine.ts";
import type { ExpectedEvent } from "#core/measurement/expected-registers.ts";
import type { VmConfig } from "#core/measurement/vm-config.ts";
import { parseQuote } from "#core/tdx/quote.ts";

/** What `debug` adds to the reference verifier's answer (spec attestation.md 6.1). */
export interface AcpiTablesHex {
  readonly tables: string;
  readonly rsdp: string;
  readonly loader: string;
}

/** A register that is not what it should be, and its events side by side. */
export interface RegisterMismatch {
  readonly rtmr: number;
  readonly expected: string;
  readonly actual: string;
  readonly events: readonly ComparedEvent[];
  /** Of events that should be in the log and are not. */
  readonly missing_expected_digests?: readonly string[];
}

interface ComparedEvent {
  readonly index: number;
  readonly event_type: number;
  readonly event_name: string;
  readonly actual_digest: string;
  readonly expected_digest?: string;
  readonly payload_len: number;
  readonly status: "match" | "mismatch" | "extra";
}

/** Empty for a VM whose tables nobody predicts. */
export function acpiTablesOf(config: VmConfig): { readonly acpi_tables?: AcpiTablesHex } {
  try {
    const { tables, rsdp, loader } = encodeAcpiBlobs(acpiMachineOf(config));
    return { acpi_tables: { tables: toHex(tables), rsdp: toHex(rsdp), loader: toHex(loader) } };
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "measurement/unsupported") throw error;
    return {};
  }
}

/** RTMR0 to RTMR2 of the quote that are not the expected ones. */
export function registerMismatches(
  { quote, eventLog }: TdxEvidence,
  { rtmrs: expected, events = [] }: ReferenceRegisters,
): RegisterMismatch[] {
  const { rtmrs: actual } = tdReportOf(parseQuote(quote));
  const of = <T extends TdxEvent>(log: readonly T[], rtmr: number) =>
    log.filter(({ imr }) => imr === rtmr);
  return expected.flatMap((value, rtmr) =>
    equalBytes(value, actual[rtmr]!) ? [] : [{
      rtmr,
      expected: toHex(value),
      actual: toHex(actual[rtmr]!),
      ...compare(of(eventLog, rtmr), of(events, rtmr)),
    }]
  );
}

/** By name where events have one, for a stripped log holds no others of RTMR0; else by place. */
function compare(actual: readonly TdxEvent[], expected: readonly ExpectedEvent[]) {
  const isNamed = ({ event }: TdxEvent) => (ACPI_LABELS as readonly string[]).includes(event);
  const found = new Set<ExpectedEvent>();
  const events = actual.map((event, index): ComparedEvent => {
    const wanted = isNamed(event)
      ? expected.find((one) => one.event === event.event)
      : expected[index];
    if (wanted) found.add(wanted);
    const status = wanted === undefined
      ? "extra"
      : equalBytes(event.digest, wanted.digest)
      ? "match"
      : "mismatch";
    return {
      index,
      event_type: event.eventType,
      event_name: event.event,
      actual_digest: toHex(event.digest),
      ...(wanted && { expected_digest: toHex(wanted.digest) }),
      payload_len: event.payload.length,
      status,
    };
  });
  const missing = expected.filter((one) => !found.has(one)).map(({ digest }) => toHex(digest));
  return { events, ...(missing.length > 0 && { missing_expected_digests: missing }) };
}
