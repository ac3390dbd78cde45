import { JsonObject } from "../encoding/json-object.ts";
import { parseRfc3339 } from "../encoding/rfc3339.ts";
import type { TcbStatus, TcbVerdict } from "./tcb-status.ts";
import { TCB_STATUSES } from "./tcb-status.ts";

/** Reads what TCB info and QE identity have in common (Intel PCS API v4). */

const RFC3339_UTC = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/;
const MAX_ADVISORIES = 1024;
const MAX_LEVELS = 1024;

/** An RFC 3339 time with seconds, in UTC; answers unix seconds. */
export function readSeconds(json: JsonObject, name: string): number {
  const text = json.string(name);
  if (!RFC3339_UTC.test(text)) throw json.malformed(name, "is not a UTC time");
  return parseRfc3339(text, name).getTime() / 1000;
}

/** The members of a TCB level that are not its `tcb`. */
export function readTcbVerdict(level: JsonObject): TcbVerdict {
  readSeconds(level, "tcbDate");
  const advisoryIds = level.has("advisoryIDs") ? level.strings("advisoryIDs") : [];
  if (advisoryIds.length > MAX_ADVISORIES) throw level.malformed("advisoryIDs", "are too many");
  return {
    status: level.oneOf<TcbStatus>("tcbStatus", TCB_STATUSES),
    advisoryIds,
    date: level.string("tcbDate"),
  };
}

export function readLevels<T>(
  json: JsonObject,
  structure: string,
  read: (level: JsonObject, tcb: JsonObject) => T,
): T[] {
  const levels = json.array("tcbLevels");
  if (levels.length > MAX_LEVELS) throw json.malformed("tcbLevels", "are too many");
  return levels.map((value) => {
    const level = new JsonObject(value, structure);
    return read(level, new JsonObject(level.raw("tcb"), `${structure}.tcb`));
  });
}
