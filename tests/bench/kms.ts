import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostCrypto, nodePublicPoint } from "#adapters/crypto.ts";
import { ratlsReportData } from "#core/attestation/report-data.ts";
import { encodeAttestation, stripAttestation } from "#core/attestation/versioned-attestation.ts";
import { toHex } from "#core/bytes/bytes.ts";
import { p256Spki, randomP256Scalar } from "#core/crypto/p256.ts";
import { buildCertificate, selfIssuer } from "#core/ra-tls/certificate-builder.ts";
import { EndorsementCache } from "#core/tdx/endorsement-cache.ts";
import { openKmsDatabase } from "#functions/entries/kms-database.ts";
import { openLogHeadFile } from "#functions/entries/log-head-file.ts";
import { guest, startSurroundings } from "#functions/entries/kms-stack.fixture.ts";
import { createKmsApp } from "#functions/kms/app.ts";
import { createAppraiser } from "#functions/kms/appraiser.ts";
import { fakePorts } from "#functions/kms/fakes.ts";
import { simulatedCvm } from "../simulated-cvm.ts";
import { type BenchResult, median, withoutPeer } from "./result.ts";

const WARM_UP = 50;
const ROUNDS = 201;
const CONCURRENT = 32;
const BURST = 1000;
const TLS_ROUNDS = 51;

/**
 * Key release with collateral and policy cached: the quote is verified, its log replayed, its registers
 * recomputed, keys derived, and the decision committed to a file, synced, before the answer.
 */
export async function run(): Promise<BenchResult[]> {
  return [...await handler(), ...await overRaTls()];
}

async function handler(): Promise<BenchResult[]> {
  const directory = await mkdtemp(join(tmpdir(), "bench-kms-"));
  const heads = await openLogHeadFile(directory);
  const database = await openKmsDatabase(join(directory, "kms.db"), heads);
  try {
    const key = randomP256Scalar();
    const publicKey = p256Spki(key);
    const cvm = simulatedCvm({ stage: "boot", reportData: ratlsReportData(publicKey) });
    const name = { commonName: "RA-TLS TEMP Cert" };
    const peerCertificate = buildCertificate({
      subject: name,
      publicKey,
      issuer: selfIssuer(name, key),
      notAfter: new Date(Date.now() + 3_600_000),
      attestation: encodeAttestation(stripAttestation(cvm.attestation)),
    });
    const now = () => new Date();
    const collateral = cvm.platform.collateral(now());
    const { ports } = await fakePorts({ now, decisions: database.decisions });
    const appraise = createAppraiser({
      now,
      trustAnchors: [cvm.trustAnchor],
      collateralFor: () => Promise.resolve(collateral),
      crypto: hostCrypto,
      endorsements: new EndorsementCache(),
      verifyImage: true,
      registersOf: undefined,
      rootPublicKey: ports.identity.rootCa.publicKey,
    });
    const limits = { ...ports.limits, perApp: ports.limits.perPeer };
    const app = createKmsApp({ ...ports, appraise, limits, publicPointOf: nodePublicPoint });
    const release = async () => {
      const response = await app.request("/prpc/GetAppKey", { method: "POST" }, {
        peerCertificate,
      });
      if (response.status !== 200) throw new Error(await response.text());
      await response.arrayBuffer();
    };
    for (let i = 0; i < WARM_UP; i++) await release();
    const samples: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      const start = performance.now();
      await release();
      samples.push(performance.now() - start);
    }
    const start = performance.now();
    const worker = async () => {
      for (let i = 0; i < BURST / CONCURRENT; i++) await release();
    };
    await Promise.all(Array.from({ length: CONCURRENT }, worker));
    const each = (performance.now() - start) / (Math.floor(BURST / CONCURRENT + 1) * CONCURRENT);
    return [
      withoutPeer("KMS release, one at a time, p50", median(samples)),
      withoutPeer(`KMS release, ${CONCURRENT} at a time, each on one core`, each),
    ];
  } finally {
    database.close();
    await heads.close();
    await rm(directory, { recursive: true });
  }
}

/** A whole conversation of a guest: two TLS connections, temporary CA, evidence, keys. */
async function overRaTls(): Promise<BenchResult[]> {
  const around = await startSurroundings();
  try {
    const cvm = simulatedCvm();
    await around.allow({
      osImages: [toHex(cvm.osImageHash)],
      apps: { [toHex(cvm.appId)]: { composeHashes: [toHex(cvm.composeHash)] } },
    });
    const kms = await around.start({
      limits: { app_per_second: 1e6, app_burst: 1e6, peer_per_second: 1e6, peer_burst: 1e6 },
    });
    try {
      const samples: number[] = [];
      for (let i = -5; i < TLS_ROUNDS; i++) {
        const client = await guest(kms);
        const start = performance.now();
        await client.getAppKey({ apiVersion: 1 });
        if (i >= 0) samples.push(performance.now() - start);
      }
      return [
        withoutPeer(
          "KMS release over a new RA-TLS connection, webhook asked, p50",
          median(samples),
        ),
      ];
    } finally {
      await kms.close();
    }
  } finally {
    await around.close();
  }
}
