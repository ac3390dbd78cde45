import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { fromHex, toHex } from "../bytes/bytes.ts";
import { GetQuoteResponseSchema, GetTlsKeyArgsSchema, SignResponseSchema } from "./gen/agent_pb.ts";
import {
  GlobalConnectionsStatsSchema,
  RegisterCvmRequestSchema,
  RegisterCvmResponseSchema,
} from "./gen/gateway_pb.ts";
import { AppIdSchema, GetMetaResponseSchema, PublicKeyResponseSchema } from "./gen/kms_pb.ts";
import { SystemInfoSchema } from "./gen/guest_api_pb.ts";
import { VmConfigurationSchema } from "./gen/vmm_pb.ts";
import { decodeJson, encodeJson, escapeNonAscii } from "./json.ts";

const LIMIT = 1 << 20;

test("RegisterCvm is written as the gateway specification samples it", () => {
  const response = create(RegisterCvmResponseSchema, {
    wg: { clientIp: "10.8.0.2", servers: [{ pk: "b64", ip: "10.8.0.1/16", endpoint: "h:9202" }] },
    agent: {
      externalPort: 443,
      internalPort: 8090,
      domain: "example.com",
      appAddressNsPrefix: "_dstack-app-address",
    },
    gateways: [{
      id: 1,
      uuid: fromHex("00112233445566778899aabbccddeeff"),
      url: "https://gateway.example.com:9202",
      lastSeen: 1773884104n,
      wgPublicKey: "b64",
      wgIp: "10.8.0.1/16",
      wgEndpoint: "203.0.113.5:9202",
    }],
  });
  assert.equal(
    encodeJson(RegisterCvmResponseSchema, response),
    '{"wg":{"client_ip":"10.8.0.2","servers":[{"pk":"b64","ip":"10.8.0.1/16","endpoint":"h:9202"}]},' +
      '"agent":{"external_port":443,"internal_port":8090,"domain":"example.com","app_address_ns_prefix":"_dstack-app-address"},' +
      '"gateways":[{"id":1,"uuid":"00112233445566778899aabbccddeeff","url":"https://gateway.example.com:9202","last_seen":1773884104,"wg_public_key":"b64","wg_ip":"10.8.0.1/16","wg_endpoint":"203.0.113.5:9202"}]}',
  );
});

test("absent optional and message fields are null, the other defaults are written", () => {
  assert.equal(
    encodeJson(GetMetaResponseSchema, create(GetMetaResponseSchema, { chainId: 0n })),
    '{"ca_cert":"","allow_any_upgrade":false,"k256_pubkey":"","bootstrap_info":null,"is_dev":false,' +
      '"gateway_app_id":null,"kms_contract_address":null,"chain_id":0,"app_auth_implementation":null}',
  );
  assert.equal(
    encodeJson(RegisterCvmResponseSchema, create(RegisterCvmResponseSchema)),
    '{"wg":null,"agent":null,"gateways":[]}',
  );
});

test("GetQuoteResponse.attestation is left out when empty and only then", () => {
  const quote = (attestation: Uint8Array) =>
    encodeJson(GetQuoteResponseSchema, create(GetQuoteResponseSchema, { attestation }));
  assert.equal(
    quote(new Uint8Array()),
    '{"quote":"","event_log":"","report_data":"","vm_config":""}',
  );
  assert.match(quote(Uint8Array.of(0xab)), /,"attestation":"ab"\}$/);
});

test("64-bit integers are numbers and keep every digit", () => {
  const max = create(PublicKeyResponseSchema, { timestamp: 2n ** 64n - 1n });
  const json = encodeJson(PublicKeyResponseSchema, max);
  assert.equal(
    json,
    '{"public_key":"","signature":"","timestamp":18446744073709551615,"signature_v1":""}',
  );
  assert.equal(decodeJson(PublicKeyResponseSchema, json, LIMIT).timestamp, 2n ** 64n - 1n);
});

test("maps have text keys", () => {
  const stats = create(GlobalConnectionsStatsSchema, {
    totalConnections: 3n,
    nodeConnections: { 1: 1n, 7: 2n },
  });
  const json = encodeJson(GlobalConnectionsStatsSchema, stats);
  assert.equal(json, '{"total_connections":3,"node_connections":{"1":1,"7":2}}');
  assert.deepEqual(decodeJson(GlobalConnectionsStatsSchema, json, LIMIT), stats);
});

test("repeated bytes are an array of hex", () => {
  const sign = create(SignResponseSchema, {
    signatureChain: [Uint8Array.of(1), Uint8Array.of(2, 3)],
  });
  assert.equal(
    encodeJson(SignResponseSchema, sign),
    '{"signature":"","signature_chain":["01","0203"],"public_key":""}',
  );
});

test("input may omit, null or add members, and prefix hex with 0x", () => {
  for (const body of ['{"app_id":"0xABcd"}', '{"app_id":"abcd","more":[{"a":1}]}']) {
    assert.equal(toHex(decodeJson(AppIdSchema, body, LIMIT).appId), "abcd");
  }
  for (const body of ["", "{}", "null", '{"app_id":null}']) {
    assert.equal(decodeJson(AppIdSchema, body, LIMIT).appId.length, 0);
  }
  // The Python CLI of the reference sends these two.
  const vm = decodeJson(VmConfigurationSchema, '{"swap_size":0,"app_id":null,"vcpu":2}', LIMIT);
  assert.equal(vm.appId, undefined);
  assert.equal(vm.vcpu, 2);
  const tls = decodeJson(GetTlsKeyArgsSchema, '{"alt_names":["a"],"not_before":1}', LIMIT);
  assert.deepEqual([tls.altNames, tls.notBefore, tls.notAfter], [["a"], 1n, undefined]);
});

for (
  const [what, body] of [
    ["hex of odd length", '{"app_id":"abc"}'],
    ["bytes that are not text", '{"app_id":[1]}'],
    ["a repeated member", '{"app_id":"ab","app_id":"cd"}'],
    ["an array for a message", "[]"],
    ["text that is not JSON", "app_id=ab"],
  ] as const
) {
  test(`decodeJson() refuses ${what}`, () => {
    assert.throws(() => decodeJson(AppIdSchema, body, LIMIT), { code: "input/malformed" });
  });
}

test("decodeJson() names the field and refuses what its type cannot hold", () => {
  for (const value of ["-1", "4294967296", "1.5", "true", '"x"']) {
    const body = `{"port_policy":{"ports":[{"port":1},{"port":${value}}]}}`;
    assert.throws(() => decodeJson(RegisterCvmRequestSchema, body, LIMIT), {
      code: "input/malformed",
      message:
        /^Cannot parse gateway\.RegisterCvmRequest\.port_policy\.ports\[1\]\.port: is (not an integer|out of range)$/,
    });
  }
  assert.throws(() => decodeJson(RegisterCvmRequestSchema, '{"client_public_key":1}', LIMIT), {
    message: "Cannot parse gateway.RegisterCvmRequest.client_public_key: is not a string",
  });
});

test("escapeNonAscii() leaves the value the same", () => {
  const text = JSON.stringify({ "ключ": "naïve 😀" });
  assert.match(escapeNonAscii(text), /^[\x20-\x7e]+$/);
  assert.deepEqual(JSON.parse(escapeNonAscii(text)), JSON.parse(text));
});

test("field numbers are those of the reference", () => {
  // vm_port=3 in PortMapping(7), app_id=9, simulated_tee=21: tag bytes written by hand
  const bytes = fromHex("3a021805" + "4a0161" + "aa010178");
  const vm = fromBinary(VmConfigurationSchema, bytes);
  assert.equal(vm.ports[0]!.vmPort, 5);
  assert.equal(vm.appId, "a");
  assert.equal(vm.simulatedTee, "x");
  const system = create(SystemInfoSchema, { loadavgFifteen: 1, disks: [{ freeSize: 2n }] });
  assert.equal(toHex(toBinary(SystemInfoSchema, system)), "8001018a01022802");
});
