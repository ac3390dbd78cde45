import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Listening } from "#adapters/listening.ts";
import { makeTlsFetch } from "#adapters/tls-fetch.ts";
import { serveUnix } from "#adapters/unix-http.ts";
import { appInfoOf } from "#core/attestation/app-info.ts";
import { appraise } from "#core/attestation/appraise.ts";
import { decodeAttestation, encodeAttestation } from "#core/attestation/versioned-attestation.ts";
import { fromHex, toHex } from "#core/bytes/bytes.ts";
import { k256PublicKey } from "#core/crypto/k256.ts";
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
    for (const call of [() => caller.getAppKey({}), () => stranger(kms).getTempCaCert()]) {
      const { message } = await refusal(call());
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

/** A TCP relay whose connections go to `ports` in turn, the last one for all that follow. */
async function relay(ports: readonly number[]) {
  let accepted = 0;
  const server = createTcpServer((socket) => {
    const port = ports[Math.min(accepted++, ports.length - 1)]!;
    const upstream = connectTcp(port, "127.0.0.1");
    for (const [end, other] of [[socket, upstream], [upstream, socket]] as const) {
      end.on("error", () => {}).on("close", () => other.destroy());
    }
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}

/** Starts a KMS without keys, has `use` call its onboarding server, and ends it. */
async function onboarding(
  name: string,
  use: (
    ask: (
      method: string,
      body?: object,
    ) => Promise<{ status: number; body: Record<string, string> }>,
  ) => Promise<void>,
): Promise<KmsService | Error> {
  around.lines.length = 0;
  const starting = around.start({
    ...IN_CVM,
    cert_dir: join(around.directory, name),
    onboard: { address: "127.0.0.1", port: 0 },
    site_name: "rack 7",
  }, [agentSocket]).catch((error) => error as Error);
  const address = await waitingAddress();
  try {
    await use(async (method, body = {}) => {
      const response = await fetch(`http://${address}/prpc/Onboard.${method}?json`, {
        method: "POST",
        body: JSON.stringify(body),
      });
      return { status: response.status, body: await response.json() };
    });
  } finally {
    await (await fetch(`http://${address}/finish`)).text();
  }
  return await starting;
}

test("a second KMS takes the root keys over from the first and gives the same answers", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (source) => {
    const second = await onboarding("second", async (ask) => {
      const info = await ask("GetAttestationInfo");
      assert.equal(info.body["mr_aggregated"], mrAggregated);
      assert.equal(info.body["site_name"], "rack 7");
      assert.equal(info.body["tee_variant"], "dstack-tdx");
      assert.equal(info.body["os_image_hash"], toHex(kmsCvm.osImageHash));
      assert.equal(toHex(sha256(fromHex(info.body["ppid"]!))), info.body["device_id"]);
      const { status, body } = await ask("Onboard", {
        source_url: `https://127.0.0.1:${source.port}/`,
        domain: "127.0.0.1",
      });
      assert.equal(status, 200, body["error"]);
      assert.equal(body["k256_pubkey"], toHex(k256PublicKey(source.identity.k256Key)));
      const again = await ask("Onboard", { source_url: "https://127.0.0.1:1", domain: "a" });
      assert.deepEqual(again.body, { error: "KMS has already been onboarded" });
      const bootstrap = await ask("Bootstrap", { domain: "a" });
      assert.deepEqual(bootstrap.body, { error: "KMS has already been bootstrapped" });
    });
    assert.ok(!(second instanceof Error), String(second));
    try {
      assert.deepEqual(second.identity.caKey, source.identity.caKey);
      assert.deepEqual(second.identity.k256Key, source.identity.k256Key);
      assert.deepEqual(second.identity.tempCaKey, source.identity.tempCaKey);
      assert.notDeepEqual(second.identity.rpcKey, source.identity.rpcKey);
      const [theirs, ours] = await Promise.all(
        [source, second].map((kms) => stranger(kms).getMeta()),
      );
      assert.deepEqual(ours!.bootstrapInfo, theirs!.bootstrapInfo);
    } finally {
      await second.close();
    }
  });
});

test("a rotated key is everywhere after each KMS fetched it", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (first) => {
    const admin = async (kms: KmsService, path: string, body?: object) => {
      const response = await fetch(`http://127.0.0.1:${kms.adminPort}${path}`, {
        method: "POST",
        headers: { authorization: "Bearer operator", "content-type": "application/json" },
        ...body !== undefined && { body: JSON.stringify(body) },
      });
      return { status: response.status, body: await response.json() };
    };
    const plain = makeTlsFetch({ verify: "none", checkHostname: false });
    const manifest = async (kms: KmsService) => {
      const init = { method: "GET", headers: {} };
      const response = await plain(`https://127.0.0.1:${kms.port}/v1/epochs`, init);
      return { status: response.status, body: await response.json() };
    };
    const second = await around.start({
      ...IN_CVM,
      cert_dir: join(around.directory, "second"),
    }, [agentSocket]);
    const third = { ...IN_CVM, cert_dir: join(around.directory, "third") };
    const source_url = `https://127.0.0.1:${first.port}`;
    try {
      const rotated = await admin(first, "/v1/epochs");
      assert.equal(rotated.status, 200, rotated.body.detail);
      assert.equal(rotated.body.epochs.length, 2);
      const behind = await manifest(second);
      assert.deepEqual([behind.status, behind.body.reason], [503, "kms/epoch-missing"]);
      const fetched = await admin(second, "/v1/epochs/fetch", { source_url });
      assert.equal(fetched.status, 200, fetched.body.detail);
      assert.deepEqual((await manifest(second)).body.epochs, rotated.body.epochs);
      const onboarded = await onboarding("third", async (ask) => {
        const { status, body } = await ask("Onboard", { source_url, domain: "127.0.0.1" });
        assert.equal(status, 200, body["error"]);
      });
      assert.ok(!(onboarded instanceof Error), String(onboarded));
      assert.deepEqual((await manifest(onboarded)).body.epochs, rotated.body.epochs);
      await onboarded.close();
      const again = await around.start(third, [agentSocket]);
      assert.deepEqual((await manifest(again)).body.epochs, rotated.body.epochs);
      await again.close();
      await allowKms([]);
      const refused = await admin(second, "/v1/epochs/fetch", { source_url });
      assert.equal(refused.body.reason, "auth/mr-aggregated-not-allowed");
    } finally {
      await second.close();
    }
  });
});

test("a source that is not allowed, attested or steady gives no keys", async () => {
  await allowKms([mrAggregated]);
  await withKms(async (source) => {
    const other = await around.start({
      ...IN_CVM,
      cert_dir: join(around.directory, "other"),
      database: join(around.directory, "other.db"),
    }, [agentSocket]);
    const plain = await around.start({
      cert_dir: join(around.directory, "plain"),
      database: join(around.directory, "plain.db"),
    });
    const switching = await relay([source.port, other.port]);
    const onboard = (port: number | string, domain = "127.0.0.1") => ({
      source_url: typeof port === "string" ? port : `https://127.0.0.1:${port}`,
      domain,
    });
    const ended = await onboarding("fourth", async (ask) => {
      const refused = async (request: object) => (await ask("Onboard", request)).body["error"]!;
      assert.match(await refused(onboard(plain.port)), /attestation extension missing$/);
      assert.equal(
        await refused(onboard(switching.url)),
        "The source changed its key while it was asked",
      );
      assert.match(await refused(onboard("http://127.0.0.1:1")), /^Invalid source_url/);
      assert.match(await refused(onboard(source.port, "-a")), /^Invalid domain/);
      await allowKms([]);
      assert.equal(
        await refused(onboard(source.port)),
        "Failed to onboard: Source KMS is not allowed for onboarding: Boot denied: aggregated MR not allowed",
      );
    });
    assert.ok(ended instanceof AppError && ended.message === "Failed to onboard", String(ended));
    assert.deepEqual(await readdir(join(around.directory, "fourth")), [
      "release-log-head",
    ]);
    await Promise.all([other.close(), plain.close(), switching.close()]);
  });
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
