import { ByteReader } from "../bytes/byte-reader.ts";
import { JsonObject } from "../encoding/json-object.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { readLevels, readSeconds, readTcbVerdict } from "./signed-json.ts";
import type { TcbVerdict } from "./tcb-status.ts";

/** What a genuine quoting enclave's report says (PCS API v4, enclave identity version 2 or 3). */
export interface QeIdentity {
  readonly id: "QE" | "TD_QE";
  /** Unix seconds. */
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly evaluationDataNumber: number;
  readonly miscSelect: number;
  readonly miscSelectMask: number;
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  /** In the order Intel lists them; the first one reached counts. */
  readonly levels: readonly (TcbVerdict & { readonly isvSvn: number })[];
}

/** Parses the signed text of a QE identity. Throws `input/malformed`. */
export function parseQeIdentity(text: string): QeIdentity {
  const json = new JsonObject(parseStrictJson(text, "QE identity"), "QE identity");
  const id = json.oneOf("id", ["QE", "TD_QE"]);
  const version = json.unsigned("version", 255);
  if (version !== 2 && !(version === 3 && id === "TD_QE")) {
    throw json.malformed("version", `${version} is unknown`);
  }
  return {
    id,
    issueDate: readSeconds(json, "issueDate"),
    nextUpdate: readSeconds(json, "nextUpdate"),
    evaluationDataNumber: json.unsigned("tcbEvaluationDataNumber", 0xffffffff),
    miscSelect: readU32(json, "miscselect"),
    miscSelectMask: readU32(json, "miscselectMask"),
    attributes: json.hex("attributes", 16),
    attributesMask: json.hex("attributesMask", 16),
    mrSigner: json.hex("mrsigner", 32),
    isvProdId: json.unsigned("isvprodid", 0xffff),
    levels: readLevels(json, "QE level", (level, tcb) => ({
      ...readTcbVerdict(level),
      isvSvn: tcb.unsigned("isvsvn", 0xffff),
    })),
  };
}

/** Four bytes as hex, in the order of memory. */
function readU32(json: JsonObject, name: string): number {
  return new ByteReader(json.hex(name, 4), name).u32le(name);
}
