import { type DescField, type DescMessage, type DescService, ScalarType } from "@bufbuild/protobuf";
import { COMMENTS } from "./gen/comments.ts";
import { EMPTY, isNullable, isOmittedWhenEmpty } from "./json.ts";

type Schema = { readonly [keyword: string]: unknown };

export interface OpenApiFragment {
  readonly paths: Readonly<Record<string, unknown>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
}

export interface PrpcMount {
  readonly service: DescService;
  /** Where prpcRoutes() is mounted: `/prpc`. */
  readonly path: string;
  /** Methods served, as in the .proto file; default all of them. */
  readonly methods?: readonly string[];
}

const ERROR_SCHEMA: Schema = {
  type: "object",
  required: ["error"],
  properties: { error: { type: "string", description: "Causes joined by `: `, outermost first" } },
};

/**
 * The OpenAPI 3.1 form of pRPC services in JSON mode. Answers hold every field, requests need none;
 * a message that occurs in both has two schemas, the request's named `<message>Input`.
 */
export function prpcOpenApi(mounts: readonly PrpcMount[]): OpenApiFragment {
  const methods = mounts.flatMap(({ service, path, methods }) =>
    service.methods.filter((method) => methods?.includes(method.name) ?? true)
      .map((method) => ({ service, path, method }))
  );
  const answers = reachable(methods.map(({ method }) => method.output));
  const requests = reachable(methods.map(({ method }) => method.input));
  const requestName = (message: DescMessage) =>
    answers.has(message) ? `${message.typeName}Input` : message.typeName;
  const answerName = (message: DescMessage) => message.typeName;

  const schemas: Record<string, Schema> = { RpcError: ERROR_SCHEMA };
  for (const message of answers) {
    const required = message.fields.filter((field) => !isOmittedWhenEmpty(field)).map(({ name }) =>
      name
    );
    schemas[answerName(message)] = { ...objectSchema(message, answerName), required };
  }
  for (const message of requests) {
    schemas[requestName(message)] = objectSchema(message, requestName);
  }

  const paths: Record<string, unknown> = {};
  for (const { service, path, method } of methods) {
    const summary = COMMENTS[`${service.typeName}.${method.name}`];
    const isEmptyRequest = method.input.typeName === EMPTY;
    const isEmptyAnswer = method.output.typeName === EMPTY;
    paths[`${path}/${method.name}`] = {
      post: {
        operationId: `${service.typeName.replaceAll(".", "_")}_${method.name}`,
        tags: [service.name],
        ...summary !== undefined && { summary },
        ...!isEmptyRequest && {
          requestBody: { required: true, content: json(ref(requestName(method.input))) },
        },
        responses: {
          200: {
            description: "Done",
            content: json(isEmptyAnswer ? { type: "null" } : ref(answerName(method.output))),
          },
          400: { description: "Refused or failed", content: json(ref("RpcError")) },
        },
      },
    };
  }
  return { paths, components: { schemas } };
}

/** Messages in or below `roots`; none of them refers to itself. */
function reachable(roots: readonly DescMessage[]): Set<DescMessage> {
  const found = new Set<DescMessage>();
  const visit = (message: DescMessage) => {
    if (message.typeName === EMPTY || found.has(message)) return;
    found.add(message);
    for (const field of message.fields) if (field.message !== undefined) visit(field.message);
  };
  roots.forEach(visit);
  return found;
}

function objectSchema(message: DescMessage, nameOf: (message: DescMessage) => string): Schema {
  return {
    type: "object",
    properties: Object.fromEntries(message.fields.map((field) => {
      const description = COMMENTS[`${message.typeName}.${field.name}`];
      const schema = fieldSchema(field, nameOf);
      return [field.name, description === undefined ? schema : { ...schema, description }];
    })),
  };
}

function fieldSchema(field: DescField, nameOf: (message: DescMessage) => string): Schema {
  const value = field.message === undefined
    ? scalarSchema(field.scalar!)
    : ref(nameOf(field.message));
  if (field.fieldKind === "list") return { type: "array", items: value };
  if (field.fieldKind === "map") return { type: "object", additionalProperties: value };
  return isNullable(field) ? { anyOf: [value, { type: "null" }] } : value;
}

const SCALAR_SCHEMAS: { readonly [type in ScalarType]?: Schema } = {
  [ScalarType.STRING]: { type: "string" },
  [ScalarType.BOOL]: { type: "boolean" },
  [ScalarType.BYTES]: { type: "string", format: "hex", pattern: "^([0-9a-f]{2})*$" },
  [ScalarType.UINT32]: { type: "integer", format: "uint32", minimum: 0 },
  [ScalarType.INT32]: { type: "integer", format: "int32" },
  [ScalarType.UINT64]: { type: "integer", format: "uint64", minimum: 0 },
  [ScalarType.INT64]: { type: "integer", format: "int64" },
};

function scalarSchema(type: ScalarType): Schema {
  const schema = SCALAR_SCHEMAS[type];
  if (schema === undefined) throw new TypeError(`No dstack service has scalar type ${type}`);
  return schema;
}

function ref(name: string): Schema {
  return { $ref: `#/components/schemas/${name}` };
}

function json(schema: Schema): Schema {
  return { "application/json": { schema } };
}

/** Adds paths and schemas to a document; a path or schema defined twice is a mistake. */
export function mergeOpenApi<D extends object>(
  document: D & { readonly paths?: object; readonly components?: object },
  ...fragments: readonly {
    readonly paths: object;
    readonly components?: { readonly schemas?: object };
  }[]
): D {
  const paths: Record<string, unknown> = { ...document.paths };
  const base: { readonly schemas?: object } = document.components ?? {};
  const schemas: Record<string, unknown> = { ...base.schemas };
  for (const fragment of fragments) {
    addAll(paths, fragment.paths);
    addAll(schemas, fragment.components?.schemas ?? {});
  }
  return { ...document, paths, components: { ...base, schemas } };
}

function addAll(target: Record<string, unknown>, more: object): void {
  for (const [name, value] of Object.entries(more)) {
    if (name in target && JSON.stringify(target[name]) !== JSON.stringify(value)) {
      throw new TypeError(`OpenAPI document defines ${name} twice`);
    }
    target[name] = value;
  }
}
