import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Listening } from "#adapters/listening.ts";
import { serveUnix } from "#adapters/unix-http.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { decodeAttestation, encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { AppError } from "#core/errors/app-error.ts";
import type { Certificate } from "#core/ra-tls/certificate.ts";
import { requirePeerEvidence } from "#core/ra-tls/peer.ts";
import { DstackGuest } from "#core/rpc/gen/agent_pb.ts";
import { prpcRoutes } from "#core/rpc/server.ts";
import { bootstrapReportData } from "#functions/kms/bootstrap.ts";
import { simulatedCvm, type SimulatedCvmSpec } from "../../tests/simulated-cvm.ts";
import type { KmsService } from "./kms-service.ts";
import { guest, refusal, startSurroundings, stranger } from "./kms-stack.fixture.ts";

/** The KMS runs in a CVM of its own, whose keys come from a local provider. */
const KMS_CVM: SimulatedCvmSpec = {
  appId: new Uint8Array(20).fill(0x4b),
  composeHash: new Uint8Array(32).fill(0x4b),
  keyProvider: { name: "local-sgx", id: "ab".repeat(32) },
};
const kmsCvm = simulatedCvm(KMS_CVM);
const mrAggregated = toHex(appInfoOf(kmsCvm.attestation).mrAggregated);
const IN_CVM = { enforce_self_authorization: true, attest_rpc_cert: true };

let around: Awaited<ReturnType<typeof startSurroundings>>;
let agent: Listening;
let agentSocket: string;

const allowKms = (allowed: string[]) =>
  around.allow({ osImages: [toHex(kmsCvm.osImageHash)], kms: { mrAggregated: allowed } });

before(async () => {
  around = await startSurroundings();
  agentSocket = join(around.directory, "dstack.sock");
  const routes = prpcRoutes(DstackGuest, {
    attest: ({ reportData }) => {
      const { attestation } = simulatedCvm({ ...KMS_CVM, reportData });
      return { attestation: encodeAttestation(attestation) };
    },
    info: () => ({ vmConfig: kmsCvm.attestation.stack.config }),
  }, { context: () => undefined });
  agent = await serveUnix(routes.fetch, { socket: { path: agentSocket } });
});

after(async () => {
  await agent.close();
  await around.close();
});

test("a KMS the auth service does not know makes no keys", async () => {
  await allowKms([]);
  await assert.rejects(around.start(IN_CVM, [agentSocket]), {
    code: "kms/denied",
    message: "KMS is not allowed to bootstrap: boot denied: aggregated MR not allowed",
  });
  assert.equal(around.decisions.at(-1)!.reason, "auth/mr-aggregated-not-allowed");
});

test("an operator bootstraps a KMS over HTTP, and it goes on over HTTPS", async () => {
  await allowKms([mrAggregated]);
  const onboard = { address: "127.0.0.1", port: 0 };
  const starting = around.start({ ...IN_CVM, onboard }, [agentSocket]);
  const address = await waitingAddress();
  const bootstrap = await fetch(`http://${address}/prpc/Onboard.Bootstrap?json`, {
    method: "POST",
    body: JSON.stringify({ domain: "127.0.0.1" }),
  });
  const made = await bootstrap.json();
  assert.equal(bootstrap.status, 200, made.error);
  assert.equal(await (await fetch(`http://${address}/finish`)).text(), "OK");
  const kms = await starting;
  try {
    assert.equal(toHex(kms.identity.rootCa.publicKey), made.ca_pubkey);
    const { bootstrapInfo } = await stranger(kms).getMeta();
    assert.equal(toHex(bootstrapInfo!.k256Pubkey), made.k256_pubkey);
    const verdict = await appraise({
      attestation: decodeAttestation(bootstrapInfo!.attestation),
      collateral: kmsCvm.platform.collateral(new Date()),
      trustAnchors: [kmsCvm.trustAnchor],
      now: new Date(),
      expectedReportData: bootstrapReportData(bootstrapInfo!.caPubkey, bootstrapInfo!.k256Pubkey),
    });
    assert.equal(verdict.outcome, "accepted", verdict.reason?.detail);
  } finally {
    await kms.close();
  }
});

test("its server certificate carries evidence bound to its key", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (kms) => {
    let server: Certificate | undefined;
    const caller = await guest(kms, { onServer: (certificate) => server = certificate });
    await refusal(caller.getAppKey({}));
    const verdict = await appraise({
      ...requirePeerEvidence(server!),
      collateral: kmsCvm.platform.collateral(new Date()),
      trustAnchors: [kmsCvm.trustAnchor],
      now: new Date(),
    });
    assert.equal(verdict.outcome, "accepted", verdict.reason?.detail);
  });
});

test("another KMS of the same kind gets the root keys, one of another kind does not", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (kms) => {
    const peer = await guest(kms, { spec: { ...KMS_CVM, stage: "running" } });
    const { keys, tempCaKey } = await peer.getKmsKey({});
    assert.equal(keys.length, 1);
    assert.deepEqual(keys[0]!.k256Key, kms.identity.k256Key);
    assert.match(tempCaKey, /PRIVATE KEY/);
    const other = await guest(kms, {
      spec: { ...KMS_CVM, composeHash: new Uint8Array(32).fill(1), stage: "running" },
    });
    assert.equal((await refusal(other.getKmsKey({}))).reason, "auth/mr-aggregated-not-allowed");
  });
});

test("a KMS that is no longer allowed gives out nothing, not even its temp CA", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (kms) => {
    const caller = await guest(kms);
    await allowKms([]);
    for (const call of [caller.getAppKey({}), stranger(kms).getTempCaCert()]) {
      const { message } = await refusal(call);
      assert.match(message, /^KMS self authorization failed: KMS is not allowed: aggregated MR/);
    }
  });
});

test("without its agent a KMS that must attest does not start", async () => {
  await assert.rejects(
    around.start(IN_CVM),
    (error) =>
      error instanceof AppError && error.code === "config/invalid" &&
      /guest agent/.test(error.message),
  );
});

async function withKms(use: (kms: KmsService) => Promise<void>): Promise<void> {
  const kms = await around.start(IN_CVM, [agentSocket]);
  try {
    await use(kms);
  } finally {
    await kms.close();
  }
}

/** Where the onboarding server listens, once it says so. */
async function waitingAddress(): Promise<string> {
  for (let i = 0; i < 200; i++) {
    const line = around.lines.find(({ message }) => message.includes("waiting to be bootstrapped"));
    if (line !== undefined) return String(line.facts["address"]);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new TypeError("The onboarding server did not start");
}
