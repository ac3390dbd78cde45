import { create, type DescField, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import type { JsonValue } from "../encoding/jcs.ts";
import { AppError } from "../errors/app-error.ts";
import { EMPTY, messageFromJson } from "./json.ts";

/** serde_qs nests no deeper by default. */
const MAX_DEPTH = 5;

interface QueryNode {
  readonly values: string[];
  readonly members: Map<string, QueryNode>;
}

/**
 * Reads the arguments of a GET request: `name=value`, `list[0]=a&list[1]=b` (also `list[]=a` and
 * `list=a&list=b`), `outer[inner]=value`. Unknown names are ignored. Throws `input/malformed`.
 */
export function decodeQuery<D extends DescMessage>(schema: D, query: string): MessageShape<D> {
  if (schema.typeName === EMPTY) return create(schema);
  const root: QueryNode = { values: [], members: new Map() };
  for (const [key, value] of new URLSearchParams(query)) {
    const path = pathOf(key);
    if (path === undefined || !schema.fields.some((field) => field.name === path[0])) continue;
    let node = root;
    for (const name of path) {
      let next = node.members.get(name);
      if (next === undefined) node.members.set(name, next = { values: [], members: new Map() });
      node = next;
    }
    node.values.push(value);
  }
  return messageFromJson(schema, objectFrom(schema, root));
}

function pathOf(key: string): string[] | undefined {
  const match = /^([^[\]]+)((?:\[[^[\]]*\])*)$/.exec(key);
  if (match === null) return undefined;
  const path = [match[1]!, ...match[2]!.split(/\]?\[|\]/).slice(1, -1)];
  if (path.length > MAX_DEPTH) {
    throw new AppError("input/malformed", `Cannot parse query: nested deeper than ${MAX_DEPTH}`);
  }
  return path;
}

function objectFrom(schema: DescMessage, node: QueryNode): JsonValue {
  return Object.fromEntries(schema.fields.flatMap((field) => {
    const member = node.members.get(field.name);
    return member === undefined ? [] : [[field.name, valueFrom(field, member)]];
  }));
}

function valueFrom(field: DescField, node: QueryNode): JsonValue {
  if (field.fieldKind === "list") {
    const indexed = [...node.members].filter(([name]) => name !== "")
      .sort(([a], [b]) => Number(a) - Number(b)).map(([, member]) => member);
    const pushed = [...node.values, ...(node.members.get("")?.values ?? [])];
    return [...pushed, ...indexed.map((item) => elementFrom(field.message, item, field.name))];
  }
  if (field.fieldKind === "map") {
    return Object.fromEntries(
      [...node.members].map((
        [key, member],
      ) => [key, elementFrom(field.message, member, field.name)]),
    );
  }
  return elementFrom(field.message, node, field.name);
}

function elementFrom(message: DescMessage | undefined, node: QueryNode, name: string): JsonValue {
  if (message !== undefined) return objectFrom(message, node);
  const [value, ...more] = node.values;
  if (value === undefined || more.length > 0) {
    throw new AppError("input/malformed", `Cannot parse query: ${name} needs one value`);
  }
  return value;
}
