import type { JsonObject } from "../encoding/json-object.ts";
import { parseEventLogJson } from "../event-log/tdx-event.ts";
import type { BareQuote } from "./appraisal.ts";
import type { Attestation } from "./attestation.ts";
import { attestationFromTdxQuote, decodeAttestation } from "./versioned-attestation.ts";

/**
 * Evidence in dstack's JSON forms: `attestation` (hex of a V0 or V1 container), else `quote` with
 * `event_log` and perhaps `vm_config` as GetQuote answers them, else `quote` alone. Other members are
 * not looked at. Throws `input/malformed` or `input/unsupported`.
 */
export function evidenceOfJson(json: JsonObject): Attestation | BareQuote {
  if (json.has("attestation")) return decodeAttestation(json.hex("attestation", undefined));
  if (!json.has("quote")) throw json.malformed("attestation", "is missing, and so is quote");
  const quote = json.hex("quote", undefined);
  if (!json.has("event_log")) return { quote };
  const eventLog = parseEventLogJson(json.string("event_log"));
  return attestationFromTdxQuote(quote, eventLog, json.string("vm_config", ""));
}
