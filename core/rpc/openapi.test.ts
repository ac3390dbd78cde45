import assert from "node:assert/strict";
import { test } from "node:test";
import { DstackGuest } from "./gen/agent_pb.ts";
import { Gateway, GatewayAdmin } from "./gen/gateway_pb.ts";
import { KMS } from "./gen/kms_pb.ts";
import { Vmm } from "./gen/vmm_pb.ts";
import { mergeOpenApi, prpcOpenApi } from "./openapi.ts";

const vmm = prpcOpenApi([{ service: Vmm, path: "/prpc" }]);

test("a method is a POST whose operationId and summary come from the .proto file", () => {
  assert.deepEqual(vmm.paths["/prpc/GetInfo"], {
    post: {
      operationId: "vmm_Vmm_GetInfo",
      tags: ["Vmm"],
      summary: "One VM",
      requestBody: {
        required: true,
        content: { "application/json": { schema: { $ref: "#/components/schemas/vmm.IdInput" } } },
      },
      responses: {
        200: {
          description: "Done",
          content: {
            "application/json": { schema: { $ref: "#/components/schemas/vmm.GetInfoResponse" } },
          },
        },
        400: {
          description: "Refused or failed",
          content: { "application/json": { schema: { $ref: "#/components/schemas/RpcError" } } },
        },
      },
    },
  });
});

test("Empty has no request body and answers null", () => {
  const { post } = vmm.paths["/prpc/ReloadVms"] as { post: Record<string, unknown> };
  assert.equal("requestBody" in post, false);
  const stop = JSON.stringify(vmm.paths["/prpc/StopVm"]);
  assert.match(
    stop,
    /"200":\{"description":"Done","content":\{"application\/json":\{"schema":\{"type":"null"\}/,
  );
});

test("fields have the types of the JSON mapping", () => {
  const { schemas } =
    prpcOpenApi([{ service: KMS, path: "/prpc", methods: ["GetMeta"] }]).components;
  assert.deepEqual(schemas["kms.GetMetaResponse"], {
    type: "object",
    required: [
      "ca_cert",
      "allow_any_upgrade",
      "k256_pubkey",
      "bootstrap_info",
      "is_dev",
      "gateway_app_id",
      "kms_contract_address",
      "chain_id",
      "app_auth_implementation",
    ],
    properties: {
      ca_cert: { type: "string", description: "PEM" },
      allow_any_upgrade: { type: "boolean" },
      k256_pubkey: {
        type: "string",
        format: "hex",
        pattern: "^([0-9a-f]{2})*$",
        description: "33 bytes, compressed",
      },
      bootstrap_info: {
        anyOf: [{ $ref: "#/components/schemas/kms.BootstrapResponse" }, { type: "null" }],
      },
      is_dev: { type: "boolean" },
      gateway_app_id: { anyOf: [{ type: "string" }, { type: "null" }] },
      kms_contract_address: { anyOf: [{ type: "string" }, { type: "null" }] },
      chain_id: { anyOf: [{ type: "integer", format: "uint64", minimum: 0 }, { type: "null" }] },
      app_auth_implementation: { anyOf: [{ type: "string" }, { type: "null" }] },
    },
  });
  assert.deepEqual(Object.keys(schemas).sort(), [
    "RpcError",
    "kms.BootstrapResponse",
    "kms.GetMetaResponse",
  ]);
});

test("every reference in every document resolves", () => {
  const all = prpcOpenApi([
    { service: DstackGuest, path: "/" },
    { service: Gateway, path: "/prpc" },
    { service: GatewayAdmin, path: "/admin" },
    { service: KMS, path: "/kms" },
    { service: Vmm, path: "/vmm" },
  ]);
  const references = JSON.stringify(all).matchAll(/"#\/components\/schemas\/([^"]+)"/g);
  for (const [, name] of references) assert.ok(name! in all.components.schemas, name);
});

test("the field JSON may lack is not required", () => {
  const { schemas } = prpcOpenApi([{ service: DstackGuest, path: "", methods: ["GetQuote"] }])
    .components;
  assert.deepEqual((schemas["dstack_guest.GetQuoteResponse"] as { required: string[] }).required, [
    "quote",
    "event_log",
    "report_data",
    "vm_config",
  ]);
});

test("mergeOpenApi() adds paths and schemas and refuses to replace one", () => {
  const document = {
    openapi: "3.1.0",
    info: { title: "x" },
    paths: { "/v1": {} },
    components: { schemas: { A: {} } },
  };
  const merged = mergeOpenApi(document, vmm, { paths: { "/healthz": {} } });
  assert.deepEqual(Object.keys(merged.paths).slice(0, 2), ["/v1", "/prpc/CreateVm"]);
  assert.ok("/healthz" in merged.paths);
  assert.ok("A" in merged.components.schemas && "vmm.Id" in merged.components.schemas);
  assert.throws(() => mergeOpenApi(document, { paths: { "/v1": { get: {} } } }), TypeError);
});
