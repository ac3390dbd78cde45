import { ratlsReportData } from "#core/attestation/report-data.ts";
import {
  attestationOfTdxGuest,
  encodeAttestation,
  stripAttestation,
} from "#core/attestation/versioned-attestation.ts";
import type { Attestation } from "#core/attestation/attestation.ts";
import { isRuntimeEvent } from "#core/event-log/tdx-event.ts";
import type { Tee } from "./tee.ts";

/** Evidence over 64 bytes of report data with the full event log. `vmConfig`: the host's text. */
export async function attest(
  tee: Tee,
  reportData: Uint8Array,
  vmConfig: string,
): Promise<Attestation> {
  const [eventLog, runtimeEvents] = await Promise.all([tee.eventLog(), tee.runtimeEvents()]);
  return attestationOfTdxGuest({
    quote: await tee.quote(reportData),
    reportData,
    bootLog: eventLog.filter((event) => !isRuntimeEvent(event)),
    runtimeEvents,
    config: vmConfig,
  });
}

/** The attestation that certificates and requests carry: bound to a public key (DER SPKI), stripped. */
export async function attestPublicKey(
  tee: Tee,
  spki: Uint8Array,
  vmConfig: string,
): Promise<Uint8Array> {
  return encodeAttestation(stripAttestation(await attest(tee, ratlsReportData(spki), vmConfig)));
}
