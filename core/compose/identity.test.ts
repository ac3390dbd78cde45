import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../bytes/bytes.ts";
import { canonicalJson, type JsonValue } from "../encoding/jcs.ts";
import { AppError } from "../errors/app-error.ts";
import { composeHash, defaultAppId, instanceId } from "./identity.ts";

// spec/vmm.md 4.3
test("the app id of an empty compose is the start of its hash", () => {
  assert.equal(
    toHex(defaultAppId(composeHash(utf8("{}")))),
    "44136fa355b3678a1146ad16f7e8649e94fb4fc2",
  );
});

test("the instance id hashes seed and app id", () => {
  const id = instanceId(new Uint8Array(20).fill(0x4b), new Uint8Array(20).fill(0x11));
  assert.equal(toHex(id), "0abff47951d7c6ac7799805128381a34d812fad4");
});

test("a seed or app id of another length is refused", () => {
  const short = new Uint8Array(19);
  const good = new Uint8Array(20);
  assert.throws(() => instanceId(short, good), AppError);
  assert.throws(() => instanceId(good, short), /app id must be 20 bytes/);
});

test("a compose made by the SDKs hashes to what they say", () => {
  // kms.md 11.2: members sorted, no white space, SHA-256
  const nested = { gamma: 3.14, alpha: "first" };
  const documents: [JsonValue, string][] = [
    [{
      runner: "docker-compose",
      docker_compose_file: "docker-compose.yml",
      text: "你好世界",
      id: "c73a3a4e-ce71-4c12-a1b7-78be1a2e48e0",
      b_number: 123,
      a_status: true,
      z_items: [3, 1, 2],
      nested,
    }, "0705386656362891629ac994406f4e31ba5c805b9638538df415c56768a504f4"],
    [{
      runner: "docker-compose",
      docker_compose_file: "docker-compose.yml",
      manifest_version: 1,
      name: "test-app",
      public_logs: true,
      kms_enabled: false,
      allowed_envs: ["NODE_ENV"],
    }, "551c5fc76bfeecfafc5e70ad1f5b0656ac3c2906bf4172371d956e0e70739a0b"],
  ];
  for (const [document, hash] of documents) {
    assert.equal(toHex(composeHash(utf8(canonicalJson(document)))), hash);
  }
});
