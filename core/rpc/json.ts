import {
  create,
  type DescField,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import { reflect, type ReflectMessage, type ScalarValue } from "@bufbuild/protobuf/reflect";
import { fromHex, toHex } from "../bytes/bytes.ts";
import type { JsonValue } from "../encoding/jcs.ts";
import { parseStrictJson } from "../encoding/strict-json.ts";
import { AppError } from "../errors/app-error.ts";

/**
 * The JSON form of pRPC messages. It is not protobuf's own: names are those of the .proto file, bytes
 * are lower-case hex, 64-bit integers are numbers, and every field is written, absent ones as null.
 */

export const EMPTY = "google.protobuf.Empty";
/** FeatureSet.FieldPresence.IMPLICIT: proto3 fields without `optional`. */
const IMPLICIT_PRESENCE = 2;

type JsonObject = { [key: string]: JsonValue };

export function messageToJson<D extends DescMessage>(
  schema: D,
  message: MessageShape<D>,
): JsonValue {
  return reflectedToJson(reflect(schema, message));
}

function reflectedToJson(message: ReflectMessage): JsonValue {
  if (message.desc.typeName === EMPTY) return null;
  const json: JsonObject = {};
  for (const field of message.sortedFields) {
    if (!message.isSet(field)) {
      if (isOmittedWhenEmpty(field)) continue;
      if (isNullable(field)) {
        json[field.name] = null;
        continue;
      }
    }
    json[field.name] = fieldToJson(message, field);
  }
  return json;
}

/** Fields that are null in JSON when they are not set: messages and those marked `optional`. */
export function isNullable(field: DescField): boolean {
  return field.fieldKind === "message" ||
    field.fieldKind === "scalar" && field.presence !== IMPLICIT_PRESENCE;
}

/** The one field the reference leaves out of JSON when it is empty. */
export function isOmittedWhenEmpty(field: DescField): boolean {
  return field.name === "attestation" && field.parent.typeName === "dstack_guest.GetQuoteResponse";
}

function fieldToJson(message: ReflectMessage, field: DescField): JsonValue {
  switch (field.fieldKind) {
    case "message":
      return reflectedToJson(message.get(field));
    case "scalar":
      return scalarToJson(message.get(field));
    case "list":
      return Array.from(message.get(field), (item) => elementToJson(field, item));
    case "map":
      return Object.fromEntries(
        Array.from(message.get(field), ([key, item]) => [String(key), elementToJson(field, item)]),
      );
    case "enum":
      throw new TypeError(`${field} is an enum; no dstack service has one`);
  }
}

function elementToJson(field: DescField & { fieldKind: "list" | "map" }, item: unknown): JsonValue {
  const kind = field.fieldKind === "list" ? field.listKind : field.mapKind;
  if (kind === "message") return reflectedToJson(item as ReflectMessage);
  if (kind === "scalar") return scalarToJson(item as ScalarValue);
  throw new TypeError(`${field} holds enums; no dstack service has one`);
}

function scalarToJson(value: ScalarValue): JsonValue {
  if (value instanceof Uint8Array) return toHex(value);
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

export function encodeJson<D extends DescMessage>(schema: D, message: MessageShape<D>): string {
  return jsonText(messageToJson(schema, message));
}

/** JSON.stringify for values that may hold a `bigint`. */
function jsonText(value: JsonValue): string {
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(jsonText).join(",")}]`;
  const members = Object.entries(value).flatMap(([key, member]) =>
    member === undefined ? [] : [`${JSON.stringify(key)}:${jsonText(member)}`]
  );
  return `{${members.join(",")}}`;
}

/** For clients that count characters where bytes count: JSON text that is ASCII throughout. */
export function escapeNonAscii(json: string): string {
  return json.replaceAll(
    /[\u0080-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Reads a JSON body. Lenient as the reference's clients need it: unknown members are ignored, missing
 * ones and null are the default, hex may begin with 0x, integers may be decimal text, and an empty
 * body is an empty message. Throws `input/malformed`.
 */
export function decodeJson<D extends DescMessage>(
  schema: D,
  body: Uint8Array | string,
  maxSize: number,
): MessageShape<D> {
  if (schema.typeName === EMPTY || body.length === 0) return create(schema);
  const value = parseStrictJson(body, schema.typeName, { maxSize, exactIntegers: true });
  return messageFromJson(schema, value);
}

export function messageFromJson<D extends DescMessage>(
  schema: D,
  value: JsonValue,
): MessageShape<D> {
  return create(schema, initFromJson(schema, value, schema.typeName) as MessageInitShape<D>);
}

function initFromJson(schema: DescMessage, value: JsonValue, at: string): Record<string, unknown> {
  if (schema.typeName === EMPTY || value === null) return {};
  const json = objectOf(value, at);
  const init: Record<string, unknown> = {};
  for (const field of schema.fields) {
    const member = Object.hasOwn(json, field.name) ? json[field.name] : undefined;
    if (member === undefined || member === null) continue;
    init[field.localName] = fieldFromJson(field, member, `${at}.${field.name}`);
  }
  return init;
}

function fieldFromJson(field: DescField, value: JsonValue, at: string): unknown {
  switch (field.fieldKind) {
    case "message":
      return initFromJson(field.message, value, at);
    case "scalar":
      return scalarFromJson(field.scalar, value, at);
    case "list":
      if (!Array.isArray(value)) throw malformed(at, "is not an array");
      return value.map((item: JsonValue, i) => elementFromJson(field, item, `${at}[${i}]`));
    case "map":
      return Object.fromEntries(
        Object.entries(objectOf(value, at)).map(([key, item]) => [
          String(scalarFromJson(field.mapKey, key, `${at} key`)),
          elementFromJson(field, item ?? null, `${at}["${key}"]`),
        ]),
      );
    case "enum":
      throw new TypeError(`${field} is an enum; no dstack service has one`);
  }
}

function elementFromJson(
  field: DescField & { fieldKind: "list" | "map" },
  value: JsonValue,
  at: string,
): unknown {
  if (field.message !== undefined) return initFromJson(field.message, value, at);
  if (field.scalar !== undefined) return scalarFromJson(field.scalar, value, at);
  throw new TypeError(`${field} holds enums; no dstack service has one`);
}

function objectOf(value: JsonValue, at: string): { readonly [key: string]: JsonValue | undefined } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw malformed(at, "is not an object");
  }
  return value as { readonly [key: string]: JsonValue | undefined };
}

const INTEGER_RANGES: { readonly [type in ScalarType]?: readonly [bigint, bigint] } = {
  [ScalarType.UINT32]: [0n, 2n ** 32n - 1n],
  [ScalarType.INT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.UINT64]: [0n, 2n ** 64n - 1n],
  [ScalarType.INT64]: [-(2n ** 63n), 2n ** 63n - 1n],
};

function scalarFromJson(type: ScalarType, value: JsonValue, at: string): ScalarValue {
  const range = INTEGER_RANGES[type];
  if (range !== undefined) {
    const integer = integerOf(value);
    if (integer === undefined) throw malformed(at, "is not an integer");
    if (integer < range[0] || integer > range[1]) throw malformed(at, "is out of range");
    return type === ScalarType.UINT64 || type === ScalarType.INT64 ? integer : Number(integer);
  }
  if (type === ScalarType.BOOL) {
    if (value === true || value === "true") return true;
    if (value === false || value === "false") return false;
    throw malformed(at, "is not a boolean");
  }
  if (typeof value !== "string") throw malformed(at, "is not a string");
  if (type === ScalarType.BYTES) return fromHex(value, at);
  if (type !== ScalarType.STRING) throw new TypeError(`${at} has an unsupported type`);
  if (!value.isWellFormed()) throw malformed(at, "holds a lone surrogate");
  return value;
}

function integerOf(value: JsonValue): bigint | undefined {
  if (typeof value === "bigint") return value;
  if (typeof value === "number") return Number.isInteger(value) ? BigInt(value) : undefined;
  return typeof value === "string" && /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}

function malformed(at: string, why: string): AppError {
  return new AppError("input/malformed", `Cannot parse ${at}: ${why}`);
}
