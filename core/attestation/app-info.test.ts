import assert from "node:assert/strict";
import { sha256 } from "@noble/hashes/sha2.js";
import { vectorBytes, vectorTest, vectorText } from "../../tests/vectors.ts";
import { concatBytes, fromHex, fromUtf8, toHex } from "../bytes/bytes.ts";
import { parseSnpReport } from "../sev-snp/report.ts";
import { appInfoOf } from "./app-info.ts";
import { decodeAttestation } from "./versioned-attestation.ts";

// The hash of no bytes: nobody verified the machine.
const UNKNOWN_DEVICE = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

vectorTest("an enclave is its image, whatever its log says", () => {
  const attestation = decodeAttestation(vectorBytes("dstack/nitro_attestation.bin"));
  const info = appInfoOf(attestation);
  // spec attestation.md 9.3
  const image = "1894b0b29e94a9db16e88a2914f0923e52bb16c08bf3bb484df786a147e2eb79";
  const members = [info.mrSystem, info.mrAggregated, info.osImageHash, info.composeHash];
  assert.deepEqual(members.map(toHex), Array(4).fill(image));
  assert.equal(toHex(info.deviceId), UNKNOWN_DEVICE);
  assert.equal(toHex(info.appId), toHex(attestation.stack.runtimeEvents[0]!.payload));
});

vectorTest("an SEV-SNP guest is what its launch configuration says", () => {
  const { attestation: hex } = JSON.parse(vectorText("dstack/sev-snp-attestation.json")) as {
    attestation: string;
  };
  const attestation = decodeAttestation(fromHex(hex));
  const { platform } = attestation;
  assert.ok(platform.kind === "sev-snp");
  const { measurement, hostData, chipId } = parseSnpReport(platform.report);
  const config = JSON.parse(platform.mrConfig) as Record<string, string>;
  const info = appInfoOf(attestation);
  assert.equal(toHex(info.appId), config["app_id"]);
  assert.equal(toHex(info.composeHash), config["compose_hash"]);
  assert.equal(toHex(info.instanceId), config["instance_id"]);
  assert.equal(toHex(info.deviceId), UNKNOWN_DEVICE);
  assert.equal(toHex(info.mrSystem), toHex(sha256(measurement)));
  assert.equal(toHex(info.mrAggregated), toHex(sha256(concatBytes(measurement, hostData))));
  assert.equal(
    fromUtf8(info.keyProviderInfo),
    `{"name":"kms","id":"${config["key_provider_id"]}"}`,
  );
  assert.deepEqual(info.initScriptHashes, []);
  assert.equal(appInfoOf(attestation, { bootTime: true }).keyProviderInfo.length, 0);
  const known = appInfoOf(attestation, { rawDeviceId: chipId });
  assert.equal(toHex(known.deviceId), toHex(sha256(chipId)));
});
